# SPDX-License-Identifier: Apache-2.0
"""Rendered frames in the project's ``folder`` form, in chunks that are complete data sets."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

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
    models: str  # library/name, separated by blanks


class Chunk:
    """A folder of frames. A scene counts once its line stands in ``scenes.csv``; frames of a scene
    that was interrupted are written again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("images", "depth", "normals", "segmentation", "cameras"):
            (root / name).mkdir(parents=True, exist_ok=True)
        names = {"name": "nyu13-person", "classes": CLASSES}
        (root / "classes.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
        self.scenes: list[SceneRecord] = []
        path = root / "scenes.csv"
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                self.scenes = [
                    SceneRecord(
                        int(r["seed"]), r["kind"], int(r["frames"]), r["outcome"], r["models"]
                    )
                    for r in csv.DictReader(file)
                ]

    @property
    def frames(self) -> int:
        return sum(scene.frames for scene in self.scenes)

    @property
    def done(self) -> frozenset[int]:
        return frozenset(scene.seed for scene in self.scenes)

    def write_frame(
        self, seed: int, index: int, photo: np.ndarray, hits: Hits, camera: Pinhole
    ) -> None:
        """Write one frame: ``photo`` uint8 RGB [H,W,3], ``hits`` through the pixels' centres."""
        name, shape = frame_id(seed, index), (camera.height, camera.width)
        millimetres = np.clip(np.round(hits.depth * 1000), 0, 65535)  # nothing there: invalid
        depth = np.where(hits.labels == 255, 0, millimetres).astype(np.uint16).reshape(shape)
        normals = np.round((hits.normals + 1) / 2 * 255)
        normals = (
            np.where((hits.labels == 255)[:, None], 0, normals).astype(np.uint8).reshape(*shape, 3)
        )
        images = {
            "depth": (".png", depth, []),
            "normals": (".png", normals[..., ::-1], []),
            "segmentation": (".png", hits.labels.reshape(shape), []),
            "images": (".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]),
        }
        content = {
            "fx": camera.focal, "fy": camera.focal, "cx": (camera.width - 1) / 2,
            "cy": (camera.height - 1) / 2, "width": camera.width, "height": camera.height,
        }  # fmt: skip
        (self.root / "cameras" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        for folder, (suffix, image, options) in images.items():
            ok, data = cv2.imencode(suffix, np.ascontiguousarray(image), options)
            assert ok
            temporary = self.root / folder / f".{name}{suffix}"
            temporary.write_bytes(data.tobytes())
            temporary.replace(self.root / folder / f"{name}{suffix}")

    def finish_scene(self, record: SceneRecord) -> None:
        """Note a scene, with its frames in a split."""
        self.scenes.append(record)
        rows = [[getattr(scene, f.name) for f in fields(SceneRecord)] for scene in self.scenes]
        self._write_csv("scenes.csv", [[f.name for f in fields(SceneRecord)], *rows])
        splits = [
            [frame_id(scene.seed, i), "val" if scene.seed % VAL_EVERY == 0 else "train"]
            for scene in self.scenes
            for i in range(scene.frames)
        ]
        self._write_csv("splits.csv", [["frame_id", "split"], *splits])

    def _write_csv(self, name: str, rows: list[list[object]]) -> None:
        temporary = self.root / f".{name}"
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        temporary.replace(self.root / name)


def frame_id(seed: int, index: int) -> str:
    return f"room{seed:07d}_{index:02d}"
