#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Render `rooms`, frames of random rooms to learn from, or `room`, the recording that ships.

  python -m tools.scenes.render rooms --output rooms --chunks 10
  python -m tools.scenes.render room --output recordings/room

tools/scenes/README.md says what they need. Stopped, either command goes on where it was.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path

import numpy as np

FRAMES, SCENES, VIEWS = 1000, 1000, 10  # frames in a chunk, seeds kept for it, frames of a scene
WIDTH, HEIGHT = 256, 192


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
            kind = mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, False
            out.append(np.array(mi.Bitmap(stream).convert(*kind)))
    return out


def render_scene(furniture: Path, chunk, seed: int):
    """Render the views of one scene into ``chunk``; returns its record and its models."""
    from . import camera as cameras
    from . import rooms, scene
    from .dataset import SceneRecord
    from .renderer import Room

    plans = rooms.draw(seed)
    parts, light, models = scene.build(plans, furniture, seed)
    room, kind = Room(parts, light.sun), plans[0].kind
    rng, views, tries = np.random.default_rng((seed, 23)), [], 0
    while len(views) < VIEWS and tries < 25 * VIEWS:
        tries += 1
        camera, pose = cameras.pinhole(rng, WIDTH, HEIGHT), cameras.pose(rng, plans[0])
        hits = None if pose is None else room.trace(pose, camera.rays())
        if hits is not None and cameras.worth(hits, rng):
            views.append((camera, pose, hits))
    if len(views) < VIEWS:
        return SceneRecord(seed, kind, 0, f"{len(views)} good views in {tries} tries"), []
    for i, (camera, pose, hits) in enumerate(views):
        color = room.photograph(pose, camera, 2, seed * 100 + i)
        own = np.random.default_rng((seed, 24, i))
        picture = cameras.develop(color, cameras.lens(color, own), own)
        chunk.write_frame(seed, i, picture, hits, camera)
    names = sorted({f"{m.library}/{m.name}" for m in models})
    return SceneRecord(seed, kind, VIEWS, "ok", " ".join(names)), models


def render_chunk(furniture: Path, folder: Path, number: int) -> None:
    from tqdm import tqdm

    from .dataset import Chunk, SceneRecord
    from .models import load_model

    chunk = Chunk(folder)
    used = {name for record in chunk.scenes for name in record.models.split()}
    models = [load_model(furniture, *name.split("/")) for name in sorted(used)]
    done = {record.seed for record in chunk.scenes}
    seeds = (s for s in range(number * SCENES + 1, (number + 1) * SCENES) if s not in done)
    with tqdm(desc=folder.name, total=FRAMES, initial=chunk.frames, unit="frame") as bar:
        while chunk.frames < FRAMES:
            seed = next(seeds)
            try:
                record, more = render_scene(furniture, chunk, seed)
            except (ValueError, IndexError, KeyError, AssertionError) as error:
                record, more = SceneRecord(seed, "-", 0, f"{type(error).__name__}: {error}"), []
            models += more
            chunk.finish_scene(record, models)
            bar.set_postfix_str(f"{sum(r.frames == 0 for r in chunk.scenes)} scenes skipped")
            bar.update(record.frames)


def main() -> None:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("what", choices=("rooms", "room"))
    furniture = "furniture/usr/share/sweethome3d/furniture"
    parser.add_argument("--furniture", type=Path, default=furniture, help="folder of .sh3f files")
    parser.add_argument("--textures", type=Path, default="miniworld/textures")
    parser.add_argument("--panoramas", type=Path, default="package/hdri")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first chunk")
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    needed = (args.furniture, args.textures, args.panoramas)[: 1 if args.what == "room" else 3]
    if missing := [path for path in needed if not path.is_dir()]:
        sys.exit(f"{missing[0]}: no such folder; tools/scenes/README.md says where it comes from")
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        sys.exit("set DRJIT_LIBLLVM_PATH to the LLVM 19 library, see tools/scenes/README.md")
    import cv2
    import drjit as dr

    from . import skins

    skies = panoramas(args.panoramas) if args.what == "rooms" else []
    # Not before: Mitsuba reads EXR files with its threads, and one waits for itself.
    dr.set_thread_count(args.threads)
    cv2.setNumThreads(args.threads)
    if args.what == "room":
        from . import room

        room.render(args.furniture, args.output)
        return
    skins.FOLDER.append(args.textures)
    skins.SKIES.extend(skies)
    for number in range(args.first, args.first + args.chunks):
        render_chunk(args.furniture, args.output / f"chunk_{number:03d}", number)


if __name__ == "__main__":
    main()
