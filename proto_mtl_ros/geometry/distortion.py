# SPDX-License-Identifier: Apache-2.0
"""Lens distortion: rays of pixels and back, by the models that sensor_msgs/CameraInfo names."""

from __future__ import annotations

import re
import threading
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

FloatArray = npt.NDArray[np.float64]

# Names seen in the field for the two families that OpenCV computes.
POLYNOMIAL_MODELS = ("plumb_bob", "rational_polynomial")
EQUIDISTANT_MODELS = ("equidistant", "fisheye")
_POLYNOMIAL_NAMES = (
    "", "plumb_bob", "rational_polynomial", "radtan", "radial_tangential", "brown",
    "brown_conrady", "pinhole", "pinhole_radtan", "perspective", "opencv",
    "thin_prism",
)  # fmt: skip
_POLYNOMIAL_LENGTHS = (4, 5, 8, 12, 14)
_EQUIDISTANT_LENGTH = 4
_MAX_REPROJECTION_PIXELS = 0.1
_CELL = 16
"""Rays are computed at every so many pixels, and those between are interpolated."""
_MAX_INTERPOLATION_PIXELS = 0.005  # of error in the middle of a cell, else its pixels are computed
_MOST_COMPUTED = 1024  # cells
_SMALL = 20_000  # pixels of an image that is not worth it
_TABLES_BYTES = 400_000_000  # of one 4K image 100 MB: enough for a few cameras, not for a leak
# Real lenses have up to hundreds, in the denominator of rational_polynomial.
_LARGEST_COEFFICIENT = 1e6


def checked_distortion(model: str, D: npt.ArrayLike | None) -> FloatArray | None:
    """Read-only copy of D that fits the model, or None when there is no distortion; ValueError for
    values that are not finite, a length the model does not have, or an unknown model.
    """
    coefficients = np.zeros(0) if D is None else np.array(D, np.float64).reshape(-1)
    if not np.isfinite(coefficients).all():
        raise ValueError("D has values that are not finite")
    if np.abs(coefficients).max(initial=0.0) > _LARGEST_COEFFICIENT:
        raise ValueError(f"D has a value of {np.abs(coefficients).max():g}, which is no lens")
    if model in EQUIDISTANT_MODELS:
        if coefficients.size == 0:
            coefficients = np.zeros(_EQUIDISTANT_LENGTH)
        if coefficients.size != _EQUIDISTANT_LENGTH:
            raise ValueError(f"D has {coefficients.size} values, {model} takes 4")
    elif not coefficients.any():
        return None
    elif model not in POLYNOMIAL_MODELS:
        known = ", ".join((*POLYNOMIAL_MODELS, EQUIDISTANT_MODELS[0]))
        raise ValueError(f"distortion model '{model}' is not known, use one of {known}")
    elif coefficients.size not in _POLYNOMIAL_LENGTHS:
        raise ValueError(f"D has {coefficients.size} values, {model} takes 4, 5, 8, 12 or 14")
    coefficients.setflags(write=False)
    return coefficients


def driver_distortion(model: str, D: npt.ArrayLike) -> tuple[str, FloatArray]:
    """Model and coefficients as OpenCV takes them, of what drivers write into camera_info: names
    of other libraries, zeros behind the coefficients, or too few. ValueError where that is unclear.
    """
    model = model[:64]  # as long as the field may be: a stranger's may have megabytes
    name = re.sub(r"[\s-]+", "_", model.strip().lower())
    given = np.array(D, np.float64).reshape(-1)
    coefficients = np.trim_zeros(given, "b")
    fisheye = bool(re.fullmatch(r"(opencv_)?fisheye\d?|equidistant|kannala_brandt\d?|kb\d?", name))
    if not fisheye and not coefficients.size:
        return "", coefficients
    if not fisheye and name not in _POLYNOMIAL_NAMES:
        raise ValueError(f"distortion model '{model}' is not known")
    lengths = (_EQUIDISTANT_LENGTH,) if fisheye else _POLYNOMIAL_LENGTHS
    if given.size in lengths:
        coefficients = given
    length = next((n for n in lengths if n >= coefficients.size), None)
    if length is None:
        raise ValueError(f"D has {coefficients.size} values, more than {model or 'a lens'} has")
    if not np.isfinite(coefficients).all():
        raise ValueError("D has values that are not finite")
    padded = np.pad(coefficients, (0, length - coefficients.size))
    return "equidistant" if fisheye else POLYNOMIAL_MODELS[length > 5], padded


