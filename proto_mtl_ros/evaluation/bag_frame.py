# SPDX-License-Identifier: Apache-2.0
"""The figures of one frame of a recording, as sums that can be added up later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proto_mtl_ros.data.bags.recorded_frames import RecordedFrame
from proto_mtl_ros.evaluation.depth_error import DepthFrameError, depth_error
from proto_mtl_ros.evaluation.stability import FrameStability
from proto_mtl_ros.geometry import Camera, resize, resize_to_width
from proto_mtl_ros.geometry.depth_cleaning import smooth_surroundings
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.runtime.predictor import Prediction
from proto_mtl_ros.tasks import NORMALS, named_task
from proto_mtl_ros.tasks.normals import NormalsMetric
from proto_mtl_ros.tasks.segmentation import SegmentationMetric

HALF_DEGREES = 360
"""Bins of the angles of normals."""

_DERIVED_WIDTH = 160
_DERIVED_WINDOW = 7
"""Normals are derived from depth at this width, in a window that gives within 0.3 degrees the mean
angle of one of 11 pixels at twice the width, in a quarter of the time."""


@dataclass(frozen=True)
class AngleSums:
    """Angles between two normal maps in degrees: their sum, number and histogram by half degrees,
    which ends with the last bin that is not empty."""

    total: float
    count: int
    histogram: list[int]

    @property
    def mean(self) -> float | None:
        """Degrees, None without a pixel."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True)
class FrameRecord:
    """The figures of a frame; None for what the model or the recording does not give.

    Attributes:
        stamp: nanoseconds.
        ms: milliseconds by stage.
        confidence: mean of the classes, 0..1.
        consistency: predicted normals against those of the predicted depth.
        normals: predicted normals against those of the measured depth; where that is not
            registered, of pixels with smooth surroundings alone.
        confusion: pixels by label and prediction, [C, C].
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
            consistency = _angles(own, _derived(prediction["depth"], small))
        if frame.depth is not None:
            truth = _derived(frame.depth, small)
            if not registered:
                nearest = resize(frame.depth, small.width, small.height, "nearest")
                truth[~smooth_surroundings(nearest)] = 0
            normals = _angles(own, truth)
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


def _angles(first: np.ndarray, second: np.ndarray) -> AngleSums:
    metric = NormalsMetric(NORMALS)
    metric.update(first, second)
    coarse = metric.histogram.reshape(HALF_DEGREES, -1).sum(1)
    return AngleSums(metric.total, metric.count, np.trim_zeros(coarse, "b").tolist())
