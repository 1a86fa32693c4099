# SPDX-License-Identifier: Apache-2.0
"""Rendered frames in the project's ``folder`` form, in chunks that are complete data sets."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.camera_file import camera_json
from proto_mtl_ros.data.map_file import write_depth, write_image, write_normals, write_segmentation
from proto_mtl_ros.data.table import write_splits
from proto_mtl_ros.geometry import Camera

from .parts import CLASSES
from .renderer import Hits, Pinhole

VAL_EVERY = 10
"""Every tenth scene is for validation: frames of one room are never in both splits."""


@dataclass(frozen=True)
class SceneRecord:
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
        path = root / "scenes.csv"
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    seed, frames = int(row.pop("seed")), int(row.pop("frames"))
                    self.scenes.append(SceneRecord(seed=seed, frames=frames, **row))
        root.mkdir(parents=True, exist_ok=True)
        names = {"name": "nyu13-person", "classes": CLASSES}
        (root / "classes.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")

    @property
    def frames(self) -> int:
        return sum(scene.frames for scene in self.scenes)

    def write_frame(
        self, seed: int, index: int, photo: np.ndarray, hits: Hits, lens: Pinhole
    ) -> None:
        """Write one frame: ``photo`` uint8 RGB [H,W,3], ``hits`` through the pixels' centres."""
        name, shape = frame_id(seed, index), photo.shape[:2]
        k = np.array([[lens.focal, 0, (lens.width - 1) / 2], [0, lens.focal, (lens.height - 1) / 2],
                      [0, 0, 1]])  # fmt: skip
        camera = self.root / "cameras" / f"{name}.json"
        camera.parent.mkdir(exist_ok=True)
        camera.write_text(camera_json(Camera(k, lens.width, lens.height)), encoding="utf-8")
        nothing = (hits.labels == 255).reshape(shape)
        normals = np.where(nothing[..., None], 0, hits.normals.reshape(photo.shape))
        depth = np.where(nothing, 0, hits.depth.reshape(shape))
        write_depth(self.root / "depth" / f"{name}.png", depth)
        write_normals(self.root / "normals" / f"{name}.png", normals)
        write_segmentation(self.root / "segmentation" / f"{name}.png", hits.labels.reshape(shape))
        write_image(self.root / "images" / f"{name}.jpg", photo)

    def finish_scene(self, record: SceneRecord) -> None:
        """Note a scene, with its frames in a split."""
        self.scenes.append(record)
        temporary = self.root / ".scenes.csv"
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(record)), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(scene) for scene in self.scenes)
        temporary.replace(self.root / "scenes.csv")
        splits: dict[str, list[str]] = {"train": [], "val": []}
        for scene in self.scenes:
            split = "val" if scene.seed % VAL_EVERY == 0 else "train"
            splits[split] += [frame_id(scene.seed, i) for i in range(scene.frames)]
        write_splits(self.root / "splits.csv", splits)


def frame_id(seed: int, index: int) -> str:
    return f"room{seed:07d}_{index:02d}"
