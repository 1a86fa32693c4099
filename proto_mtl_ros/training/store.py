# SPDX-License-Identifier: Apache-2.0
"""Every training frame in memory, small and decoded, on the device that trains.

Images and ids are uint8, depth and normals are float16, at the smallest size from which every crop
can be cut without magnifying. The augmentation runs where the frames lie, so that the cores of a
machine with a GPU have nothing to do per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proto_mtl_ros.data.sample import FrameSource, Sample
from proto_mtl_ros.geometry.letterbox import PADDING_GREY
from proto_mtl_ros.model.network import RAW_STRIDE
from proto_mtl_ros.tasks import Task
from proto_mtl_ros.training.attached import AttachedMaps
from proto_mtl_ros.training.augmentation import (
    Crop,
    Windows,
)
from proto_mtl_ros.training.frame_block import (
    IMAGE,
    FrameBlock,
    stored,
    stored_size,
)

TEACHER = "teacher_"
"""Prefix of the maps that a teacher predicted; the last channel is its confidence."""

TEACHER_FEATURES = "teacher_features_"
"""Prefix of the features that a teacher's head reads."""

DERIVED_NORMALS = "derived_normals"
"""Label map of the normals that follow from a depth label, for frames without a normals label."""


class FrameStore:
    """Frames of a source, decoded once.

    Args:
        source: where the frames come from.
        tasks: whose labels are kept.
        sizes: (height, width) of the network's input in every stage.
        smallest: smallest crop.
        device: where the tensors lie.
        derive: optional function that gives the normals of a sample's depth label, float32
            [H, W, 3]; asked for frames that have a depth label and no normals label.
        frames: keep only these.
        progress: called with the number of frames read.

    Raises:
        DataError: a frame cannot be read.
    """

    def __init__(
        self,
        source: FrameSource,
        tasks: Sequence[Task],
        sizes: Sequence[tuple[int, int]],
        smallest: float,
        device: torch.device | str = "cpu",
        derive: Callable[[Sample], np.ndarray] | None = None,
        frames: Sequence[str] | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.tasks, self.device = tuple(tasks), torch.device(device)
        place = {frame_id: index for index, frame_id in enumerate(source.frame_ids)}
        self.frame_ids = list(source.frame_ids if frames is None else frames)
        self.labelled = torch.zeros(len(self.frame_ids), len(tasks), dtype=torch.bool)
        self._place: list[tuple[int, int]] = []
        blocks: dict[tuple[int, int], int] = {}
        self._blocks: list[FrameBlock] = []
        for index, frame_id in enumerate(self.frame_ids):
            sample = source[place[frame_id]]
            for column, task in enumerate(tasks):
                self.labelled[index, column] = task.name in sample.labels
            extra = {}
            if derive and "depth" in sample.labels and "normals" not in sample.labels:
                extra[DERIVED_NORMALS] = derive(sample)
            size = stored_size(sample.rgb.shape[0], sample.rgb.shape[1], sizes, smallest)
            number = blocks.setdefault(size, len(blocks))
            if number == len(self._blocks):
                self._blocks.append(FrameBlock(len(self) - index))
            row = self._blocks[number].add(*stored(sample, tasks, extra, size))
            self._place.append((number, row))
            progress(index + 1)
        for block in self._blocks:
            block.finish(self.device)
        self._attached: dict[str, AttachedMaps] = {}

    def __len__(self) -> int:
        return len(self.frame_ids)

    def to(self, device: torch.device | str) -> FrameStore:
        """Move the frames to ``device``, where batches are then cut; return the store."""
        self.device = torch.device(device)
        for block in self._blocks:
            block.maps = {name: maps.to(self.device) for name, maps in block.maps.items()}
        self._attached = {name: maps.to(self.device) for name, maps in self._attached.items()}
        return self

    def class_counts(self, task: str, classes: int) -> Tensor:
        """Return how many stored pixels of each class are labelled, [classes]."""
        counts = torch.zeros(classes, dtype=torch.long)
        for block in self._blocks:
            if task in block.maps:
                flat = block.maps[task].flatten().cpu().long()
                counts += torch.bincount(flat, minlength=256)[:classes]
        return counts

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        tensors = [t for block in self._blocks for t in block.maps.values()]
        own = sum(t.numel() * t.element_size() for t in tensors)
        return own + sum(maps.nbytes for maps in self._attached.values())

    def attach(
        self,
        name: str,
        frames: Sequence[int],
        maps: Tensor,
        size: tuple[int, int],
        stride: int = RAW_STRIDE,
        mirrored: Tensor | None = None,
    ) -> None:
        """Keep maps of whole frames; batches then hold them cut as the images are.

        Args:
            name: key in the batch: float32 [B, H/stride, W/stride, C], zeros for other frames.
            frames: indices of the frames.
            maps: [n, h, w, C] at ``size`` / ``stride``. A map whose name ends in ``normals``
                holds a vector first, whose x is negated in mirrored crops.
            size: (height, width) of the whole frames that they were predicted on.
            stride: of the maps.
            mirrored: maps for mirrored crops; see ``AttachedMaps``.
        """
        rows = torch.full((len(self),), -1)
        rows[list(frames)] = torch.arange(len(frames))
        vectors = mirrored is None and name.endswith("normals")
        attached = AttachedMaps(rows, maps, size, stride, vectors, mirrored)
        self._attached[name] = attached.to(self.device)

    def extras(self) -> set[str]:
        """Names of the maps beside the labels of the tasks."""
        names = {name for block in self._blocks for name in block.maps}
        return names - {IMAGE, *(task.name for task in self.tasks)}

    def batch(
        self,
        indices: Sequence[int],
        crops: Sequence[Crop],
        height: int,
        width: int,
        canonical_fx: float,
    ) -> dict[str, Any]:
        """Cut a batch of ``height`` x ``width`` pixels; see ``terms.Term`` for what it holds.

        Args:
            indices: of the frames.
            crops: one for each, relative to the frame.

        Returns:
            the batch; its image is float32 [B, 3, H, W], 0 to 255, for ``jitter_colours``.
        """
        count = len(indices)
        order: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            order.setdefault(self._place[index][0], []).append(position)
        batch: dict[str, Any] = {
            IMAGE: torch.full((count, 3, height, width), float(PADDING_GREY), device=self.device),
            "camera": torch.empty(count, 4),
            "labelled": self.labelled[list(indices)].to(self.device),
            "frame_id": [self.frame_ids[index] for index in indices],
        }
        for task in self.tasks:
            empty = torch.from_numpy(task.empty_label(height, width)).to(self.device)
            batch[task.name] = empty.expand(count, *empty.shape).clone()
        if DERIVED_NORMALS in self.extras():
            batch[DERIVED_NORMALS] = torch.zeros(count, height, width, 3, device=self.device)
        for number, positions in order.items():
            block = self._blocks[number]
            rows = [self._place[indices[position]][1] for position in positions]
            windows = Windows.of(
                [crops[position] for position in positions], *block.size, height, width
            )
            padded = any(crops[position].size > 1 for position in positions)
            if padded:
                inside = windows.inside().to(self.device)
            batch["camera"][positions] = windows.cameras(block.cameras[rows])
            for name in block.maps:
                own = block.rows[name][rows].tolist()
                have = [k for k, row in enumerate(own) if row >= 0]
                if not have or name not in batch:
                    continue
                chosen = windows.select(have)
                cut = block.cut(name, [own[k] for k in have], chosen).to(batch[name].dtype)
                if cut.shape[-1] == 3 and cut.ndim == 4 and name != IMAGE:
                    cut = chosen.mirror_x(cut)
                here = torch.tensor([positions[k] for k in have], device=self.device)
                if padded:  # around a frame there is padding, and no label
                    own_inside = inside[have]
                    if cut.ndim == 4:  # channels come first in images, last in labels
                        own_inside = own_inside.unsqueeze(1 if name == IMAGE else 3)
                    cut = torch.where(own_inside, cut, batch[name][here])
                batch[name].index_copy_(0, here, cut)
        sources = [self._blocks[self._place[index][0]].size for index in indices]
        for name, maps in self._attached.items():
            batch[name] = maps.cut(indices, sources, crops, (height, width))
        factor = batch["camera"][:, 0] / canonical_fx
        if "depth" in batch:
            batch["depth"] = batch["depth"] / factor.to(self.device)[:, None, None]
        batch["camera"] = batch["camera"].to(self.device)
        batch["depth_factor"] = factor.to(self.device)
        if f"{TEACHER}depth" in batch:
            batch[f"{TEACHER}depth"][..., 0] /= factor.to(self.device)[:, None, None]
        return batch
