# SPDX-License-Identifier: Apache-2.0
"""A depth image as another camera would have measured it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera
from proto_mtl_ros.geometry.depth import depth_to_points


def rigid_transform(
    translation: npt.ArrayLike, quaternion: npt.ArrayLike = (0, 0, 0, 1)
) -> npt.NDArray[np.float64]:
    """Return the 4x4 matrix of a translation (x, y, z) in metres and a rotation (x, y, z, w);
    ValueError where the quaternion is zero, or numbers are missing.
    """
    moved = np.asarray(translation, np.float64).reshape(-1)
    turn = np.asarray(quaternion, np.float64).reshape(-1)
    if moved.shape != (3,) or turn.shape != (4,) or not np.isfinite([*moved, *turn]).all():
        raise ValueError("a transform is a translation of 3 and a quaternion of 4 numbers")
    length = float(np.linalg.norm(turn))
    if length < 1e-6:
        raise ValueError("the quaternion of a transform is zero")
    x, y, z, w = turn / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = moved
    return matrix


def register_depth(
    depth: npt.NDArray[np.floating[Any]],
    depth_camera: Camera,
    camera: Camera,
    transform: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Return ``depth`` as seen by ``camera``, float32 [H, W] in metres, NaN where nothing is.

    Every measured pixel becomes a point, and the nearest point that falls into a pixel counts. A
    pixel of the depth image covers as many pixels here as it is larger, so that a finer image gets
    no holes from it. The transform is 4x4, from the frame of the depth camera to that of the other,
    both optical. ValueError where depth and depth_camera differ in size.
    """
    points: Any = depth_to_points(depth, depth_camera).reshape(-1, 3)
    points = points[np.isfinite(points).all(1)].astype(np.float64)
    points = points @ transform[:3, :3].T + transform[:3, 3]
    points = points[points[:, 2] > 0]
    result = np.full(camera.height * camera.width, np.inf)
    if len(points):
        pixels = camera.project(points)
        # how far a pixel of the depth camera reaches, in pixels of the other; a little more, as
        # a surface that is turned or nearer is spread wider
        reach = 0.65 * max(1.0, camera.fx / depth_camera.fx, camera.fy / depth_camera.fy)
        spread = range(int(np.ceil(2 * reach)))
        corner = np.ceil(pixels - reach)
        for down in spread:
            for right in spread:
                u, v = corner[:, 0] + right, corner[:, 1] + down
                inside = (
                    (np.abs(u - pixels[:, 0]) <= reach)
                    & (np.abs(v - pixels[:, 1]) <= reach)
                    & (u >= 0)
                    & (u < camera.width)
                    & (v >= 0)
                    & (v < camera.height)
                )
                index = (v[inside] * camera.width + u[inside]).astype(np.intp)
                np.minimum.at(result, index, points[inside, 2])
    result[np.isinf(result)] = np.nan
    return result.reshape(camera.height, camera.width).astype(np.float32)
