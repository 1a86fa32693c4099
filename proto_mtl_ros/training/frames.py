# SPDX-License-Identifier: Apache-2.0
"""Which frames make which batch, as a pure function of (seed, step).

Nothing here keeps a state, so a continued training goes on with exactly the frames that it would
have seen, and any number of processes share a batch in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from proto_mtl_ros.training.augmentation import (
    Crop,
    jitter_colours,
)
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.store import FrameStore

Key = tuple[int, int, int]
"""Epoch, pass over the frames, index of the frame."""


class EpochBatches(Sampler[list[Key]]):
    """Batches of one epoch; Lightning calls ``set_epoch``.

    The frames are gone through in passes, each in its own random order; an epoch is a number of
    steps, not a pass, so that a run with fewer frames takes as many steps as one with more.

    Args:
        length: number of frames.
        steps: batches per epoch.
        batch: frames of a batch, of all processes together.
        seed: of the orders.
        rank, world: this process takes every ``world``-th frame of a batch.
        parts: a batch comes in this many parts, one after the other.
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
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        number, order = -1, np.empty(0, np.int64)
        start = self.epoch * self.steps * self.batch
        for step in range(self.steps):
            keys: list[Key] = []
            for draw in range(start + step * self.batch, start + (step + 1) * self.batch):
                if draw // self.length != number:
                    number = draw // self.length
                    order = np.random.default_rng([self.seed, number]).permutation(self.length)
                keys.append((self.epoch, number, int(order[draw % self.length])))
            size = self.batch // self.parts
            for part in range(self.parts):
                yield keys[part * size : (part + 1) * size][self.rank :: self.world]


class _Keys(Dataset):
    """Hands the keys of a batch through to the function that cuts the batch as a whole."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Any) -> Any:
        return key


class TrainingBatches:
    """Cuts and colours the batches of a training.

    Args:
        store: the frames.
        config: the run.
    """

    def __init__(self, store: FrameStore, config: TrainConfig) -> None:
        self.store, self.config = store, config

    def __call__(self, keys: Sequence[Key]) -> dict[str, Any]:
        config, stage = self.config, self.config.stage(keys[0][0])
        crops = [
            Crop.draw(
                np.random.default_rng([config.seed, number, index, 1]),
                config.data.smallest_crop,
                config.data.largest_crop,
            )
            for _, number, index in keys
        ]
        batch = self.store.batch(
            [index for _, _, index in keys], crops, stage.height, stage.width, config.canonical_fx
        )
        batch["image"] = jitter_colours(batch["image"], crops, config.data.colour)
        return batch


class WholeFrames:
    """Whole frames at the bundle's input size; labels stay at that size too."""

    def __init__(self, store: FrameStore, config: TrainConfig) -> None:
        self.store, self.config = store, config

    def __call__(self, indices: Sequence[int]) -> dict[str, Any]:
        config = self.config
        batch = self.store.batch(
            list(indices),
            [Crop()] * len(indices),
            config.input_height,
            config.input_width,
            config.canonical_fx,
        )
        batch["image"] = jitter_colours(batch["image"], [Crop()] * len(indices), 0.0)
        return batch


def training_loader(
    store: FrameStore, config: TrainConfig, steps: int, rank: int = 0, world: int = 1
) -> DataLoader:
    """Return the loader of ``steps`` shuffled batches per epoch.

    Batches are cut in this process: that takes a few percent of a step even on two cores, and a
    forked worker can deadlock in the threads of OpenCV and torch.
    """
    return DataLoader(
        _Keys(len(store)),
        batch_sampler=EpochBatches(
            len(store),
            steps,
            config.optimiser.batch,
            config.seed,
            rank,
            world,
            config.optimiser.accumulate,
        ),
        collate_fn=TrainingBatches(store, config),
    )


def evaluation_loader(store: FrameStore, config: TrainConfig) -> DataLoader:
    """Return the loader of whole frames in order."""
    return DataLoader(
        _Keys(len(store)),
        batch_size=4,
        sampler=range(len(store)),
        collate_fn=WholeFrames(store, config),
    )
