# SPDX-License-Identifier: Apache-2.0
"""Surface normals of a depth image by local plane fits in inverse depth.

The inverse depth of a plane n . p = d is linear in the ray (x, y, 1): 1 / z = (n / d) . (x, y, 1).
A least-squares fit in a window of pixels therefore gives the plane exactly, however steep, and
inverse depth is also where the noise of stereo and structured light is even.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera
from proto_mtl_ros.geometry.depth import check_size, valid_depth

FloatArray = npt.NDArray[np.float64]

# The least spread of a window's valid pixels along its narrow direction, in pixels squared: a
# single line of pixels says nothing about the slope across it.
_MIN_SPREAD = 0.4
# A shifted window is taken only when its residual variance is this many times smaller.
_PREFERENCE = 2.0


def depth_to_normals(
    depth: npt.NDArray[np.floating[Any]],
    camera: Camera,
    window: int = 7,
    noise: float = 0.001,
    max_residual: float = 0.05,
    min_valid: float = 0.3,
) -> npt.NDArray[np.float32]:
    """Unit normals, float32 [H, W, 3], of a depth image [H, W] in metres.

    Normals are in the optical frame and face the camera: n . p < 0 for the pixel's viewing ray p.
    (0, 0, 0) marks pixels without depth or without a plane that explains their window.

    At a step or a crease the window is moved off the centre: of the window around the pixel and
    the eight that have the pixel on their border, the one that is planar is taken. For every
    straight edge one of the eight lies on the pixel's side alone.

    Args:
        window: odd width of the window in pixels; larger for noisier depth.
        noise: residual (RMS, relative to inverse depth) that counts as planar, so that sensor
            noise and quantisation do not make windows move.
        max_residual: a window that fits worse than this is no plane.
        min_valid: least part of a window's pixels with valid depth.

    Raises:
        ValueError: depth and camera differ in size, or the window is even or below 3.
    """
    check_size(depth, camera)
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window is {window}, an odd number of 3 or more is needed")
    mask = valid_depth(depth)
    rays = camera.rays()
    if camera.distorted:
        mask &= np.isfinite(rays[..., 0])
    inverse = np.zeros(depth.shape)
    np.divide(1.0, depth, out=inverse, where=mask)
    slope_u, slope_v, value, residual = _fit_planes(inverse, mask, window, min_valid)
    plane = _planes_in_rays(slope_u, slope_v, value, camera)
    index = _best_windows(residual, inverse, window // 2, noise)
    chosen = plane.reshape(-1, 3)[index].reshape(*depth.shape, 3)
    # The plane's inverse depth at the pixel is positive unless noise rules; the sign keeps
    # n . ray negative in either case.
    facing = chosen[..., 0] * rays[..., 0] + chosen[..., 1] * rays[..., 1] + chosen[..., 2]
    length = np.sqrt(np.einsum("hwc,hwc->hw", chosen, chosen))
    limit = (max_residual * inverse) ** 2
    valid = mask & (residual.reshape(-1)[index].reshape(depth.shape) <= limit) & (length > 0)
    normals = np.zeros((*depth.shape, 3), np.float32)
    scale = np.zeros(depth.shape)
    np.divide(-np.sign(facing), length, out=scale, where=valid)
    np.multiply(chosen, scale[..., None], out=normals, where=valid[..., None], casting="same_kind")
    return normals


def _fit_planes(
    inverse: FloatArray, mask: npt.NDArray[np.bool_], window: int, min_valid: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Least-squares planes 1/z = slope_u du + slope_v dv + value around every pixel.

    Returns:
        slope_u, slope_v (per pixel), value at the window's centre, and the residual variance,
        each float64 [H, W]; the residual is inf where too few pixels are valid.
    """
    radius = window // 2
    ones = np.ones(window)
    offset = np.arange(-radius, radius + 1, dtype=np.float64)

    def total(values: FloatArray, kernel_u: FloatArray, kernel_v: FloatArray) -> FloatArray:
        # Offsets from the centre, not pixel coordinates: no cancellation of large sums.
        return cv2.sepFilter2D(
            values, cv2.CV_64F, kernel_u, kernel_v, borderType=cv2.BORDER_CONSTANT
        )

    weight = mask.astype(np.float64)
    count = total(weight, ones, ones)
    enough = count >= max(min_valid * window * window, 3)
    inv_count = np.zeros_like(count)
    np.divide(1.0, count, out=inv_count, where=enough)
    mean_u = total(weight, offset, ones) * inv_count
    mean_v = total(weight, ones, offset) * inv_count
    mean_w = total(inverse, ones, ones) * inv_count
    var_u = total(weight, offset**2, ones) * inv_count - mean_u * mean_u
    var_v = total(weight, ones, offset**2) * inv_count - mean_v * mean_v
    cov_uv = total(weight, offset, offset) * inv_count - mean_u * mean_v
    cov_uw = total(inverse, offset, ones) * inv_count - mean_u * mean_w
    cov_vw = total(inverse, ones, offset) * inv_count - mean_v * mean_w
    var_w = total(inverse * inverse, ones, ones) * inv_count - mean_w * mean_w
    determinant = var_u * var_v - cov_uv * cov_uv
    # determinant / trace is close to (and never above) the smaller eigenvalue.
    good = enough & (determinant > _MIN_SPREAD * (var_u + var_v))
    inv_determinant = np.zeros_like(count)
    np.divide(1.0, determinant, out=inv_determinant, where=good)
    slope_u = (cov_uw * var_v - cov_vw * cov_uv) * inv_determinant
    slope_v = (cov_vw * var_u - cov_uw * cov_uv) * inv_determinant
    value = mean_w - slope_u * mean_u - slope_v * mean_v
    residual = np.maximum(var_w - slope_u * cov_uw - slope_v * cov_vw, 0)
    return slope_u, slope_v, value, np.where(good, residual, np.inf)