def is_distorting(model: str, D: FloatArray | None) -> bool:
    """Whether pixels are anything but an affine image of rays."""
    return D is not None and (model in EQUIDISTANT_MODELS or bool(D.any()))


def flipped_distortion(model: str, D: FloatArray | None) -> FloatArray | None:
    """D of the mirrored lens: terms odd in x change their sign."""
    if D is None or model in EQUIDISTANT_MODELS:
        return D
    mirrored = D.copy()
    # p2 (tangential), s1 and s2 (thin prism, acting on x), tau_y (tilt about y).
    for index in (3, 8, 9, 13):
        if index < mirrored.size:
            mirrored[index] = -mirrored[index]
    return mirrored


def distort_rays(xy: FloatArray, model: str, D: FloatArray | None) -> FloatArray:
    """Distorted normalised coordinates [..., 2] of rays (x, y, 1) given as [..., 2]."""
    if D is None or not is_distorting(model, D):
        return xy
    flat = np.ascontiguousarray(xy.reshape(-1, 1, 2))
    if model in EQUIDISTANT_MODELS:
        distorted = cv2.fisheye.distortPoints(flat, np.eye(3), D)
    else:
        homogeneous = cv2.convertPointsToHomogeneous(flat)
        distorted, _ = cv2.projectPoints(homogeneous, np.zeros(3), np.zeros(3), np.eye(3), D)
    return np.asarray(distorted, np.float64).reshape(xy.shape)


def undistort_rays(xy: FloatArray, model: str, D: FloatArray | None) -> FloatArray:
    """Inverse of :func:`distort_rays`, [N, 2]; whatever comes out outside the model's domain."""
    if D is None or not is_distorting(model, D):
        return xy
    flat = np.ascontiguousarray(xy.reshape(-1, 1, 2))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
    if model in EQUIDISTANT_MODELS:
        rays = cv2.fisheye.undistortPoints(flat, np.eye(3), D, criteria=criteria)
    elif hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
        rays = cv2.undistortPointsIter(flat, np.eye(3), D, np.eye(3), np.eye(3), criteria)
    else:
        rays = cv2.undistortPoints(flat, np.eye(3), D, criteria=criteria)
    return np.asarray(rays, np.float64).reshape(xy.shape)


_tables: dict[tuple[bytes, int, int, str, bytes], npt.NDArray[np.float32]] = {}
_tables_lock = threading.Lock()


def ray_table(K: bytes, width: int, height: int, model: str, D: bytes) -> npt.NDArray[np.float32]:
    """Rays (x, y, 1) of every pixel, float32 [height, width, 3], read-only.

    K (float64 [3, 3]) and D (float64) come as bytes, so that equal cameras share one table. The
    tables used last are kept.
    """
    key = (K, width, height, model, D)
    with _tables_lock:
        table = _tables.pop(key, None)
    if table is None:
        table = _new_table(
            np.frombuffer(K).reshape(3, 3), width, height, model, np.frombuffer(D) if D else None
        )
    with _tables_lock:
        _tables[key] = table
        while sum(one.nbytes for one in _tables.values()) > _TABLES_BYTES and len(_tables) > 1:
            del _tables[next(iter(_tables))]
    return table


