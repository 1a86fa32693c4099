# SPDX-License-Identifier: Apache-2.0
"""The NYU Depth v2 labelled set in its compact form: one folder per modality, files by frame id.

    rgb/NNNN.jpg 640x480        label13/NNNN.png uint8, 255 = unlabelled
    depth/NNNN.png uint8, metres = value / 25.5, no holes, 255 = saturated
    normal/NNNN.webp 384x288, component = floor(value / 4) / 63 * 2 - 1, zero vector = invalid
    splits.csv frame_id,split   manifests/*.csv frame_id and one 0/1 column per task

Silberman, Hoiem, Kohli, Fergus: "Indoor Segmentation and Support Inference from RGBD Images",
ECCV 2012. Academic data set without an explicit licence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.map_file import decoded
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample
from proto_mtl_ros.data.table import NoSplitError, read_splits
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import check_inside
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.tasks import IGNORE_INDEX, NYU13

WIDTH, HEIGHT = 640, 480
CAMERA = Camera(
    np.array([[518.857901, 0.0, 325.582449], [0.0, 519.469611, 253.736166], [0.0, 0.0, 1.0]]),
    WIDTH,
    HEIGHT,
)
_BORDER_PX = 10
"""Labels this close to the border are extrapolated (depth, normals) or absent; all ignore them."""

NAME = "NYU Depth v2"

LICENCE = (
    "NYU Depth v2 (Silberman, Hoiem, Kohli, Fergus; ECCV 2012): academic data set, "
    "no explicit licence"
)


@data_set("nyuv2", looks_like=lambda root: (root / "label13").is_dir())
class NYUv2(DataSet):
    """Frames of one split, ``train`` or ``val``, with their labels."""

    label_set = NYU13
    depth_step = 1 / 25.5
    """Quantisation of the depth labels in metres, which a training's normals of depth allow for."""

    def __init__(
        self,
        root: Path | str,
        split: str,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        known = read_splits(self.root / "splits.csv").get(split, [])
        if not known:
            raise NoSplitError(f"{self.root}/splits.csv names no frame of split {split!r}")
        self.choose(known, frame_ids, manifest, self.root)

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        return may

    def _read(self, kind: str, frame_id: str, suffix: str, flags: int) -> np.ndarray:
        path = self.root / kind / f"{frame_id}{suffix}"
        check_inside(path, self.root, DataError)
        array = decoded(path, flags)
        if array.dtype != np.uint8 or array.ndim != (2 if suffix == ".png" else 3):
            raise DataError(f"{path} has other pixels than the data set; fetch it again")
        return array

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        names = self.has(frame_id)
        maps = {"rgb": self._read("rgb", frame_id, ".jpg", cv2.IMREAD_COLOR)[..., ::-1]}
        if "segmentation" in names:
            ids = self._read("label13", frame_id, ".png", cv2.IMREAD_UNCHANGED)
            maps["segmentation"] = without_border(ids, IGNORE_INDEX)
        if "depth" in names:
            stored = self._read("depth", frame_id, ".png", cv2.IMREAD_UNCHANGED)
            maps["depth"] = without_border(_DEPTH_LEVELS[stored])
        if "normals" in names:
            stored = self._read("normal", frame_id, ".webp", cv2.IMREAD_COLOR)[..., ::-1]
            # nearest keeps unit vectors; the stored map is 0.6 times the size of the image
            vectors = resize(decode_normals(stored), WIDTH, HEIGHT, "nearest")
            maps["normals"] = without_border(vectors)
        for name, map_ in maps.items():
            if map_.shape[:2] != (HEIGHT, WIDTH):
                raise DataError(
                    f"{name} of frame {frame_id} of {self.root} is not {WIDTH}x{HEIGHT}; "
                    "fetch the data set again"
                )
        return Sample(frame_id, np.ascontiguousarray(maps.pop("rgb")), CAMERA, maps)


def without_border(label: np.ndarray, invalid: int = 0) -> np.ndarray:
    """Return a copy of [H, W, ...] with the border set to ``invalid``."""
    inner = slice(_BORDER_PX, -_BORDER_PX)
    result = np.full_like(label, invalid)
    result[inner, inner] = label[inner, inner]
    return result


# 255 is saturated and becomes invalid
_DEPTH_LEVELS = (np.arange(256) % 255).astype(np.float32) / 25.5
_NORMAL_LEVELS = (np.arange(256) // 4).astype(np.float32) / 63.0 * 2.0 - 1.0


def decode_normals(encoded: np.ndarray) -> np.ndarray:
    """Return unit vectors float32 [H, W, 3] from uint8 [H, W, 3]; (0, 0, 0) stays zero."""
    vectors = _NORMAL_LEVELS[encoded]
    norm = np.sqrt(np.einsum("hwc,hwc->hw", vectors, vectors))
    scale = np.where(encoded.any(-1), 1.0 / np.maximum(norm, 1e-6), 0.0).astype(np.float32)
    return vectors * scale[..., None]
