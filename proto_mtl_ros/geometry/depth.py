# SPDX-License-Identifier: Apache-2.0
"""Points of a depth image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera


def valid_depth(depth: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Mask of depths that are finite and positive."""
    return np.isfinite(depth) & (depth > 0)


def depth_to_points(
    depth: npt.NDArray[np.floating[Any]], camera: Camera
) -> npt.NDArray[np.float32]:
    """Points, float32 [H, W, 3] in metres in the optical frame, of a depth image [H, W].

    Depth is along the optical axis. Pixels without valid depth, or without a ray, are NaN in all
    three coordinates. ValueError where depth and camera differ in size.
    """
    check_size(depth, camera)
    z = np.where(valid_depth(depth), depth, np.nan).astype(np.float32)
    # OpenCV, as numpy takes three times as long to repeat a number over three
    points: Any = cv2.multiply(camera.rays(), cv2.merge([z, z, z]))
    if camera.distorted:
        # A pixel without a ray has x and y of NaN, and its depth tells nothing.
        points[np.isnan(points[..., 0]), 2] = np.nan
    return points


def check_size(depth: npt.NDArray[Any], camera: Camera) -> None:
    """Raise ValueError unless depth is a map [H, W] of the camera's size."""
    if depth.shape != (camera.height, camera.width):
        raise ValueError(
            f"depth has shape {depth.shape}, the camera is {camera.height} high and "
            f"{camera.width} wide"
        )
