# SPDX-License-Identifier: Apache-2.0
"""Normals labels that follow from depth labels."""

from __future__ import annotations

import cv2
import numpy as np

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.geometry import height_at, resize
from proto_mtl_ros.geometry.normals import depth_to_normals

_WIDTH = 320  # a quarter of the time of 640 pixels, and more than a training looks at
_WINDOW = 7
_PASSES = 40
_SIGMA = 1.5


def normals_of_depth(sample: Sample, step: float = 0.0) -> np.ndarray:
    """Return unit normals float32 [H, W, 3] of the sample's depth label; (0, 0, 0) is invalid.

    Args:
        sample: with a depth label in metres.
        step: quantisation of the label in metres. The staircase that it makes of a slanted plane
            is relaxed first: smoothed again and again, never leaving the step.
    """
    depth, camera = sample.labels["depth"], sample.camera
    height, width = depth.shape
    if width > _WIDTH:
        camera = camera.resized(_WIDTH, height_at(_WIDTH, depth))
        depth = resize(depth, camera.width, camera.height, "nearest")
    valid = np.isfinite(depth) & (depth > 0)
    depth = np.where(valid, depth, 0).astype(np.float32)
    noise: float | np.ndarray = 0.002
    if step > 0:
        low, high, smooth = depth - step / 2, depth + step / 2, depth
        weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), _SIGMA)
        for _ in range(_PASSES):
            blurred = cv2.GaussianBlur(np.where(valid, smooth, 0), (0, 0), _SIGMA)
            smooth = np.clip(blurred / np.maximum(weight, 1e-6), low, high)
        depth = np.where(valid, smooth, 0).astype(np.float32)
        # relative to inverse depth, and what is left of the step after relaxing
        noise = (0.7 * step / np.maximum(depth, 0.1)).astype(np.float32)
    normals = depth_to_normals(depth, camera, window=_WINDOW, noise=noise)
    return resize(normals, width, height, "nearest")
