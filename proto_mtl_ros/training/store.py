# SPDX-License-Identifier: Apache-2.0
"""Every training frame in memory, small and decoded, on the device that trains.

Images and ids are uint8, depth and normals are float16, at the smallest size from which every crop
can be cut without magnifying. The augmentation runs where the frames lie, so that the cores of a
machine with a GPU have nothing to do per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.sample import Sample
from ..data.source import FrameSource
from ..geometry import Camera, resize
from ..model.network import RAW_STRIDE
from ..tasks import Task
from .augmentation import Crop, Windows, crop_images, crop_labels

TEACHER = "teacher_"
"""Prefix of the maps that a teacher predicted; the last channel is its confidence."""

DERIVED_NORMALS = "derived_normals"
"""Label map of the normals that follow from a depth label, for frames without a normals label."""


@dataclass
class _Block:
    """Frames of one stored size: parallel tensors, and where each frame's labels lie."""

    images: Any
    cameras: Tensor
    maps: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)


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
        self._keys: dict[tuple[int, int], int] = {}
        raw: list[list[tuple[Sample, dict[str, np.ndarray]]]] = []
        for index, frame_id in enumerate(self.frame_ids):
            sample = source[place[frame_id]]
            for column, task in enumerate(tasks):
                self.labelled[index, column] = task.name in sample.labels
            extra = {}
            if derive and "depth" in sample.labels and "normals" not in sample.labels:
                extra[DERIVED_NORMALS] = derive(sample)
            size = stored_size(*sample.rgb.shape[:2], sizes, smallest)
            block = self._keys.setdefault(size, len(self._keys))
            if block == len(raw):
                raw.append([])
            self._place.append((block, len(raw[block])))
            raw[block].append(_stored(sample, tasks, extra, size))
            progress(index + 1)
        self._blocks = [self._pack(frames) for frames in raw]
        self._soft: dict[str, tuple[Tensor, Tensor]] = {}
        self._whole = (0, 0)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def _pack(self, frames: list[tuple[Sample, dict[str, np.ndarray]]]) -> _Block:
        images = torch.from_numpy(np.stack([sample.rgb for sample, _ in frames]))
        cameras = torch.tensor([_intrinsics(sample.camera) for sample, _ in frames])
        block = _Block(images.to(self.device), cameras)
        for name in {name for _, maps in frames for name in maps}:
            have = [index for index, (_, maps) in enumerate(frames) if name in maps]
            rows = torch.full((len(frames),), -1)
            rows[have] = torch.arange(len(have))
            stack = np.stack([frames[index][1][name] for index in have])
            block.maps[name] = torch.from_numpy(stack).to(self.device)
            block.rows[name] = rows
        return block

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
        tensors = [t for b in self._blocks for t in (b.images, *b.maps.values())]
        return sum(t.numel() * t.element_size() for t in tensors)

    def attach(self, name: str, frames: Sequence[int], maps: Tensor, size: tuple[int, int]) -> None:
        """Keep predicted maps of whole frames; batches then hold them cut as the images are.

        Args:
            name: key in the batch: float32 [B, H/4, W/4, C], zeros for other frames.
            frames: indices of the frames.
            maps: [n, h, w, C] at a quarter of ``size``; kept as float16. A map of four channels
                whose name ends in ``normals`` holds a vector first.
            size: (height, width) of the whole frames that they were predicted on.
        """
        rows = torch.full((len(self),), -1)
        rows[list(frames)] = torch.arange(len(frames))
        self._soft[name] = (maps.half().to(self.device), rows)
        self._whole = size

    def _cut_soft(
        self,
        batch: dict[str, Any],
        indices: Sequence[int],
        crops: Sequence[Crop],
        height: int,
        width: int,
    ) -> None:
        """Add the attached maps to ``batch``."""
        for name, (maps, rows) in self._soft.items():
            channels = maps.shape[-1]
            out = torch.zeros(
                len(indices),
                height // RAW_STRIDE,
                width // RAW_STRIDE,
                channels,
                device=self.device,
            )
            for position, index in enumerate(indices):
                row = int(rows[index])
                if row < 0:
                    continue
                source = self._blocks[self._place[index][0]].images.shape[1:3]
                windows = Windows.of([crops[position]], *source, height, width)
                whole = Windows.of([Crop()], *source, *self._whole)
                cut = crop_images(maps[row : row + 1], windows.on(whole, RAW_STRIDE))
                if name.endswith("normals") and crops[position].mirrored:
                    cut[..., 0].neg_()
                out[position] = cut[0]
            batch[name] = out

    def extras(self) -> set[str]:
        """Names of the maps beside the labels of the tasks."""
        names = {name for block in self._blocks for name in block.maps}
        return names - {task.name for task in self.tasks}

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
        """
        count = len(indices)
        order: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            order.setdefault(self._place[index][0], []).append(position)
        batch: dict[str, Any] = {
            "image": torch.empty(count, height, width, 3, device=self.device),
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
                [crops[position] for position in positions], *block.images.shape[1:3], height, width
            )
            here = torch.tensor(positions, device=self.device)
            batch["image"][here] = crop_images(block.images[rows], windows)
            batch["camera"][positions] = windows.cameras(block.cameras[rows])
            for name, maps in block.maps.items():
                own = block.rows[name][rows]
                have = [k for k, row in enumerate(own.tolist()) if row >= 0]
                if not have or name not in batch:
                    continue
                label = crop_labels(maps[own[have].to(self.device)], windows.select(have))
                if label.shape[-1] == 3 and label.ndim == 4:
                    label = windows.select(have).mirror_x(label)
                batch[name][here[torch.tensor(have, device=self.device)]] = label.to(
                    batch[name].dtype
                )
        self._cut_soft(batch, indices, crops, height, width)
        factor = batch["camera"][:, 0] / canonical_fx
        if "depth" in batch:
            batch["depth"] = batch["depth"] / factor.to(self.device)[:, None, None]
        batch["camera"] = batch["camera"].to(self.device)
        batch["depth_factor"] = factor.to(self.device)
        if f"{TEACHER}depth" in batch:
            batch[f"{TEACHER}depth"][..., 0] /= factor.to(self.device)[:, None, None]
        return batch


def _intrinsics(camera: Camera) -> list[float]:
    return [camera.fx, camera.fy, camera.cx, camera.cy]


def _stored(
    sample: Sample, tasks: Sequence[Task], extra: dict[str, np.ndarray], size: tuple[int, int]
) -> tuple[Sample, dict[str, np.ndarray]]:
    """Return the sample at the stored size and its maps in the stored types."""
    height, width = size
    small = Sample(
        sample.frame_id,
        np.ascontiguousarray(resize(sample.rgb, width, height, "linear")),
        sample.camera.resized(width, height),
    )
    maps: dict[str, np.ndarray] = {}
    for task in tasks:
        if task.name in sample.labels:
            label = resize(sample.labels[task.name], width, height, "nearest")
            if label.dtype.kind == "f":
                valid = task.valid(label)
                label = np.where(valid[..., None] if label.ndim == 3 else valid, label, 0)
                label = label.astype(np.float16)
            maps[task.name] = np.ascontiguousarray(label)
    for name, values in extra.items():
        maps[name] = resize(values, width, height, "nearest").astype(np.float16)
    return small, maps
