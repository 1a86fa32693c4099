# SPDX-License-Identifier: Apache-2.0
"""The tensors that keep frames of one stored size, and maps that were predicted on whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.tasks import IGNORE_INDEX, Task
from proto_mtl_ros.training.augmentation import Crop, Windows, crop_images, crop_labels

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

    def add(self, image: np.ndarray, camera: Camera, maps: dict[str, np.ndarray]) -> int:
        """Keep a frame, the image as [h, 3, w]; return its row."""
        row = len(self.cameras)
        self.cameras.append([camera.fx, camera.fy, camera.cx, camera.cy])
        for name, values in {IMAGE: image.transpose(0, 2, 1), **maps}.items():
            if name not in self.maps:
                self.maps[name] = np.empty((self.most - row, *values.shape), values.dtype)
                self.rows[name] = {}
            self.maps[name][len(self.rows[name])] = values
            self.rows[name][row] = len(self.rows[name])
        return row

    def finish(self, device: torch.device) -> None:
        """Turn everything into tensors, the maps on ``device``."""
        self.cameras = torch.tensor(self.cameras)
        for name, rows in self.rows.items():
            self.maps[name] = torch.from_numpy(self.maps[name][: len(rows)]).to(device)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the stored frames."""
        return self.maps[IMAGE].shape[1], self.maps[IMAGE].shape[3]

    def cut(self, name: str, rows: Sequence[int], windows: Windows) -> Tensor:
        """Return windows of the frames ``rows``, which have the map, in its own type."""
        maps = self.maps[name]
        index = torch.tensor([self.rows[name][row] for row in rows])
        if name == IMAGE:
            return crop_images(maps.index_select(0, index.to(maps.device)), windows)
        return crop_labels(maps, index, windows)


def stored_size(frame: Sequence[int], size: tuple[int, int], smallest: float) -> tuple[int, int]:
    """Return (height, width) to keep a frame at, so that no crop is magnified.

    Args:
        frame: (height, width) of the frame.
        size: (height, width) of the network's input.
        smallest: smallest crop as a share of the largest that fits.
    """
    height, width = frame
    scale = min(1.0, 1.0 / (min(width / size[1], height / size[0]) * smallest))
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
                maps[task.name] = np.where(valid, label, IGNORE_INDEX).astype(np.uint8)
            else:
                label = np.where(valid[..., None] if label.ndim == 3 else valid, label, 0)
                maps[task.name] = label.astype(np.float16)
    for name, values in extra.items():
        maps[name] = resize(values, width, height, "nearest").astype(np.float16)
    image = resize(sample.rgb, width, height, "linear")
    return image, sample.camera.resized(width, height), maps


class AttachedMaps:
    """Maps [n, h, w, C] of some frames at a stride of the network, kept as float16.

    Args:
        frames: indices of the frames.
        maps: of the whole frames at ``size`` / ``stride``.
        size: (height, width) of the network's input that they were predicted at.
        vectors: the first channel is the x component of a vector: negated in mirrored crops.
        mirrored: maps to take for mirrored crops instead, predicted on the mirror images and
            mirrored back.
    """

    def __init__(
        self,
        frames: Sequence[int],
        maps: Tensor,
        size: tuple[int, int],
        stride: int,
        vectors: bool = False,
        mirrored: Tensor | None = None,
    ) -> None:
        self.rows = {frame: row for row, frame in enumerate(frames)}
        self.size, self.stride, self.vectors = size, stride, vectors
        # [n, h, C, w] is quickest to cut
        both = [maps] if mirrored is None else [maps, mirrored]
        self.maps = [part.half().transpose(2, 3).contiguous() for part in both]

    def to(self, device: torch.device) -> AttachedMaps:
        """Move the maps to ``device``; return self."""
        self.maps = [part.to(device) for part in self.maps]
        return self

    def cut(
        self,
        indices: Sequence[int],
        sources: Sequence[tuple[int, int]],
        crops: Sequence[Crop],
        size: tuple[int, int],
    ) -> Tensor:
        """Return float32 [B, height / stride, width / stride, C]; zeros for frames without a map.

        Args:
            sources: (height, width) that each frame is stored at.
            crops: one for each, relative to the frame.
            size: (height, width) of the batch's images.
        """
        first = self.maps[0]
        coarse = (size[0] // self.stride, size[1] // self.stride)
        out = torch.zeros(len(indices), *coarse, first.shape[2], device=first.device)
        for position, (index, source, crop) in enumerate(zip(indices, sources, crops, strict=True)):
            row = self.rows.get(index)
            if row is None:
                continue
            windows = Windows.of([crop], *source, *size)
            whole = Windows.of([Crop()], *source, *self.size)
            maps = self.maps[-1 if crop.mirrored else 0]
            cut = crop_images(maps[row : row + 1], windows.on(whole, self.stride))
            if self.vectors and crop.mirrored:
                cut[:, 0].neg_()
            out[position] = cut[0].permute(1, 2, 0)
        return out
