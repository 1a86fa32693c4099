#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Render frames of random rooms: colour, exact depth, normals and 14 classes.

Needs, beside this repository:
  pip install "mitsuba==3.9.*" pyoidn trimesh scipy pillow numpy opencv-python-headless tqdm
  apt-get install libllvm19
  apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture_*.deb furniture
  pip download --no-deps miniworld && unzip miniworld-*.whl 'miniworld/textures/*'
  npm pack @pmndrs/assets && tar xzf pmndrs-assets-*.tgz
Run:
  DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1 \\
    python -m tools.scenes.render_rooms --furniture furniture/usr/share/sweethome3d/furniture \\
      --textures miniworld/textures --panoramas package/hdri --output rooms --chunks 10
Each chunk is a data set of the kind `folder` of 1,000 frames, with its credits. Stopped, the same
command goes on. Frames depend on the seed alone, and never show what recordings/room shows.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path

import numpy as np

FRAMES, SCENES = 1000, 1000  # frames in a chunk, and seeds kept for it
WIDTH, HEIGHT = 256, 192
CREDITS = """\
# Rendered rooms: content and credits

Renderings of random rooms by `tools/scenes/render_rooms.py`: no photograph, no real place, no
person. Textures are procedural or from the package miniworld (Apache-2.0); what is seen through
windows is procedural or from the package @pmndrs/assets (CC0). The models below come from the
Sweet Home 3D furniture libraries 1.8 as packaged by Debian (`sweethome3d-furniture`), where the
Blend Swap models were cleaned and converted by Emmanuel Puybaret / eTeks. All were changed: scaled,
placed, lit, recoloured. Their authors endorse neither this project nor its use. Whoever passes the
frames on keeps these credits, which the terms of the CC BY models ask for.

"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--furniture", type=Path, required=True, help="folder of the .sh3f files")
    parser.add_argument("--textures", type=Path, required=True, help="folder of miniworld's images")
    parser.add_argument("--panoramas", type=Path, required=True, help="folder of the .exr.js files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the chunks")
    parser.add_argument("--first", type=int, default=0, help="number of the first chunk")
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--views", type=int, default=10, help="frames of a scene")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def panoramas(folder: Path) -> list[np.ndarray]:
    """The sky images, linear float32 [H,W,3]."""
    import mitsuba as mi

    out = []
    for path in sorted(folder.glob("*.exr.js")):
        match = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text(encoding="utf-8"))
        if match:
            stream = mi.MemoryStream()
            stream.write(base64.b64decode(match[1]))
            stream.seek(0)
            bitmap = mi.Bitmap(stream).convert(
                mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, False
            )
            out.append(np.array(bitmap))
    return out


def render_scene(args: argparse.Namespace, chunk, seed: int):  # type: ignore[no-untyped-def]
    """Render the views of one scene into ``chunk``; returns its record and its models."""
    from . import photo, rooms, scene, viewpoints
    from .dataset import SceneRecord
    from .renderer import Room

    plans = rooms.draw(seed)
    parts, light, models = scene.build(plans, args.furniture, seed)
    room = Room(parts, light.sun)
    rng = np.random.default_rng((seed, 23))
    views, tries = [], 0
    while len(views) < args.views and tries < 25 * args.views:
        tries += 1
        camera, pose = viewpoints.pinhole(rng, WIDTH, HEIGHT), viewpoints.pose(rng, plans[0])
        if pose is None:
            continue
        hits = room.trace(pose, camera.rays())
        if viewpoints.worth(hits, rng):
            views.append((camera, pose, hits))
    kind = plans[0].kind
    if len(views) < args.views:
        return SceneRecord(seed, kind, 0, f"{len(views)} good views in {tries} tries"), []
    for i, (camera, pose, hits) in enumerate(views):
        color = room.photograph(pose, camera, 2, seed * 100 + i)
        own = np.random.default_rng((seed, 24, i))
        picture = photo.develop(color, photo.draw(color, own), own)
        chunk.write_frame(seed, i, picture, hits, camera)
    names = sorted({f"{m.library}/{m.name}" for m in models})
    return SceneRecord(seed, kind, len(views), "ok", " ".join(names)), models


def render(args: argparse.Namespace) -> None:
    import cv2
    import drjit as dr
    from tqdm import tqdm

    from . import credits, scene, skins
    from .dataset import Chunk, SceneRecord

    skins.FOLDER.append(args.textures)
    skins.SKIES.extend(panoramas(args.panoramas))
    # Not before: Mitsuba reads EXR files with its threads, and one waits for itself.
    dr.set_thread_count(args.threads)
    cv2.setNumThreads(args.threads)
    for number in range(args.first, args.first + args.chunks):
        chunk = Chunk(args.output / f"chunk_{number:03d}")
        used = {name for record in chunk.scenes for name in record.models.split()}
        models = [scene.model(args.furniture, *name.split("/")) for name in sorted(used)]
        done = {record.seed for record in chunk.scenes}
        seeds = (s for s in range(number * SCENES + 1, (number + 1) * SCENES) if s not in done)
        with tqdm(desc=chunk.root.name, total=FRAMES, initial=chunk.frames, unit="frame") as bar:
            while chunk.frames < FRAMES:
                seed = next(seeds)
                try:
                    record, more = render_scene(args, chunk, seed)
                except (ValueError, IndexError, KeyError, AssertionError) as error:
                    record, more = SceneRecord(seed, "-", 0, f"{type(error).__name__}: {error}"), []
                models += more
                chunk.finish_scene(record)
                credits.write(models, chunk.root / "CREDITS.md", CREDITS)
                bar.set_postfix_str(f"{sum(r.frames == 0 for r in chunk.scenes)} scenes skipped")
                bar.update(record.frames)


def main() -> int:
    args = arguments()
    for path in (args.furniture, args.textures, args.panoramas):
        if not path.is_dir():
            print(f"{path}: no such folder; see --help for where it comes from", file=sys.stderr)
            return 2
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        print("set DRJIT_LIBLLVM_PATH to the LLVM 19 library; see --help", file=sys.stderr)
        return 2
    render(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
