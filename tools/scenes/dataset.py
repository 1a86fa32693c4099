# SPDX-License-Identifier: Apache-2.0
"""Rendered frames in the project's ``folder`` form, in chunks that are complete data sets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from proto_mtl_ros.data.camera_file import camera_json
from proto_mtl_ros.data.map_file import write_depth, write_image, write_normals, write_segmentation
from proto_mtl_ros.data.table import write_splits
from proto_mtl_ros.files import write_text
from proto_mtl_ros.geometry import Camera

from .camera import Hits, Pinhole
from .models import Model
from .parts import CLASSES, rows

VAL_EVERY = 10
"""Every tenth scene is for validation: frames of one room are never in both splits."""
LIBRARIES = {row["library"]: row for row in rows("libraries.csv")}
"""Terms and authors; where no author stands, each model has its own."""
NOTES = {
    "tvStand": "; its wood texture by Emmanuel Puybaret / eTeks",
    "radiator": " (Knyghtfall13x in its licence file)",
}
CREDITS = Path(__file__).with_name("rooms_credits.md")


class SceneRecord(NamedTuple):
    """A line of ``scenes.csv``: a scene that was drawn, and what came of it."""

    seed: int
    kind: str
    frames: int
    outcome: str  # ok, or why there are no frames
    models: str = ""  # library/name, separated by blanks


class Chunk:
    """A folder of frames. A scene counts once its line stands in ``scenes.csv``; frames of a scene
    that was interrupted are written again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scenes: list[SceneRecord] = []
        if (root / "scenes.csv").exists():
            with (root / "scenes.csv").open(encoding="utf-8", newline="") as file:
                for seed, kind, frames, *more in list(csv.reader(file))[1:]:
                    self.scenes.append(SceneRecord(int(seed), kind, int(frames), *more))
        for folder in ("cameras", "depth", "normals", "segmentation", "images"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        names = {"name": "nyu13-person", "classes": CLASSES}
        write_text(root / "classes.json", json.dumps(names, indent=1) + "\n")

    @property
    def frames(self) -> int:
        return sum(scene.frames for scene in self.scenes)

    def write_frame(self, seed: int, index: int, photo: np.ndarray, hits: Hits, lens: Pinhole):
        """Write one frame: ``photo`` uint8 RGB [H,W,3], ``hits`` through the pixels' centres."""
        name, shape = frame_id(seed, index), photo.shape[:2]
        cx, cy = (lens.width - 1) / 2, (lens.height - 1) / 2
        k = np.array([[lens.focal, 0, cx], [0, lens.focal, cy], [0, 0, 1]])
        nothing = (hits.labels == 255).reshape(shape)
        normals = np.where(nothing[..., None], 0, hits.normals.reshape(photo.shape))
        depth = np.where(nothing, 0, hits.depth.reshape(shape))
        camera = camera_json(Camera(k, lens.width, lens.height))
        (self.root / "cameras" / f"{name}.json").write_text(camera, encoding="utf-8")
        write_depth(self.root / "depth" / f"{name}.png", depth)
        write_normals(self.root / "normals" / f"{name}.png", normals)
        write_segmentation(self.root / "segmentation" / f"{name}.png", hits.labels.reshape(shape))
        write_image(self.root / "images" / f"{name}.jpg", photo)

    def finish_scene(self, record: SceneRecord, models: Iterable[Model]) -> None:
        """Note a scene, with its frames in a split, and the credits of all models so far."""
        self.scenes.append(record)
        write_credits(models, self.root / "CREDITS.md", CREDITS.read_text(encoding="utf-8"))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([SceneRecord._fields, *self.scenes])
        write_text(self.root / "scenes.csv", table.getvalue())
        splits: dict[str, list[str]] = {"train": [], "val": []}
        for scene in self.scenes:
            split = "val" if scene.seed % VAL_EVERY == 0 else "train"
            splits[split] += [frame_id(scene.seed, i) for i in range(scene.frames)]
        write_splits(self.root / "splits.csv", splits)


def frame_id(seed: int, index: int) -> str:
    return f"room{seed:07d}_{index:02d}"


def write_credits(models: Iterable[Model], path: Path, head: str) -> None:
    """Write ``head`` and who made the models, under which terms, each once."""
    lines = {}
    for m in models:
        library = LIBRARIES[m.library]
        author = (library["author"] or m.author) + NOTES.get(m.name, "")
        terms = f"[{library['terms']}]({library['link']})"
        cells = f"{m.title} (`{m.library}/{m.name}`)", author, terms, m.source or "-"
        lines[m.library, m.name] = f"| {' | '.join(cells)} |\n"
    table = "| model | author | terms | published at |\n|---|---|---|---|\n"
    write_text(path, head + table + "".join(lines[key] for key in sorted(lines)))
