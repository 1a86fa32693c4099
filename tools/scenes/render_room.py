#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Render ``recordings/room``: a furnished room with exact depth, normals and labels.

Needs what ``render_rooms.py`` needs, but for textures and panoramas, and "rosbags==0.11.*". Run:
  DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1 \\
    python -m tools.scenes.render_room --furniture furniture/usr/share/sweethome3d/furniture
Stops and goes on: finished frames are kept in --work. The recording that ships was lit by an
earlier version: another rendering of its colours, the same depth, normals and labels.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

HEAD = Path(__file__).parent / "room" / "credits.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--furniture", type=Path, required=True, help="folder of the .sh3f files")
    parser.add_argument("--work", type=Path, default=Path("room_work"), help="kept between runs")
    parser.add_argument("--output", type=Path, default=here / "recordings" / "room")
    parser.add_argument("--frames", type=int, default=60)
    return parser.parse_args()


def render(args: argparse.Namespace) -> None:
    """Render every frame into a file of its own."""
    import drjit as dr

    from . import credits
    from .renderer import Room
    from .room import layout, way

    dr.set_thread_count(1)
    parts, models = layout.build(args.furniture)
    credits.write(models, args.work / "CREDITS.md", HEAD.read_text(encoding="utf-8"))
    room = Room(parts)
    camera = way.CAMERA
    shape = (camera.height, camera.width)
    for i in range(args.frames):
        path = args.work / f"frame_{i:03d}.npz"
        if path.exists():
            continue
        pose = way.pose(i, args.frames)
        color = room.photograph(pose, camera, 3, i)
        exact = room.trace(pose, camera.rays())
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, color=color.astype(np.float16),
                     depth=np.round(exact.depth * 1000).astype(np.uint16).reshape(shape),
                     normals=np.round(exact.normals * 127).astype(np.int8).reshape(*shape, 3),
                     labels=exact.labels.reshape(shape))  # fmt: skip
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
    from .room import recording

    size = recording.write(args)
    print(f"{args.output}: {args.frames} frames, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
