# SPDX-License-Identifier: Apache-2.0
"""The figures of one frame of a recording, as sums that can be added up later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from proto_mtl_ros.evaluation.depth_error import depth_error
from proto_mtl_ros.evaluation.stability import FrameStability
from proto_mtl_ros.geometry import (
    Camera,
    depth_to_normals,
    resize,
    resize_to_width,
)
from proto_mtl_ros.geometry.depth_cleaning import smooth_surroundings
from proto_mtl_ros.runtime.predictor import Prediction
from proto_mtl_ros.tasks import (
    NORMALS,
    named_task,
)
from proto_mtl_ros.tasks.normals import NormalsMetric
from proto_mtl_ros.tasks.segmentation import SegmentationMetric

HALF_DEGREES = 360
"""Bins of the angles of normals."""

_DERIVED_WIDTH = 160
_DERIVED_WINDOW = 7
"""Normals are derived from depth at this width, in a window that gives within 0.3 degrees the mean
angle of one of 11 pixels at twice the width, in a quarter of the time."""


@dataclass(frozen=True)
class Measured:
    """What a frame is compared with; all at the size of the image, or None.

    Attributes:
        depth: float32 [H, W] metres, invalid where not finite or not positive.
        registered: whether its pixels are those of the image.
        labels: class ids uint8 [H, W], 255 = unlabelled.
    """

    depth: np.ndarray | None = None
    registered: bool = True
    labels: np.ndarray | None = None


def frame_record(
    stamp: int,
    prediction: Prediction,
    measured: Measured,
    stability: FrameStability | None,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Return the figures of a frame, ready for JSON.

    ``consistency``: angle between the predicted normals and those of the predicted depth.
    ``normals``: angle between the predicted normals and those of the measured depth; where that is
    not registered, of pixels with smooth surroundings alone.
    """
    record: dict[str, Any] = {"stamp": stamp, "ms": dict(prediction.timings)}
    if "confidence" in prediction:
        record["confidence"] = float(prediction["confidence"].mean()) / 255
    if stability is not None:
        record["stability"] = {
            name: None if np.isnan(value) else value for name, value in vars(stability).items()
        }
    if "depth" in prediction and measured.depth is not None:
        record["depth"] = depth_error(prediction["depth"], measured.depth).record()
    camera = prediction.camera
    if "normals" in prediction and camera is not None:
        small, normals = _small(camera, prediction["normals"])
        if "depth" in prediction:
            record["consistency"] = _angles(normals, _derived(prediction["depth"], small))
        if measured.depth is not None:
            truth = _derived(measured.depth, small)
            if not measured.registered:
                depth = resize(measured.depth, small.width, small.height, "nearest")
                truth[~smooth_surroundings(depth)] = 0
            record["normals"] = _angles(normals, truth)
    if "segmentation" in prediction and measured.labels is not None:
        metric = SegmentationMetric(named_task("segmentation", classes))  # type: ignore[arg-type]
        metric.update(prediction["segmentation"], measured.labels)
        record["confusion"] = metric.confusion.tolist()
    return record


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


def _angles(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return sum, count and histogram of the angles between two normal maps in degrees."""
    metric = NormalsMetric(NORMALS)
    metric.update(first, second)
    coarse = metric.histogram.reshape(HALF_DEGREES, -1).sum(1)
    filled = np.flatnonzero(coarse)
    last = int(filled[-1]) + 1 if len(filled) else 0
    return {"sum": metric.total, "count": metric.count, "histogram": coarse[:last].tolist()}
