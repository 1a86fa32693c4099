# SPDX-License-Identifier: Apache-2.0
"""Surface normals of a depth image by local plane fits in inverse depth.

The inverse depth of a plane n . p = d is linear in the ray (x, y, 1): 1 / z = (n / d) . (x, y, 1).
A least-squares fit in a window of pixels therefore gives the plane exactly, however steep, and
inverse depth is also where the noise of stereo and structured light is even.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera
from proto_mtl_ros.geometry.depth import check_size, valid_depth

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# The least spread of a window's valid pixels along its narrow direction, in pixels squared: a
# single line of pixels says nothing about the slope across it.
_MIN_SPREAD = 0.4
# A shifted window is taken only when its residual variance is this many times smaller.
_PREFERENCE = 2.0
# Rows worked on at a time, so that the intermediate maps stay in the processor's cache.
_STRIP = 64


def depth_to_normals(
    depth: npt.NDArray[np.floating[Any]],
    camera: Camera,
    window: int = 11,
    noise: float | npt.NDArray[np.floating[Any]] = 0.002,
    max_residual: float = 0.05,
    min_valid: float = 0.3,
) -> Float32:
    """Unit normals, float32 [H, W, 3], of a depth image [H, W] in metres.

    Normals are in the optical frame and face the camera: n . p < 0 for the pixel's viewing ray p.
    (0, 0, 0) marks pixels without depth or without a plane that explains them.

    At a step or a crease the window is moved off the centre: of the window around the pixel and
    the eight that have the pixel on their border, the one that is planar is taken. For every
    straight edge one of the eight lies on the pixel's side alone.

    Args:
        window: odd width of the window in pixels; larger for noisier depth.
        noise: residual (RMS, relative to inverse depth) that counts as planar, so that sensor
            noise and quantisation do not make windows move. A number, or a map [H, W].
        max_residual: the plane is refused where the window's residual (RMS), or the pixel's own,
            is above this part of the inverse depth.
        min_valid: least part of a window's pixels with valid depth.

    Raises:
        ValueError: depth and camera differ in size, or the window is even or below 3.
    """
    check_size(depth, camera)
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window is {window}, an odd number of 3 or more is needed")
    radius = window // 2
    height = depth.shape[0]
    noise_floor = np.square(np.asarray(noise, np.float32))
    normals = np.empty((*depth.shape, 3), np.float32)
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        # A pixel's moved window reaches 2 radii up and down, its centre one radius.
        first, last = max(start - 2 * radius, 0), min(stop + 2 * radius, height)
        top, bottom = max(start - radius, 0), min(stop + radius, height)
        rays = _rays(camera, first, last)
        mask = valid_depth(depth[first:last])
        if camera.distorted:
            mask &= np.isfinite(rays.x)
        inverse = np.zeros(mask.shape)
        np.divide(1.0, depth[first:last], out=inverse, where=mask)
        centres = slice(top - first, bottom - first)
        floor = noise_floor if noise_floor.ndim == 0 else noise_floor[first:last]
        planes = _fit_planes(inverse, mask, window, min_valid, floor, rays)
        planes = Planes(*(values[centres] for values in planes))
        index = _best_windows(planes.residual, radius)[start - top : stop - top]
        pixels = slice(start - first, stop - first)
        normals[start:stop] = _facing_normals(
            Planes(*(np.take(values, index) for values in planes)),
            rays.rows(pixels),
            inverse[pixels].astype(np.float32),
            max_residual,
        )
    return normals


class Rays(NamedTuple):
    """Viewing rays (x, y, 1) of some rows, and how they change from pixel to pixel.

    x, y broadcast to [rows, W]: without distortion x is one row and y one column. xu, xv, yu, yv
    are the derivatives by column u and row v.
    """

    x: Float32
    y: Float32
    xu: Any
    xv: Any
    yu: Any
    yv: Any

    def rows(self, rows: slice) -> Rays:
        """The rays of fewer rows; the derivatives are not needed there."""
        x = self.x if self.x.shape[0] == 1 else self.x[rows]
        return Rays(x, self.y[rows], 0, 0, 0, 0)


class Planes(NamedTuple):
    """Planes 1/z = a x + b y + c of the windows around each pixel, and how well they fit.

    residual is the variance relative to the squared inverse depth, not below that of the noise,
    and inf where there is no plane.
    """

    a: Float32
    b: Float32
    c: Float32
    residual: Float32


def _rays(camera: Camera, first: int, last: int) -> Rays:
    """Rays of the rows first to last, exclusive."""
    if camera.distorted or camera.K[0, 1] != 0:
        # Within a window the lens is affine: its derivative is all that the fit needs.
        table = camera.rays()[first:last]
        x, y = np.ascontiguousarray(table[..., 0]), np.ascontiguousarray(table[..., 1])
        return Rays(x, y, _along_u(x), _along_v(x), _along_u(y), _along_v(y))
    u, v = np.arange(camera.width)[None, :], np.arange(first, last)[:, None]
    x = ((u - camera.cx) / camera.fx).astype(np.float32)
    y = ((v - camera.cy) / camera.fy).astype(np.float32)
    return Rays(x, y, 1 / camera.fx, 0.0, 0.0, 1 / camera.fy)


def _along_u(values: Float32) -> Any:
    """Derivative by column; 0 of a map one pixel wide."""
    return np.gradient(values, axis=1) if values.shape[1] > 1 else np.zeros_like(values)


def _along_v(values: Float32) -> Any:
    """Derivative by row; 0 of a map one pixel high."""
    return np.gradient(values, axis=0) if values.shape[0] > 1 else np.zeros_like(values)


def _fit_planes(
    inverse: Float64,
    mask: npt.NDArray[np.bool_],
    window: int,
    min_valid: float,
    floor: Float32,
    rays: Rays,
) -> Planes:
    """Least-squares planes of the windows around every pixel.

    Sums are float64, because the residual is a small difference of large ones, and use offsets
    from the window's centre, which keeps them small.
    """
    radius = window // 2
    ones = np.ones(window)
    offset = np.arange(-radius, radius + 1, dtype=np.float64)

    def total(values: npt.NDArray[Any], kernel_u: Float64, kernel_v: Float64) -> Float64:
        # Outside the image is 0 in the mask and in the values: nothing there is counted.
        sums: Any = cv2.sepFilter2D(
            values, -1, kernel_u, kernel_v, borderType=cv2.BORDER_CONSTANT
        )
        return sums

    # Sums of the mask are small whole numbers, exact in float32.
    weight = mask.astype(np.float32)
    count = total(weight, ones, ones)
    enough = count >= max(min_valid * window * window, 3)
    share = 1 / np.maximum(count, 1)
    mean_u, mean_v = total(weight, offset, ones) * share, total(weight, ones, offset) * share
    var_u = total(weight, offset**2, ones) * share - mean_u * mean_u
    var_v = total(weight, ones, offset**2) * share - mean_v * mean_v
    cov_uv = total(weight, offset, offset) * share - mean_u * mean_v
    determinant = var_u * var_v - cov_uv * cov_uv
    # determinant / trace is at most the smaller eigenvalue, and at least half of it.
    enough &= determinant > _MIN_SPREAD * (var_u + var_v)
    determinant[~enough] = 1
    inverse_determinant = 1 / determinant

    exact_share = 1 / np.maximum(count, 1).astype(np.float64)
    mean_w = total(inverse, ones, ones) * exact_share
    cov_uw = total(inverse, offset, ones) * exact_share - mean_u * mean_w
    cov_vw = total(inverse, ones, offset) * exact_share - mean_v * mean_w
    var_w = total(inverse * inverse, ones, ones) * exact_share - mean_w * mean_w
    slope_u = (cov_uw * var_v - cov_vw * cov_uv) * inverse_determinant
    slope_v = (cov_vw * var_u - cov_uw * cov_uv) * inverse_determinant
    var_w -= slope_u * cov_uw
    var_w -= slope_v * cov_vw
    mean_w[~enough] = np.inf
    residual = np.maximum((var_w / (mean_w * mean_w)).astype(np.float32), floor)
    residual[~enough] = np.inf
    mean_w -= slope_u * mean_u
    mean_w -= slope_v * mean_v
    return Planes(*_in_rays(slope_u, slope_v, mean_w, rays), residual)


def _in_rays(
    slope_u: Float64, slope_v: Float64, value: Float64, rays: Rays
) -> tuple[Float32, Float32, Float32]:
    """Coefficients of 1/z = a x + b y + c from slopes per pixel and the value at the centre."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (rays.xu * rays.yv - rays.xv * rays.yu)
        a = (slope_u * (rays.yv * scale) - slope_v * (rays.yu * scale)).astype(np.float32)
        b = (slope_v * (rays.xu * scale) - slope_u * (rays.xv * scale)).astype(np.float32)
        c = value.astype(np.float32) - a * rays.x - b * rays.y
    return a, b, c


