# SPDX-License-Identifier: Apache-2.0
"""Which frames make which batch, as a pure function of (seed, step).

Nothing here keeps a state, so a continued training goes on with exactly the frames that it would
have seen, and any number of processes share a batch in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from proto_mtl_ros.training.augmentation import Crop, jitter_colours
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.store import FrameStore

Key = tuple[int, int]
"""Pass over the frames, place in the store's draws."""


class EpochBatches(Sampler[list[Key]]):
    """Batches of one epoch; Lightning calls ``set_epoch``.

    The frames are gone through in passes, each in its own random order; an epoch is a number of
    steps, not a pass, so that a run with fewer frames takes as many steps as one with more. This
    process takes every ``world``-th frame of a batch, which comes in so many ``parts``.
    """

    def __init__(
        self,
        length: int,
        steps: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
    ) -> None:
        self.length, self.steps, self.batch, self.seed = length, steps, batch, seed
        self.rank, self.world, self.parts, self.epoch = rank, world, parts, 0

    @property
    def sampler(self) -> EpochBatches:
        """Itself: Lightning tells the epoch to a batch sampler's ``sampler`` alone."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        number, order = -1, np.empty(0, np.int64)
        size = self.batch // self.parts
        start = self.epoch * self.steps * self.batch
        for first in range(start, start + self.steps * self.batch, self.batch):
            keys: list[Key] = []
            for draw in range(first, first + self.batch):
                if draw // self.length != number:
                    number = draw // self.length
                    order = np.random.default_rng([self.seed, number]).permutation(self.length)
                keys.append((number, int(order[draw % self.length])))
            for part in range(self.parts):
                yield keys[part * size : (part + 1) * size][self.rank :: self.world]


class _Keys(Dataset):
    """Hands the keys of a batch through to the function that cuts the batch as a whole."""

    def __getitem__(self, key: Any) -> Any:
        return key


def training_batch(store: FrameStore, config: TrainConfig, keys: Sequence[Key]) -> dict[str, Any]:
    data = config.data
    crops = [
        Crop.draw(
            np.random.default_rng([config.seed, number, index, 1]),
            data.smallest_crop,
            data.largest_crop,
        )
        for number, index in keys
    ]
    indices = [store.draws[index] for _, index in keys]
    batch = store.batch(indices, crops, config.canonical_fx)
    batch["image"] = jitter_colours(batch["image"], crops, data.colour)
    return batch


def whole_frames(store: FrameStore, config: TrainConfig, indices: Sequence[int]) -> dict[str, Any]:
    """Return whole frames at the network's input size; labels have that size too."""
    crops = [Crop()] * len(indices)
    batch = store.batch(list(indices), crops, config.canonical_fx)
    batch["image"] = jitter_colours(batch["image"], crops, 0.0)
    return batch


def training_loader(
    store: FrameStore, config: TrainConfig, steps: int, rank: int = 0, world: int = 1
) -> DataLoader:
    """Return the loader of ``steps`` shuffled batches per epoch.

    Batches are cut in this process: that takes a few percent of a step even on two cores, and a
    forked worker can deadlock in the threads of OpenCV and torch.
    """
    batch, parts = config.optimiser.batch, config.optimiser.accumulate
    return DataLoader(
        _Keys(),
        batch_sampler=EpochBatches(len(store.draws), steps, batch, config.seed, rank, world, parts),
        collate_fn=partial(training_batch, store, config),
    )


def evaluation_loader(store: FrameStore, config: TrainConfig) -> DataLoader:
    return DataLoader(
        _Keys(),
        batch_size=4,
        sampler=range(len(store)),
        collate_fn=partial(whole_frames, store, config),
    )