def _new_table(
    matrix: FloatArray, width: int, height: int, model: str, D: FloatArray | None
) -> npt.NDArray[np.float32]:
    table = np.ones((height, width, 3), np.float32)
    if not is_distorting(model, D) or width * height <= _SMALL:
        v, u = np.arange(height)[:, None], np.arange(width)[None]
        table[..., :2] = _exact_rays(matrix, u, v, model, D)
        table.setflags(write=False)
        return table
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    v, u = (_CELL * np.arange(-1, n + 2) for n in (rows, columns))
    x, y = np.moveaxis(_exact_rays(matrix, u[None], v[:, None], model, D), -1, 0)
    # as unit vectors, which do not run to infinity where a wide lens sees along the image plane
    nodes = np.stack((x, y, np.ones_like(x))) / np.sqrt(x * x + y * y + 1)
    enlarged = _between(nodes.astype(np.float32), np.arange(_CELL) / _CELL)[:, :height, :width]
    for axis in range(2):
        np.divide(enlarged[axis], enlarged[2], out=table[..., axis])
    # A cell is good where the ray in its middle leads back there; the worst others are computed.
    x, y, z = _between(nodes, np.array([0.5]))
    middles = np.stack((x / z, y / z), axis=-1)
    wanted = _normalised(matrix, u[None, 1:-2] + _CELL / 2, v[1:-2, None] + _CELL / 2)
    error = np.nan_to_num(_reprojection(middles, wanted, model, D) * matrix[0, 0], nan=np.inf)
    seen = sliding_window_view(~np.isnan(nodes[0]), (4, 4)).any(axis=(-2, -1))
    bad = np.flatnonzero(seen & (error > _MAX_INTERPOLATION_PIXELS))
    bad = bad[np.argsort(-error.flat[bad])][:_MOST_COMPUTED]
    inside = np.arange(_CELL)
    row, column = (_CELL * one[:, None, None] for one in np.unravel_index(bad, error.shape))
    row, column = np.broadcast_arrays(row + inside[:, None], column + inside)
    within = (row < height) & (column < width)
    if within.any():
        row, column = row[within], column[within]
        table[row, column, :2] = _exact_rays(matrix, column, row, model, D)
    table.setflags(write=False)
    return table


def _between(nodes: npt.NDArray[Any], at: FloatArray) -> npt.NDArray[Any]:
    """Values [C, rows * len(at), columns * len(at)] at fractions of the cells between nodes
    [C, rows + 3, columns + 3], by the cubic through the four nodes around each."""
    f = at
    cubic = np.stack(
        (
            -f * (f - 1) * (f - 2) / 6,
            (f + 1) * (f - 1) * (f - 2) / 2,
            -(f + 1) * f * (f - 2) / 2,
            (f + 1) * f * (f - 1) / 6,
        )
    ).astype(nodes.dtype)
    for _ in range(2):  # along the last axis, which becomes the one before it
        values = sliding_window_view(nodes, 4, axis=-1) @ cubic
        nodes = values.reshape(*nodes.shape[:-1], -1).swapaxes(-1, -2)
    return nodes


def _normalised(matrix: FloatArray, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> FloatArray:
    """Distorted coordinates [..., 2] of pixels. The matrix is taken out here and not by OpenCV,
    which would drop the skew."""
    y = (v - matrix[1, 2]) / matrix[1, 1]
    x = (u - matrix[0, 2] - matrix[0, 1] * y) / matrix[0, 0]
    return np.stack(np.broadcast_arrays(x, y), axis=-1)


def _reprojection(
    rays: FloatArray, distorted: FloatArray, model: str, D: FloatArray | None
) -> FloatArray:
    return np.abs(distort_rays(rays, model, D) - distorted).max(axis=-1)


def _exact_rays(
    matrix: FloatArray,
    u: npt.NDArray[Any],
    v: npt.NDArray[Any],
    model: str,
    D: FloatArray | None,
) -> FloatArray:
    """Rays of pixels; NaN where the iteration did not find one."""
    distorted = _normalised(matrix, u, v)
    if not is_distorting(model, D):
        return distorted
    flat = distorted.reshape(-1, 2)
    rays = undistort_rays(flat, model, D)
    good = _reprojection(rays, flat, model, D) * matrix[0, 0] < _MAX_REPROJECTION_PIXELS
    return np.where(good[:, None], rays, np.nan).reshape(distorted.shape)