def _best_windows(residual: Float32, radius: int) -> npt.NDArray[np.intp]:
    """Flat index [rows, W] of the window centre whose plane each pixel takes."""
    height, width = residual.shape
    best = residual.copy()
    index = np.arange(height * width).reshape(height, width)
    centre = index.copy()
    handicapped = residual * np.float32(_PREFERENCE)
    for dv in (-radius, 0, radius):
        for du in (-radius, 0, radius):
            if (du == 0 and dv == 0) or abs(du) >= width or abs(dv) >= height:
                continue
            here = (slice(max(-dv, 0), height - max(dv, 0)), slice(max(-du, 0), width - max(du, 0)))
            there = (slice(max(dv, 0), height + min(dv, 0)), slice(max(du, 0), width + min(du, 0)))
            better = handicapped[there] < best[here]
            np.copyto(best[here], handicapped[there], where=better)
            np.copyto(centre[here], index[there], where=better)
    return centre


def _facing_normals(planes: Planes, rays: Rays, inverse: Float32, max_residual: float) -> Float32:
    """Normals [rows, W, 3] of the planes chosen for each pixel, facing the camera."""
    a, b, c, residual = planes
    # The plane's own inverse depth at the pixel is a x + b y + c = -(n . ray) up to scale. Where
    # it is close to the measured one it is positive, so the sign is settled: n = -(a, b, c).
    error = a * rays.x
    error += b * rays.y
    error += c
    error -= inverse
    valid = np.abs(error) <= np.float32(max_residual) * inverse
    valid &= residual <= np.float32(max_residual**2)
    valid &= inverse > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.float32(-1) / np.sqrt(a * a + b * b + c * c)
        normals = np.stack([a * scale, b * scale, c * scale], axis=-1)
    normals[~valid] = 0
    return normals
