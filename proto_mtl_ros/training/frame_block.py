# SPDX-License-Identifier: Apache-2.0
"""Frames of one stored size: how small a frame may be kept, and the tensors that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.geometry import (
    Camera,
    resize,
)
from proto_mtl_ros.tasks import (
    IGNORE_INDEX,
    Task,
)
from proto_mtl_ros.training.augmentation import (
    Windows,
    crop_images,
    crop_labels,
)

IMAGE = "image"


class FrameBlock:
    """Frames of one stored size: a tensor of images and one of each kind of label map.

    The tensors are made for ``most`` frames at once and cut in the end: the system gives memory to
    pages that were written, so nothing is held twice while a large set is read.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.cameras: Any = []
        self.maps: dict[str, Any] = {}
        self.rows: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, image: np.ndarray, camera: Camera, maps: dict[str, np.ndarray]) -> int:
        """Keep a frame, the image as [h, 3, w]; return its row."""
        row = len(self.cameras)
        self.cameras.append([camera.fx, camera.fy, camera.cx, camera.cy])
        for name, values in {IMAGE: image.transpose(0, 2, 1), **maps}.items():
            if name not in self.maps:
                self.maps[name] = np.empty((self.most - row, *values.shape), values.dtype)
                self.rows[name] = np.full(self.most, -1)
                self._counts[name] = 0
            count = self._counts[name]
            self.maps[name][count] = values
            self.rows[name][row] = count
            self._counts[name] = count + 1
        return row

    def finish(self, device: torch.device) -> None:
        """Turn everything into tensors, the maps on ``device``."""
        frames = len(self.cameras)
        self.cameras = torch.tensor(self.cameras)
        for name, count in self._counts.items():
            self.maps[name] = torch.from_numpy(self.maps[name][:count]).to(device)
            self.rows[name] = torch.from_numpy(self.rows[name][:frames])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the stored frames."""
        return self.maps[IMAGE].shape[1], self.maps[IMAGE].shape[3]

    def cut(self, name: str, rows: Sequence[int], windows: Windows) -> Tensor:
        """Return windows of the rows ``rows`` of a kind of map, in its own type."""
        maps = self.maps[name]
        index = torch.tensor(rows)
        if name == IMAGE:
            return crop_images(maps.index_select(0, index.to(maps.device)), windows)
        return crop_labels(maps, index, windows)


def stored_size(
    height: int, width: int, sizes: Sequence[tuple[int, int]], smallest: float
) -> tuple[int, int]:
    """Return (height, width) to keep a frame at, so that no crop for ``sizes`` is magnified.

    Args:
        sizes: (height, width) of the network's input in every stage.
        smallest: smallest crop as a share of the largest that fits.
    """
    scale = 0.0
    for out_height, out_width in sizes:
        fit = min(width / out_width, height / out_height)
        scale = max(scale, 1.0 / (fit * smallest))
    scale = min(1.0, scale)
    return max(1, round(height * scale)), max(1, round(width * scale))


def stored(
    sample: Sample, tasks: Sequence[Task], extra: dict[str, np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, Camera, dict[str, np.ndarray]]:
    """Return image, camera and maps of a sample at the stored size, maps in the stored types."""
    height, width = size
    maps: dict[str, np.ndarray] = {}
    for task in tasks:
        if task.name in sample.labels:
            label = resize(sample.labels[task.name], width, height, "nearest")
            valid = task.valid(label)
            if label.dtype.kind != "f":
                # an id beyond the classes is as good as none
                label = np.where(valid, label, IGNORE_INDEX).astype(np.uint8)
            else:
                label = np.where(valid[..., None] if label.ndim == 3 else valid, label, 0)
                label = label.astype(np.float16)
            maps[task.name] = label
    for name, values in extra.items():
        maps[name] = resize(values, width, height, "nearest").astype(np.float16)
    image = resize(sample.rgb, width, height, "linear")
    return image, sample.camera.resized(width, height), maps
