# SPDX-License-Identifier: Apache-2.0
"""Figures for each kind of task, accumulated over a set of frames. numpy only.

Segmentation: mean IoU over the classes that occur, from one confusion matrix over the whole set.
Depth: sums over all valid pixels of the set. Normals: mean, median and shares of the angle.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from proto_mtl_ros.tasks import (
    Binary,
    Categorical,
    Scalar,
    Task,
    UnitVector,
)


class Metric(Protocol):
    """Accumulates predictions against labels."""

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add one frame."""

    def compute(self) -> dict[str, float]:
        """Return the figures; NaN where nothing was valid."""


class SegmentationMetric:
    """mIoU and pixel accuracy; ids uint8 [H, W] against labels uint8 [H, W], 255 ignored."""

    def __init__(self, task: Categorical) -> None:
        self.task = task
        self.confusion = np.zeros((task.channels, task.channels), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        count = self.task.channels
        valid = (label < count) & (prediction < count)
        flat = label[valid].astype(np.int64) * count + prediction[valid]
        self.confusion += np.bincount(flat, minlength=count * count).reshape(count, count)

    def per_class(self) -> dict[str, float]:
        """Return the IoU of every class; NaN for one that neither occurs nor is predicted."""
        hit = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hit
        iou = np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)
        return dict(zip(self.task.classes, iou.tolist(), strict=True))

    def compute(self) -> dict[str, float]:
        total = self.confusion.sum()
        if total == 0:
            return {"miou": float("nan"), "pixel_accuracy": float("nan")}
        return {
            "miou": float(np.nanmean(list(self.per_class().values()))),
            "pixel_accuracy": float(np.trace(self.confusion) / total),
        }


class DepthMetric:
    """Absolute and relative error, RMSE, delta thresholds; float32 [H, W] in metres."""

    def __init__(self, task: Scalar) -> None:
        self.task = task
        self.sums = np.zeros(7, np.float64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        valid = self.task.valid(label) & self.task.valid(prediction)
        self.sums += self.terms(prediction[valid], label[valid]).sum(1)

    @staticmethod
    def terms(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return what each of N valid pixels adds to ``sums``, float64 [7, N]."""
        p, t = prediction.astype(np.float64), label.astype(np.float64)
        error = np.abs(p - t)
        ratio = np.maximum(p / t, t / p)
        within = [ratio < limit for limit in (1.25, 1.25**2, 1.25**3)]
        return np.stack([error, error / t, error * error, *within, np.ones_like(t)])

    def compute(self) -> dict[str, float]:
        count = self.sums[-1]
        mean = self.sums[:-1] / count if count else np.full(6, np.nan)
        mean[2] = np.sqrt(mean[2])
        return dict(zip(self.task.metrics, mean.tolist(), strict=True))


class NormalsMetric:
    """Angle between unit vectors [H, W, 3] in degrees; the median from 0.1 degree bins."""

    _BINS = 1800

    def __init__(self, task: UnitVector) -> None:
        self.task = task
        self.total, self.count = 0.0, 0
        self.histogram = np.zeros(self._BINS, np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        valid = self.task.valid(label) & self.task.valid(prediction)
        p, t = prediction[valid].astype(np.float64), label[valid].astype(np.float64)
        along, own, other = (np.einsum("nc,nc->n", a, b) for a, b in ((p, t), (p, p), (t, t)))
        cosine = along / np.sqrt(own * other)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        self.total += float(angle.sum())
        self.count += len(angle)
        index = np.minimum((angle * self._BINS / 180).astype(np.int64), self._BINS - 1)
        self.histogram += np.bincount(index, minlength=self._BINS)

    def compute(self) -> dict[str, float]:
        if not self.count:
            return dict.fromkeys(self.task.metrics, float("nan"))
        cumulative = np.cumsum(self.histogram) / self.count
        upper = (np.arange(self._BINS) + 1) * 180 / self._BINS

        def within(degrees: float) -> float:
            return float(np.interp(degrees, np.r_[0, upper], np.r_[0, cumulative]))

        return {
            "mean_deg": self.total / self.count,
            "median_deg": float(upper[int(np.searchsorted(cumulative, 0.5))] - 90 / self._BINS),
            "within_11": within(11.25),
            "within_22": within(22.5),
            "within_30": within(30.0),
        }


class BinaryMetric:
    """Largest F-measure over all thresholds; probability [H, W] against 0/1, 255 ignored."""

    def __init__(self, task: Binary) -> None:
        self.task = task
        self.counts = np.zeros((2, 256), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        valid = self.task.valid(label)
        level = np.clip(prediction[valid] * 255, 0, 255).astype(np.int64)
        flat = label[valid].astype(np.int64) * 256 + level
        self.counts += np.bincount(flat, minlength=512).reshape(2, 256)

    def compute(self) -> dict[str, float]:
        false, true = np.cumsum(self.counts[:, ::-1], axis=1)
        total = true[-1]
        if not total:
            return {"max_f": float("nan")}
        # F = 2 TP / (2 TP + FP + FN), and TP + FN is all that is positive
        return {"max_f": float((2 * true / (true + false + total)).max())}


def metric_for(task: Task) -> Metric:
    """Return an empty metric of the kind that ``task`` needs."""
    if isinstance(task, Categorical):
        return SegmentationMetric(task)
    if isinstance(task, Scalar):
        return DepthMetric(task)
    if isinstance(task, UnitVector):
        return NormalsMetric(task)
    if isinstance(task, Binary):
        return BinaryMetric(task)
    raise ValueError(f"no metric for task {task.name!r} of kind {type(task).__name__}")
