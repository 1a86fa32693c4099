# SPDX-License-Identifier: Apache-2.0
"""The figures of a whole recording from those of its frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from proto_mtl_ros.evaluation.bag_frame import HALF_DEGREES
from proto_mtl_ros.evaluation.depth_error import (
    DepthComparison,
    DepthFrameError,
)
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.tasks.segmentation import SegmentationMetric

_STAGES = ("preprocess", "infer", "postprocess")


def bag_figures(records: Iterable[Mapping[str, Any]], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return all figures and their course over time, ready for JSON.

    Args:
        records: of ``bag_frame.frame_record``, in the order of the recording.
        classes: of the model.
    """
    depth = DepthComparison()
    angles = {"normals": _Angles(), "consistency": _Angles()}
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    labelled = 0
    course: dict[str, list[float | None]] = {
        name: []
        for name in ("seconds", "ms", "abs_err", "scale", "confidence", "flicker", "jitter",
                     "normals_deg", "consistency_deg")
    }  # fmt: skip
    stages: dict[str, list[float]] = {name: [] for name in _STAGES}
    stability: dict[str, list[float]] = {}
    first: int | None = None
    frames = 0
    for record in records:
        frames += 1
        first = record["stamp"] if first is None else first
        for name, values in stages.items():
            values.append(record["ms"].get(name, 0.0))
        for name, value in record.get("stability", {}).items():
            if value is not None:
                stability.setdefault(name, []).append(value)
        if "depth" in record:
            depth.add_error(record["stamp"], DepthFrameError.of_record(record["depth"]))
        for name, of in angles.items():
            if name in record:
                of.add(record[name])
        if "confusion" in record:
            confusion += np.array(record["confusion"])
            labelled += 1
        own = record.get("depth", {})
        course["seconds"].append((record["stamp"] - first) / 1e9)
        course["ms"].append(sum(record["ms"].values()))
        course["abs_err"].append(own.get("abs_err"))
        course["scale"].append(own.get("scale"))
        course["confidence"].append(record.get("confidence"))
        for name in ("flicker", "jitter"):
            course[name].append(record.get("stability", {}).get(name))
        for name in angles:
            course[f"{name}_deg"].append(_mean_angle(record.get(name)))
    confidences = [value for value in course["confidence"] if value is not None]
    return {
        "frames": frames,
        "ms": {name: _spread(values) for name, values in stages.items()},
        "depth": depth.figures() if depth.scales else None,
        "normals": angles["normals"].figures(),
        "consistency": angles["consistency"].figures(),
        "segmentation": _segmentation(confusion, classes) if labelled else None,
        "confidence": float(np.mean(confidences)) if confidences else None,
        "stability": {name: float(np.mean(values)) for name, values in stability.items()},
        "course": course,
    }


class _Angles:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0
        self.histogram = np.zeros(HALF_DEGREES, np.int64)

    def add(self, own: Mapping[str, Any]) -> None:
        self.total += own["sum"]
        self.count += own["count"]
        self.histogram[: len(own["histogram"])] += np.array(own["histogram"], np.int64)

    def figures(self) -> dict[str, Any] | None:
        if not self.count:
            return None
        half = int(np.searchsorted(np.cumsum(self.histogram), self.count / 2))
        return {
            "pixels": self.count,
            "mean_deg": self.total / self.count,
            "median_deg": (half + 0.5) * 180 / HALF_DEGREES,
        }


def _mean_angle(own: Mapping[str, Any] | None) -> float | None:
    return own["sum"] / own["count"] if own and own["count"] else None


def _segmentation(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    metric = SegmentationMetric(named_task("segmentation", classes))  # type: ignore[arg-type]
    metric.confusion = confusion
    per_class = {
        name: None if np.isnan(value) else value for name, value in metric.per_class().items()
    }
    return {**metric.compute(), "iou": per_class, "confusion": confusion.tolist()}


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95)}
