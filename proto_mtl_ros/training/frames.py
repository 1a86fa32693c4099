# SPDX-License-Identifier: Apache-2.0
"""Batches of augmented frames, as a pure function of (seed, epoch, frame).

Nothing here keeps a state between epochs, so a training resumed at an epoch's end continues with
exactly the frames it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.nyuv2 import NYUv2
from ..data.sample import as_arrays
from ..data.transforms import augment, resized
from ..tasks import Task
from .config import TrainConfig


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, index) in an order drawn from (seed, epoch); Lightning calls ``set_epoch``."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


class TrainingFrames(Dataset):
    """Augmented frames, addressed by (epoch, index)."""

    def __init__(self, frames: NYUv2, tasks: Sequence[Task], config: TrainConfig) -> None:
        self.frames, self.tasks, self.config = frames, tasks, config

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, object]:
        epoch, index = key
        stage, data = self.config.stage(epoch), self.config.data
        rng = np.random.default_rng([self.config.seed, epoch, index, 1])
        sample = augment(
            self.frames[index], rng, stage.width, stage.height, data.smallest_crop, data.colour
        )
        return as_arrays(sample, self.tasks, self.config.canonical_fx)


class EvaluationFrames(Dataset):
    """Whole frames at the bundle's input size; labels stay at that size too."""

    def __init__(self, frames: NYUv2, tasks: Sequence[Task], config: TrainConfig) -> None:
        self.frames, self.tasks, self.config = frames, tasks, config

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, object]:
        sample = resized(self.frames[index], self.config.input_width, self.config.input_height)
        return as_arrays(sample, self.tasks, self.config.canonical_fx)


def training_loader(frames: NYUv2, tasks: Sequence[Task], config: TrainConfig) -> DataLoader:
    """Return the shuffled loader; the last batch of an epoch is dropped when it is not full.

    Frames are prepared in this process: that takes 3 % of a step on two cores, and a forked worker
    can deadlock in the threads of OpenCV and torch.
    """
    return DataLoader(
        TrainingFrames(frames, tasks, config),
        batch_size=config.optimiser.batch,
        sampler=EpochSampler(len(frames), config.seed),
        drop_last=True,
    )


def evaluation_loader(frames: NYUv2, tasks: Sequence[Task], config: TrainConfig) -> DataLoader:
    """Return the loader of whole frames in order."""
    return DataLoader(EvaluationFrames(frames, tasks, config), batch_size=4, num_workers=0)
