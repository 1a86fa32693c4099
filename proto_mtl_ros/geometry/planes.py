# SPDX-License-Identifier: Apache-2.0
"""Least-squares planes of the windows around every pixel of an inverse depth image."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# The least spread of a window's valid pixels along its narrow direction, in pixels squared: a
# single line of pixels says nothing about the slope across it.
_MIN_SPREAD = 0.4


class Rays(NamedTuple):
    """Viewing rays (x, y, 1) of some rows of a camera.

    x and y, float32, broadcast to [rows, W]: on a grid x is one row and y one column. fx, fy turn
    them into coordinates that are pixels apart. known is the mask of pixels that have a ray.
    """

    x: Float32
    y: Float32
    fx: float
    fy: float
    grid: bool
    known: Any

    @classmethod
    def of_rows(cls, camera: Camera, first: int, last: int) -> Rays:
        """Rays of the rows first to last, exclusive; x and y are 0 where there is no ray."""
        if not camera.distorted and camera.K[0, 1] == 0:
            u, v = np.arange(camera.width)[None, :], np.arange(first, last)[:, None]
            x = ((u - camera.cx) / camera.fx).astype(np.float32)
            y = ((v - camera.cy) / camera.fy).astype(np.float32)
            return cls(x, y, camera.fx, camera.fy, True, True)
        table = camera.rays()[first:last]
        known = np.isfinite(table[..., 0])
        x, y = np.where(known, table[..., 0], 0), np.where(known, table[..., 1], 0)
        return cls(x, y, camera.fx, camera.fy, False, known)

    def rows(self, rows: slice) -> Rays:
        """The rays of fewer rows."""
        x = self.x if self.grid else self.x[rows]
        known = self.known if self.grid else self.known[rows]
        return Rays(x, self.y[rows], self.fx, self.fy, self.grid, known)


class Planes(NamedTuple):
    """Planes 1/z = a x + b y + c of the windows around each pixel, and how well they fit.

    residual is the variance relative to the squared inverse depth, not below that of the noise,
    and inf where there is no plane.
    """

    a: Float32
    b: Float32
    c: Float32
    residual: Float32


class _Moments(NamedTuple):
    """Weighted means, variances and covariances of each window.

    u and v are positions in pixels, w the inverse depth. On a grid positions are relative to the
    window's centre, otherwise to the optical axis.
    """

    count: Any
    mean_u: Any
    mean_v: Any
    mean_w: Any
    var_u: Any
    var_v: Any
    var_w: Any
    cov_uv: Any
    cov_uw: Any
    cov_vw: Any


def fit_planes(
    inverse: Float64,
    mask: npt.NDArray[np.bool_],
    rays: Rays,
    window: int,
    min_valid: float,
    floor: Float32,
) -> Planes:
    """Planes of the windows around every pixel of inverse depth [H, W], 0 outside the mask.

    Windows have an odd width in pixels; what lies outside the image is not counted, and
    ``min_valid`` of the pixels must be inside the mask. ``floor``, one number or [H, W], is the
    lower bound of the residual.
    """
    moments = _grid_moments if rays.grid else _ray_moments
    m = moments(inverse, mask, rays, window)
    determinant = m.var_u * m.var_v - m.cov_uv * m.cov_uv
    enough = m.count >= max(min_valid * window * window, 3)
    # determinant / trace is at most the smaller eigenvalue, and at least half of it.
    enough &= determinant > _MIN_SPREAD * (m.var_u + m.var_v)
    determinant[~enough] = 1
    scale = 1 / determinant
    slope_u = (m.cov_uw * m.var_v - m.cov_vw * m.cov_uv) * scale
    slope_v = (m.cov_vw * m.var_u - m.cov_uw * m.cov_uv) * scale
    variance = m.var_w - slope_u * m.cov_uw
    variance -= slope_v * m.cov_vw
    mean_w = m.mean_w.astype(np.float32)
    square = mean_w * mean_w
    square[~enough] = 1
    residual = np.maximum((variance / square).astype(np.float32, copy=False), floor)
    residual[~enough] = np.inf
    value = m.mean_w - slope_u * m.mean_u
    value -= slope_v * m.mean_v
    a = (slope_u * np.float32(rays.fx)).astype(np.float32, copy=False)
    b = (slope_v * np.float32(rays.fy)).astype(np.float32, copy=False)
    c = value.astype(np.float32)
    if rays.grid:
        # From the window's centre to the optical axis.
        c -= a * rays.x
        c -= b * rays.y
    return Planes(a, b, c, residual)


def _grid_moments(
    inverse: Float64, mask: npt.NDArray[np.bool_], rays: Rays, window: int
) -> _Moments:
    """Moments where rays lie on a grid: offsets are the same in every window."""
    radius = window // 2
    ones = np.ones(window)
    offset = np.arange(-radius, radius + 1, dtype=np.float64)
    # Sums of the mask are small whole numbers, exact in float32. Those of inverse depth are
    # float64 until the mean is off, because the spread is a small difference of large numbers.
    weight = mask.astype(np.float32)
    count = _total(weight, ones, ones)
    share = 1 / np.maximum(count, 1)
    exact = 1 / np.maximum(count, 1).astype(np.float64)
    mean_u, mean_v = _total(weight, offset, ones) * share, _total(weight, ones, offset) * share
    mean_w = _total(inverse, ones, ones) * exact
    return _Moments(
        count,
        mean_u,
        mean_v,
        mean_w,
        _total(weight, offset**2, ones) * share - mean_u * mean_u,
        _total(weight, ones, offset**2) * share - mean_v * mean_v,
        (_total(inverse * inverse, ones, ones) * exact - mean_w * mean_w).astype(np.float32),
        _total(weight, offset, offset) * share - mean_u * mean_v,
        (_total(inverse, offset, ones) * exact - mean_u * mean_w).astype(np.float32),
        (_total(inverse, ones, offset) * exact - mean_v * mean_w).astype(np.float32),
    )


def _ray_moments(
    inverse: Float64, mask: npt.NDArray[np.bool_], rays: Rays, window: int
) -> _Moments:
    """Moments where a lens bends the grid of rays: positions come from the rays themselves."""
    ones = np.ones(window)
    u = np.where(mask, rays.x * rays.fx, 0).astype(np.float64)
    v = np.where(mask, rays.y * rays.fy, 0).astype(np.float64)
    count = _total(mask.astype(np.float64), ones, ones)
    share = 1 / np.maximum(count, 1)

    def mean(values: Float64) -> Float64:
        result: Float64 = _total(values, ones, ones)
        result *= share
        return result

    mean_u, mean_v, mean_w = mean(u), mean(v), mean(inverse)
    return _Moments(
        count,
        mean_u,
        mean_v,
        mean_w,
        mean(u * u) - mean_u * mean_u,
        mean(v * v) - mean_v * mean_v,
        mean(inverse * inverse) - mean_w * mean_w,
        mean(u * v) - mean_u * mean_v,
        mean(u * inverse) - mean_u * mean_w,
        mean(v * inverse) - mean_v * mean_w,
    )


def _total(values: npt.NDArray[Any], kernel_u: Float64, kernel_v: Float64) -> Any:
    """Weighted sums of the windows; outside the image is nothing."""
    return cv2.sepFilter2D(values, -1, kernel_u, kernel_v, borderType=cv2.BORDER_CONSTANT)
