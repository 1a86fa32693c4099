# SPDX-License-Identifier: Apache-2.0
"""The figures of a whole recording from those of its frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proto_mtl_ros.evaluation.bag_frame import HALF_DEGREES, AngleSums, FrameRecord
from proto_mtl_ros.evaluation.depth_error import DepthComparison
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.tasks.segmentation import SegmentationMetric

_STAGES = ("preprocess", "infer", "postprocess")
_STEADY = ("followed", "flicker", "jitter", "motion")


def bag_figures(records: Iterable[FrameRecord], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return all figures, ready for JSON, with those of every frame as a time series.

    Args:
        records: in the order of the recording.
        classes: of the model.
    """
    depth = DepthComparison()
    frames: list[FrameRecord] = []
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    normals, consistency = _Angles(), _Angles()
    for one in records:
        if one.depth is not None:
            depth.add(one.stamp, one.depth)
        if one.confusion is not None:
            confusion += np.array(one.confusion)
        normals.add(one.normals)
        consistency.add(one.consistency)
        frames.append(_without_sums(one))
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


def _without_sums(record: FrameRecord) -> FrameRecord:
    """Return a record without what is large and has been added up."""
    depth = record.depth and replace(record.depth, sums={})
    return replace(record, depth=depth, confusion=None)


class _Angles:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0
        self.histogram = np.zeros(HALF_DEGREES, np.int64)

    def add(self, own: AngleSums | None) -> None:
        if own is not None:
            self.total += own.total
            self.count += own.count
            self.histogram[: len(own.histogram)] += np.array(own.histogram, np.int64)

    def figures(self) -> dict[str, Any] | None:
        if not self.count:
            return None
        half = int(np.searchsorted(np.cumsum(self.histogram), self.count / 2))
        return {
            "pixels": self.count,
            "mean_deg": self.total / self.count,
            "median_deg": (half + 0.5) * 180 / HALF_DEGREES,
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
