# SPDX-License-Identifier: Apache-2.0
"""Maps that were predicted on whole frames before the training, cut as the images are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from proto_mtl_ros.training.augmentation import (
    Crop,
    Windows,
    crop_images,
)


class AttachedMaps:
    """Maps of some frames at a stride of the network, kept as float16.

    Args:
        rows: of every frame the row of its map, -1 where it has none.
        maps: [n, h, w, C].
        size: (height, width) of the whole frames that they were predicted on.
        stride: h = height / stride.
        vectors: the first channel is the x component of a vector: negated in mirrored crops.
        mirrored: maps to take for mirrored crops instead, predicted on the mirror images and
            mirrored back.
    """

    def __init__(
        self,
        rows: Tensor,
        maps: Tensor,
        size: tuple[int, int],
        stride: int,
        vectors: bool = False,
        mirrored: Tensor | None = None,
    ) -> None:
        self.rows, self.size, self.stride, self.vectors = rows, size, stride, vectors
        both = [maps] if mirrored is None else [maps, mirrored]
        self.maps = [_stored(part) for part in both]

    @property
    def nbytes(self) -> int:
        """Memory of the maps in bytes."""
        return sum(part.numel() * part.element_size() for part in self.maps)

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
            indices: of the frames.
            sources: (height, width) that each frame is stored at.
            crops: one for each, relative to the frame.
            size: (height, width) of the batch's images.
        """
        coarse = (size[0] // self.stride, size[1] // self.stride)
        first = self.maps[0]
        out = torch.zeros(len(indices), *coarse, first.shape[2], device=first.device)
        for position, (index, source, crop) in enumerate(zip(indices, sources, crops, strict=True)):
            row = int(self.rows[index])
            if row < 0:
                continue
            windows = Windows.of([crop], *source, *size)
            whole = Windows.of([Crop()], *source, *self.size)
            maps = self.maps[-1 if crop.mirrored else 0]
            cut = crop_images(maps[row : row + 1], windows.on(whole, self.stride))
            if self.vectors and crop.mirrored:
                cut[:, 0].neg_()
            out[position] = cut[0].permute(1, 2, 0)
        return out


def _stored(maps: Tensor) -> Tensor:
    """Return [n, h, w, C] as float16 [n, h, C, w], which is quickest to cut."""
    return maps.half().transpose(2, 3).contiguous()
