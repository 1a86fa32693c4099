#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Render ``recordings/room``: a furnished room with exact depth, normals and labels.

Needs, beside this repository (none of it is needed to use the recording):
  pip install mitsuba==3.9.* pyoidn numpy opencv-python-headless "rosbags==0.11.*"
  apt-get install libllvm19
  apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture_*.deb furniture
Run:
  DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM-19.so \\
    python recordings/render_room.py --furniture furniture/usr/share/sweethome3d/furniture
Stops and goes on: finished views and frames are kept in --work and not rendered again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from room_scene import camera


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent
    parser.add_argument("--furniture", type=Path, required=True, help="folder of the .sh3f files")
    parser.add_argument("--work", type=Path, default=Path("room_work"), help="kept between runs")
    parser.add_argument("--output", type=Path, default=here / "room", help="the recording's folder")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rate", type=float, default=12.0, help="frames per second")
    parser.add_argument("--views", type=int, default=6, help="views that carry the light")
    parser.add_argument("--samples", type=int, default=10, help="light paths per pixel of a view")
    parser.add_argument("--pitch", type=float, default=4.0, help="camera downwards, degrees")
    parser.add_argument("--sway", type=float, default=1.0, help="motion of the hand, 0 for none")
    parser.add_argument("--quality", type=int, default=80, help="of the jpeg colour images")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def render(args: argparse.Namespace) -> None:
    """Views of the light first, then every frame, each into a file of its own."""
    import drjit as dr

    dr.set_thread_count(args.threads)
    cv2.setNumThreads(args.threads)
    from room_scene import credits, furniture, layout, light
    from room_scene.renderer import Room

    frames = [args.work / f"frame_{i:03d}.npz" for i in range(args.frames)]
    if all(path.exists() for path in (*frames, args.work / "CREDITS.md")):
        return
    parts, models = layout.build(args.furniture, furniture.items())
    credits.write(models, args.work / "CREDITS.md")
    room = Room(parts, args.work / "parts")
    views = []
    for i in range(args.views):
        # Steadier than the way itself, and looking down a little more.
        place = camera.pose(i * 100 // max(args.views - 1, 1), 101, 6.0, 0.0)
        path = args.work / f"view_{i}.npz"
        shine = light.view_light(room, place, args.samples, args.seed + i, path)
        views.append(light.view(room, place, shine))
        print(f"view {i + 1} of {args.views}", flush=True)
    fine, centres = camera.rays(2), camera.rays(1)
    height, width = camera.IMAGE_HEIGHT, camera.IMAGE_WIDTH
    shape = (height, width, 3)
    for i, path in enumerate(frames):
        if path.exists():
            continue
        pose = camera.pose(i, args.frames, args.pitch, args.sway)
        hits = room.trace(pose, fine)
        shine = light.gather(views, hits, pose, height * 2, width * 2).reshape(-1, 3)
        color = np.where(hits.emission > 0, hits.emission, shine * hits.albedo)
        # Clip before averaging, as each sensor cell does: edges of lights stay smooth.
        color = np.minimum(color, 8.0).reshape(height, 2, width, 2, 3).mean((1, 3))
        exact = room.trace(pose, centres)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, color=color.astype(np.float16),
                     depth=np.round(exact.depth * 1000).astype(np.uint16).reshape(height, width),
                     normals=np.round(exact.normals * 127).astype(np.int8).reshape(shape),
                     labels=exact.labels.reshape(height, width))  # fmt: skip
        temporary.replace(path)
        print(f"frame {i + 1} of {args.frames}", flush=True)


def main() -> int:
    args = arguments()
    if not args.furniture.is_dir():
        print(f"{args.furniture}: no such folder; see --help for where the models come from",
              file=sys.stderr)  # fmt: skip
        return 2
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        print("set DRJIT_LIBLLVM_PATH to the LLVM 19 library; see --help", file=sys.stderr)
        return 2
    args.work.mkdir(parents=True, exist_ok=True)
    render(args)
    from room_scene import recording

    size = recording.write(args)
    print(f"{args.output}: {args.frames} frames, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
