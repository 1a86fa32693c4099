# SPDX-License-Identifier: Apache-2.0
"""Surface normals of a depth image by local plane fits in inverse depth.

The inverse depth of a plane n . p = d is linear in the ray (x, y, 1): 1 / z = (n / d) . (x, y, 1).
A least-squares fit in a window of pixels therefore gives the plane exactly, however steep, and
inverse depth is also where the noise of stereo and structured light is even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera
from proto_mtl_ros.geometry.depth import check_size, valid_depth
from proto_mtl_ros.geometry.planes import Float32, Planes, Rays, fit_planes

# A shifted window is taken only when its residual variance is this many times smaller.
_PREFERENCE = 2.0
# Rows worked on at a time, so that the intermediate maps stay small and mostly in the cache.
_STRIP = 160


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

    At a step or a crease the window, of an odd width in pixels, larger for noisier depth, is moved
    off the centre: of the window around the pixel and the eight that have the pixel on their
    border, the one that is planar is taken. For every straight edge one of the eight lies on the
    pixel's side alone.

    ``noise`` is the residual (RMS, relative to inverse depth; a number or a map) that counts as
    planar, so that sensor noise and quantisation do not make windows move. Above ``max_residual``
    of the window or the pixel itself the plane is refused. ``min_valid`` is the least part of a
    window's pixels with valid depth. ValueError where depth and camera differ in size, or for
    another window.
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
        rays = Rays.of_rows(camera, first, last)
        mask = valid_depth(depth[first:last]) & rays.known
        inverse = np.zeros(mask.shape)
        np.divide(1.0, depth[first:last], out=inverse, where=mask)
        centres = slice(top - first, bottom - first)
        floor = noise_floor if noise_floor.ndim == 0 else noise_floor[first:last]
        planes = fit_planes(inverse, mask, rays, window, min_valid, floor)
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
