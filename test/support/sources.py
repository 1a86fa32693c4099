# SPDX-License-Identifier: Apache-2.0
"""Small data sets of every kind, with content that can be computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.tasks import LabelSet

WIDTH, HEIGHT = 64, 48
CAMERA = {"fx": 60.0, "fy": 61.0, "cx": 31.0, "cy": 24.0, "width": WIDTH, "height": HEIGHT}
CLASSES = ("floor", "wall", "box")
PALETTE = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def camera() -> Camera:
    """Return the camera of all frames."""
    matrix = np.array([[60.0, 0, 31], [0, 61, 24], [0, 0, 1]])
    return Camera(matrix, WIDTH, HEIGHT)


def room(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return depth in metres and normals of a corner: floor, back wall and side wall.

    Three planes n . p = -d, intersected with the pixels' rays: the nearest one is seen.
    """
    planes = (((0, -1, 0), 1.2), ((0, 0, -1), 4.0 + 0.1 * seed), ((-1, 0, 0), 1.5))
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u - 31) / 60, (v - 24) / 61, np.ones_like(u, float)], -1)
    depth, normals = np.full((HEIGHT, WIDTH), np.inf), np.zeros((HEIGHT, WIDTH, 3))
    for normal, distance in planes:
        facing = rays @ np.array(normal, float)
        with np.errstate(divide="ignore"):
            along = np.where(facing < 0, -distance / facing, np.inf)
        depth, normals = (
            np.minimum(depth, along),
            np.where((along < depth)[..., None], normal, normals),
        )
    return depth.astype(np.float32), normals.astype(np.float32)


def picture(seed: int) -> np.ndarray:
    """Return noise, uint8 [H, W, 3]: any mistake of order or channel shows."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def mask(seed: int) -> np.ndarray:
    """Return ids of the three classes with some unlabelled pixels."""
    ids = np.random.default_rng([seed, 1]).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    ids[:3] = 255
    return ids


class Frames:
    """A source in memory whose frames have the labels that it is told."""

    def __init__(self, labels: Mapping[str, Sequence[str]], classes: Sequence[str] = CLASSES):
        self.labels = {frame_id: tuple(tasks) for frame_id, tasks in labels.items()}
        self.classes = tuple(classes)
        self.frame_ids = list(labels)
        self.label_set = LabelSet("drawn", tuple(classes), (*PALETTE, (9, 9, 9))[: len(classes)])
        order = ("segmentation", "depth", "normals")
        self.tasks = tuple(t for t in order if any(t in have for have in self.labels.values()))

    def __len__(self) -> int:
        return len(self.frame_ids)

    def has(self, frame_id: str) -> tuple[str, ...]:
        if frame_id not in self.labels:
            raise DataError(f"no frame {frame_id}")
        return self.labels[frame_id]

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        depth, normals = room(index)
        maps = {"segmentation": mask(index), "depth": depth, "normals": normals}
        labels = {task: maps[task] for task in self.has(frame_id)}
        return Sample(frame_id, picture(index), camera(), labels)


def write_preprocessed(root: Path, split: str, count: int, axes: str = "opengl") -> Path:
    """Write numbered arrays as the preprocessed NYUv2 has them."""
    for index in range(count):
        depth, normals = room(index)
        stored = normals * np.array([1, -1, -1]) if axes == "opengl" else normals
        label = mask(index).astype(np.float64)
        arrays = {
            "image": picture(index) / 255.0,
            "label": np.where(label == 255, -1, label),
            "depth": depth[..., None],
            "normal": stored,
        }
        for name, array in arrays.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            np.save(root / split / name / f"{index}.npy", array)
    return root


def write_by_hand(root: Path) -> Path:
    """Write a folder data set as a user would, without any code of the package."""
    for name in ("images", "depth", "segmentation", "normals"):
        (root / name).mkdir(parents=True)
    for index, name in enumerate(("a", "b", "c")):
        cv2.imwrite(str(root / "images" / f"{name}.png"), picture(index)[..., ::-1])
    depth, normals = room()
    cv2.imwrite(str(root / "depth" / "a.png"), np.round(depth * 1000).astype(np.uint16))
    np.save(root / "depth" / "b.npy", np.where(depth > 3.9, np.nan, depth))
    cv2.imwrite(str(root / "segmentation" / "b.png"), mask(1))
    coded = np.round((normals + 1) / 2 * 255).astype(np.uint8)
    coded[:5] = 0
    cv2.imwrite(str(root / "normals" / "b.png"), coded[..., ::-1])
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "camera.json").write_text(json.dumps(CAMERA))
    (root / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,val\n")
    return root
