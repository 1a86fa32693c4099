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
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.geometry.letterbox import PADDING_GREY
from proto_mtl_ros.model.torch_tasks import RAW_STRIDE, torch_task
from proto_mtl_ros.tasks import IGNORE_INDEX, Task
from proto_mtl_ros.training.augmentation import Crop, Windows, crop_images, crop_labels
from proto_mtl_ros.training.auxiliary.auxiliary_loss import DERIVED_NORMALS, TEACHER

IMAGE = "image"


class FrameBlock:
    """Frames of one stored size: a tensor of images and one of each kind of label map.

    The tensors are made for ``most`` frames at once and cut in the end: nothing is held twice.
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
    """Return (height, width) to keep a frame of (height, width) ``frame`` at, so that no crop for
    the network's input ``size`` is magnified."""
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

    They were predicted on whole frames at ``size`` (height, width). Where they are ``vectors``, x
    is negated in mirrored crops; ``mirrored`` are maps to take for those instead, predicted on the
    mirror images and mirrored back.
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

        ``sources`` are the sizes that the frames are stored at, ``size`` that of the batch's
        images.
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


class FrameStore:
    """Frames of a source, decoded once.

    ``derive`` gives the normals float32 [H, W, 3] of a sample's depth label, for frames without a
    normals label; ``frames`` are those to keep. ``draws`` are the frames of one pass, by index.
    """

    def __init__(
        self,
        source: FrameSource,
        tasks: Sequence[Task],
        size: tuple[int, int],
        smallest: float,
        derive: Callable[[Sample], np.ndarray] | None = None,
        frames: Sequence[str] | None = None,
    ) -> None:
        self.tasks, self.device = tuple(tasks), torch.device("cpu")
        self.size, self.derives = size, derive is not None
        place = {frame_id: index for index, frame_id in enumerate(source.frame_ids)}
        self.frame_ids = list(source.frame_ids if frames is None else frames)
        repeats = getattr(source, "repeats", lambda frame_id: 1)
        self.draws = [i for i, f in enumerate(self.frame_ids) for _ in range(repeats(f))]
        self.labelled = torch.zeros(len(self.frame_ids), len(tasks), dtype=torch.bool)
        self._place: list[tuple[FrameBlock, int]] = []
        self._blocks: dict[tuple[int, int], FrameBlock] = {}
        self._attached: dict[str, AttachedMaps] = {}
        for index, frame_id in enumerate(self.frame_ids):
            sample = source[place[frame_id]]
            for column, task in enumerate(tasks):
                self.labelled[index, column] = task.name in sample.labels
            extra = {}
            if derive and "depth" in sample.labels and "normals" not in sample.labels:
                extra[DERIVED_NORMALS] = derive(sample)
            height, width = stored_size(sample.rgb.shape[:2], size, smallest)
            block = self._blocks.setdefault((height, width), FrameBlock(len(self) - index))
            self._place.append((block, block.add(*stored(sample, tasks, extra, (height, width)))))
        for block in self._blocks.values():
            block.finish(self.device)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def to(self, device: torch.device | str) -> FrameStore:
        self.device = torch.device(device)
        for block in self._blocks.values():
            block.maps = {name: maps.to(self.device) for name, maps in block.maps.items()}
        self._attached = {name: maps.to(self.device) for name, maps in self._attached.items()}
        return self

    def class_counts(self, task: str, classes: int) -> Tensor:
        """Return how many stored pixels of each class are labelled, [classes]."""
        counts = torch.zeros(classes, dtype=torch.long)
        for block in self._blocks.values():
            if task in block.maps:
                flat = block.maps[task].flatten().cpu().long()
                counts += torch.bincount(flat, minlength=256)[:classes]
        return counts

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        own = [t for block in self._blocks.values() for t in block.maps.values()]
        attached = [t for maps in self._attached.values() for t in maps.maps]
        return sum(t.numel() * t.element_size() for t in (*own, *attached))

    def attach(
        self,
        name: str,
        frames: Sequence[int],
        maps: Tensor,
        stride: int = RAW_STRIDE,
        vectors: bool = False,
        mirrored: Tensor | None = None,
    ) -> None:
        """Keep maps that were predicted on whole frames at ``size``; see ``AttachedMaps``.

        Batches hold them cut as the images are, under ``name``: float32 [B, H/stride, W/stride, C].
        """
        attached = AttachedMaps(frames, maps, self.size, stride, vectors, mirrored)
        self._attached[name] = attached.to(self.device)

    def batch(
        self, indices: Sequence[int], crops: Sequence[Crop], canonical_fx: float
    ) -> dict[str, Any]:
        """Cut a batch, a crop of each frame; see ``auxiliary.AuxiliaryLoss`` for what it holds.

        ``image`` is float32 [B, 3, H, W], 0 to 255, before the colours change; depth is canonical.
        """
        height, width = self.size
        batch = self._blank(indices)
        blocks: dict[FrameBlock, list[int]] = {}
        for position, index in enumerate(indices):
            blocks.setdefault(self._place[index][0], []).append(position)
        for block, positions in blocks.items():
            windows = Windows.of([crops[p] for p in positions], *block.size, height, width)
            rows = [self._place[indices[position]][1] for position in positions]
            batch["camera"][positions] = windows.cameras(block.cameras[rows])
            padded = any(crops[position].size > 1 for position in positions)
            inside = windows.inside().to(self.device) if padded else None
            for name in block.maps:
                have = [k for k, row in enumerate(rows) if row in block.rows[name]]
                if have and name in batch:
                    here = torch.tensor([positions[k] for k in have], device=self.device)
                    chosen = windows.select(have)
                    cut = block.cut(name, [rows[k] for k in have], chosen).to(batch[name].dtype)
                    if name == DERIVED_NORMALS or self._vectors(name):
                        cut = chosen.mirror_x(cut)
                    if inside is not None:  # around a frame there is padding, and no label
                        shows = inside[have]
                        if cut.ndim == 4:  # channels come first in images, last in labels
                            shows = shows.unsqueeze(1 if name == IMAGE else 3)
                        cut = torch.where(shows, cut, batch[name][here])
                    batch[name].index_copy_(0, here, cut)
        sources = [self._place[index][0].size for index in indices]
        for name, maps in self._attached.items():
            batch[name] = maps.cut(indices, sources, crops, self.size)
        batch["camera"] = batch["camera"].to(self.device)
        factor = batch["depth_factor"] = batch["camera"][:, 0] / canonical_fx
        for name in [task.name for task in self.tasks if task.canonical]:
            batch[name] /= factor[:, None, None]
            if f"{TEACHER}{name}" in batch:
                batch[f"{TEACHER}{name}"][..., 0] /= factor[:, None, None]
        return batch

    def _vectors(self, name: str) -> bool:
        return any(t.name == name and torch_task(t).vectors for t in self.tasks)

    def _blank(self, indices: Sequence[int]) -> dict[str, Any]:
        count, (height, width) = len(indices), self.size
        batch: dict[str, Any] = {
            IMAGE: torch.full((count, 3, height, width), float(PADDING_GREY), device=self.device),
            "camera": torch.empty(count, 4),
            "labelled": self.labelled[list(indices)].to(self.device),
            "frame_id": [self.frame_ids[index] for index in indices],
        }
        for task in self.tasks:
            empty = torch.from_numpy(task.empty_label(height, width)).to(self.device)
            batch[task.name] = empty.expand(count, *empty.shape).clone()
        if self.derives:
            batch[DERIVED_NORMALS] = torch.zeros(count, height, width, 3, device=self.device)
        return batch