def _planes_in_rays(
    slope_u: FloatArray, slope_v: FloatArray, value: FloatArray, camera: Camera
) -> FloatArray:
    """Coefficients (a, b, c) of 1/z = a x + b y + c in rays, float64 [H, W, 3]."""
    rays = camera.rays()
    plane = np.empty((*value.shape, 3))
    if camera.distorted:
        # Within a window the lens is affine: its derivative turns slopes per pixel into slopes
        # per ray.
        xu, xv = np.gradient(rays[..., 0], axis=1), np.gradient(rays[..., 0], axis=0)
        yu, yv = np.gradient(rays[..., 1], axis=1), np.gradient(rays[..., 1], axis=0)
        determinant = xu * yv - xv * yu
        plane[..., 0] = (slope_u * yv - slope_v * yu) / determinant
        plane[..., 1] = (slope_v * xu - slope_u * xv) / determinant
    else:
        plane[..., 0] = slope_u * camera.fx
        plane[..., 1] = slope_v * camera.fy + slope_u * camera.K[0, 1]
    plane[..., 2] = value - plane[..., 0] * rays[..., 0] - plane[..., 1] * rays[..., 1]
    return plane


def _best_windows(
    residual: FloatArray, inverse: FloatArray, radius: int, noise: float
) -> npt.NDArray[np.intp]:
    """Flat index [H * W] of the window centre whose plane each pixel takes."""
    height, width = residual.shape
    floor = (noise * inverse) ** 2
    best = np.maximum(residual, floor)
    shift = np.zeros(residual.shape, np.intp)
    for dv in (-radius, 0, radius):
        for du in (-radius, 0, radius):
            if du == 0 and dv == 0 or abs(du) >= width or abs(dv) >= height:
                continue
            here = (
                slice(max(-dv, 0), height - max(dv, 0)),
                slice(max(-du, 0), width - max(du, 0)),
            )
            there = (
                slice(max(dv, 0), height - max(-dv, 0)),
                slice(max(du, 0), width - max(-du, 0)),
            )
            # best starts as the centre's own residual and then holds handicapped ones.
            score = np.maximum(residual[there], floor[here]) * _PREFERENCE
            better = score < best[here]
            np.copyto(best[here], score, where=better)
            np.copyto(shift[here], dv * width + du, where=better)
    return (np.arange(height * width).reshape(height, width) + shift).reshape(-1)
