# SPDX-License-Identifier: Apache-2.0
"""What labels a source has: how many, how they overlap, which classes and depths they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from proto_mtl_ros.data.sample import FrameSource, Sample
from proto_mtl_ros.tasks import TASKS

ENOUGH_OVERLAP = 0.30
"""Below this overlap of two tasks' labelled frames, measures of task affinity that compare the
tasks' gradients say more about the frames than about the tasks (arXiv 2604.07848)."""

_PIXEL_STEP = 4
_DEPTH_STEP, _DEPTH_BINS = 0.1, 3000
"""Depths are counted in decimetres up to 300 m."""


@dataclass(frozen=True)
class Overlap:
    """Frames labelled for both and for at least one of two tasks."""

    both: int
    either: int

    @property
    def jaccard(self) -> float:
        """Part of the frames of either task that both have, 0 when there is none."""
        return self.both / self.either if self.either else 0.0


@dataclass(frozen=True)
class LabelCounts:
    """Counts over all frames, without decoding an image: frames by the task they are labelled for,
    by their combination of tasks (the most frequent first), and how pairs of tasks overlap.
    """

    frames: int
    labelled: dict[str, int]
    combinations: dict[tuple[str, ...], int]
    overlap: dict[tuple[str, str], Overlap]

    @property
    def sparse_pairs(self) -> list[tuple[str, str]]:
        return [pair for pair, o in self.overlap.items() if o.jaccard < ENOUGH_OVERLAP]


@dataclass
class PixelCounts:
    """Counts over the pixels of some frames, every fourth in both directions: int64 [classes],
    depth in steps of a decimetre, frames by (width, height, fx).
    """

    class_pixels: np.ndarray
    frames: int = 0
    unlabelled_pixels: int = 0
    depth_bins: np.ndarray = field(default_factory=lambda: np.zeros(_DEPTH_BINS, np.int64))
    sizes: Counter[tuple[int, int, float]] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        self.frames += 1
        camera = sample.camera
        self.sizes[(camera.width, camera.height, round(camera.fx, 1))] += 1
        every = (slice(None, None, _PIXEL_STEP), slice(None, None, _PIXEL_STEP))
        if "segmentation" in sample.labels:
            counts = np.bincount(sample.labels["segmentation"][every].ravel(), minlength=256)
            self.class_pixels += counts[: len(self.class_pixels)]
            self.unlabelled_pixels += int(counts[len(self.class_pixels) :].sum())
        if "depth" in sample.labels:
            depth = sample.labels["depth"][every]
            bins = (depth[TASKS["depth"].valid(depth)] / _DEPTH_STEP).astype(np.int64)
            self.depth_bins += np.bincount(np.minimum(bins, _DEPTH_BINS - 1), minlength=_DEPTH_BINS)

    @property
    def class_shares(self) -> np.ndarray:
        """Part of the labelled pixels, float64 [classes]; zeros without any."""
        return self.class_pixels / max(int(self.class_pixels.sum()), 1)

    def depth_quantile(self, part: float) -> float | None:
        """Return the depth in metres that this part of the pixels lies within, None without any."""
        total = int(self.depth_bins.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.depth_bins), part * total))
        return (min(place, _DEPTH_BINS - 1) + 1) * _DEPTH_STEP

    def depth_histogram(self, bars: int = 24) -> tuple[list[int], list[float]]:
        """Return parts per thousand of the pixels and the edges in metres of about ``bars`` bars;
        the farthest 0.2 % are in the last one.
        """
        far = self.depth_quantile(0.998)
        if far is None:
            return [], []
        steps = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200) if far / (s * 0.1) <= bars)
        count = int(np.ceil(far / (steps * _DEPTH_STEP) - 1e-9))
        sums = [int(self.depth_bins[i * steps : (i + 1) * steps].sum()) for i in range(count)]
        sums[-1] += int(self.depth_bins[count * steps :].sum())
        total = sum(sums)
        edges = [round(i * steps * _DEPTH_STEP, 1) for i in range(count + 1)]
        return [round(1000 * value / total) for value in sums], edges


def count_labels(source: FrameSource) -> LabelCounts:
    """Return how many frames have which labels."""
    sets = [source.has(frame_id) for frame_id in source.frame_ids]
    overlap = {}
    for first, second in combinations(source.tasks, 2):
        either = sum(first in s or second in s for s in sets)
        overlap[(first, second)] = Overlap(sum(first in s and second in s for s in sets), either)
    return LabelCounts(
        frames=len(sets),
        labelled={task: sum(task in s for s in sets) for task in source.tasks},
        combinations=dict(Counter(sets).most_common()),
        overlap=overlap,
    )


def count_pixels(
    source: FrameSource, indices: Iterable[int], done: Callable[[int], None] = lambda _: None
) -> PixelCounts:
    """Return the classes and depths of the frames at ``indices``."""
    counts = PixelCounts(np.zeros(len(source.label_set.classes), np.int64))
    for index in indices:
        counts.add(source[index])
        done(1)
    return counts


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` indices, evenly spread."""
    if count <= most:
        return list(range(count))
    return [int((place + 0.5) * count / most) for place in range(most)]


def examples(source: FrameSource, count: int) -> list[int]:
    """Return indices of frames to show: every combination of labels in turn, spread evenly."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, frame_id in enumerate(source.frame_ids):
        groups.setdefault(source.has(frame_id), []).append(index)
    ranked: Sequence[list[int]] = sorted(groups.values(), key=len, reverse=True)
    each = -(-count // max(len(ranked), 1))
    turns = [[group[place] for place in spread(len(group), each)] for group in ranked]
    mixed = [turn[i] for i in range(each) for turn in turns if i < len(turn)]
    return mixed[:count]
