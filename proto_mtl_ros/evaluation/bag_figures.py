# SPDX-License-Identifier: Apache-2.0
"""The figures of a pass over a recording: of every frame, and of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.recorded_frames import RecordedFrame
from proto_mtl_ros.evaluation.depth_error import DepthComparison, DepthFrameError, depth_error
from proto_mtl_ros.evaluation.stability import FrameStability
from proto_mtl_ros.geometry import Camera, resize, resize_to_width
from proto_mtl_ros.geometry.depth_cleaning import smooth_surroundings
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.runtime.predictor import Prediction
from proto_mtl_ros.tasks import NORMALS, named_task
from proto_mtl_ros.tasks.normals import NormalsMetric
from proto_mtl_ros.tasks.segmentation import SegmentationMetric

_STAGES = ("preprocess", "infer", "postprocess")
_STEADY = ("followed", "flicker", "jitter", "motion")
_HALF_DEGREES = 360
_DERIVED_WIDTH = 160
_DERIVED_WINDOW = 7
"""Normals are derived from depth at this width, in a window that gives within 0.3 degrees the mean
angle of one of 11 pixels at twice the width, in a quarter of the time."""


@dataclass
class AngleSums:
    """Angles between normal maps in degrees: their sum, number and histogram by half degrees,
    which ends with the last bin that is not empty."""

    total: float = 0.0
    count: int = 0
    histogram: list[int] = field(default_factory=list)

    @classmethod
    def between(cls, first: np.ndarray, second: np.ndarray) -> AngleSums:
        """Compare the valid unit vectors of two maps, [H, W, 3]."""
        metric = NormalsMetric(NORMALS)
        metric.update(first, second)
        coarse = metric.histogram.reshape(_HALF_DEGREES, -1).sum(1)
        return cls(metric.total, metric.count, np.trim_zeros(coarse, "b").tolist())

    def add(self, other: AngleSums) -> None:
        """Add those of another frame."""
        self.total += other.total
        self.count += other.count
        pairs = zip_longest(self.histogram, other.histogram, fillvalue=0)
        self.histogram = [own + more for own, more in pairs]

    @property
    def mean(self) -> float | None:
        """Degrees, None without a pixel."""
        return self.total / self.count if self.count else None

    def figures(self) -> dict[str, Any] | None:
        """Return pixels, mean and median in degrees; None without a pixel."""
        if not self.count:
            return None
        half = int(np.searchsorted(np.cumsum(self.histogram), self.count / 2))
        median = (half + 0.5) * 180 / _HALF_DEGREES
        return {"pixels": self.count, "mean_deg": self.mean, "median_deg": median}


@dataclass(frozen=True)
class FrameRecord:
    """The figures of a frame; None for what the model or the recording does not give.

    ``stamp`` is in nanoseconds, ``ms`` by stage, ``confidence`` the mean of the classes, 0..1.
    ``normals`` are predicted ones against those of the measured depth; where that is not
    registered, of pixels with smooth surroundings alone. ``consistency`` is against the predicted
    depth. ``confusion``: pixels by label and prediction, [C, C].
    """

    stamp: int
    ms: dict[str, float]
    confidence: float | None = None
    stability: FrameStability | None = None
    depth: DepthFrameError | None = None
    normals: AngleSums | None = None
    consistency: AngleSums | None = None
    confusion: list[list[int]] | None = None


def frame_record(
    frame: RecordedFrame,
    prediction: Prediction,
    registered: bool,
    stability: FrameStability | None,
    classes: tuple[str, ...],
) -> FrameRecord:
    """Return the figures of a frame; ``registered``: its depth pixels are those of the image."""
    confidence = depth = normals = consistency = confusion = None
    if "confidence" in prediction:
        confidence = float(prediction["confidence"].mean()) / 255
    if "depth" in prediction and frame.depth is not None:
        depth = depth_error(prediction["depth"], frame.depth)
    camera = prediction.camera
    if "normals" in prediction and camera is not None:
        small, own = _small(camera, prediction["normals"])
        if "depth" in prediction:
            consistency = AngleSums.between(own, _derived(prediction["depth"], small))
        if frame.depth is not None:
            truth = _derived(frame.depth, small)
            if not registered:
                nearest = resize(frame.depth, small.width, small.height, "nearest")
                truth[~smooth_surroundings(nearest)] = 0
            normals = AngleSums.between(own, truth)
    if "segmentation" in prediction and frame.labels is not None:
        metric = SegmentationMetric(named_task("segmentation", classes))  # type: ignore[arg-type]
        metric.update(prediction["segmentation"], frame.labels)
        confusion = metric.confusion.tolist()
    ms = dict(prediction.timings)
    return FrameRecord(
        frame.stamp, ms, confidence, stability, depth, normals, consistency, confusion
    )


def _small(camera: Camera, normals: np.ndarray) -> tuple[Camera, np.ndarray]:
    """Return camera and normals at the size at which normals are compared."""
    if camera.width <= _DERIVED_WIDTH:
        return camera, normals
    small = resize_to_width(normals, _DERIVED_WIDTH, "nearest")
    return camera.resized(_DERIVED_WIDTH, small.shape[0]), small


def _derived(depth: np.ndarray, camera: Camera) -> np.ndarray:
    small = resize(depth, camera.width, camera.height, "nearest")
    known = np.nan_to_num(small, posinf=0, neginf=0)
    return depth_to_normals(known, camera, _DERIVED_WINDOW)


def bag_figures(records: Iterable[FrameRecord], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return all figures, ready for JSON, with those of every frame as a time series.

    Records come in the order of the recording; ``classes`` are the model's.
    """
    depth = DepthComparison()
    frames: list[FrameRecord] = []
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    normals, consistency = AngleSums(), AngleSums()
    for one in records:
        if one.depth is not None:
            depth.add(one.stamp, one.depth)
        if one.confusion is not None:
            confusion += np.array(one.confusion)
        if one.normals is not None:
            normals.add(one.normals)
        if one.consistency is not None:
            consistency.add(one.consistency)
        # what is large has been added up
        frames.append(replace(one, depth=one.depth and replace(one.depth, sums={}), confusion=None))
    steady = [one.stability for one in frames if one.stability is not None]
    series: dict[str, list[Any]] = {
        "seconds": [(one.stamp - frames[0].stamp) / 1e9 for one in frames],
        "ms": [sum(one.ms.values()) for one in frames],
        "abs_err": [one.depth and one.depth.abs_err for one in frames],
        "scale": [one.depth and one.depth.scale for one in frames],
        "confidence": [one.confidence for one in frames],
        "flicker": [one.stability and one.stability.flicker for one in frames],
        "jitter": [one.stability and one.stability.jitter for one in frames],
        "normals_deg": [one.normals and one.normals.mean for one in frames],
        "consistency_deg": [one.consistency and one.consistency.mean for one in frames],
    }
    means = {name: _mean([getattr(one, name) for one in steady]) for name in _STEADY}
    return {
        "frames": len(frames),
        "ms": {name: _spread([one.ms.get(name, 0.0) for one in frames]) for name in _STAGES},
        "depth": depth.figures() if depth.scales else None,
        "normals": normals.figures(),
        "consistency": consistency.figures(),
        "segmentation": _segmentation(confusion, classes) if confusion.any() else None,
        "confidence": _mean(series["confidence"]),
        "stability": {name: value for name, value in means.items() if value is not None},
        "time_series": series,
    }


def _segmentation(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    metric = SegmentationMetric(named_task("segmentation", classes))  # type: ignore[arg-type]
    metric.confusion = confusion
    per_class = {
        name: None if np.isnan(value) else value for name, value in metric.per_class().items()
    }
    return {**metric.compute(), "iou": per_class, "confusion": confusion.tolist()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95)} if values else None
