# SPDX-License-Identifier: Apache-2.0
"""Lens distortion: rays of pixels and back, by the models that sensor_msgs/CameraInfo names."""

from __future__ import annotations

import re
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

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
# A table of rays for 1080p takes 25 MB: enough entries for a few cameras, not for a leak.
_TABLES = 8
_MAX_REPROJECTION_PIXELS = 0.1
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


@lru_cache(maxsize=_TABLES)
def ray_table(K: bytes, width: int, height: int, model: str, D: bytes) -> npt.NDArray[np.float32]:
    """Rays (x, y, 1) of every pixel, float32 [height, width, 3], read-only.

    K (float64 [3, 3]) and D (float64) come as bytes, so that equal cameras share one table.
    """
    matrix = np.frombuffer(K).reshape(3, 3)
    coefficients = np.frombuffer(D) if D else None
    u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    # The matrix is taken out here and not by OpenCV, which would drop the skew.
    y = (v - matrix[1, 2]) / matrix[1, 1]
    x = (u - matrix[0, 2] - matrix[0, 1] * y) / matrix[0, 0]
    distorted = np.stack([x, y], axis=-1).reshape(-1, 2)
    rays = undistort_rays(distorted, model, coefficients)
    if is_distorting(model, coefficients):
        # Where the iteration did not find the pixel's ray, there is none: say so with NaN.
        error = np.abs(distort_rays(rays, model, coefficients) - distorted).max(axis=1)
        rays = np.where((error * matrix[0, 0] < _MAX_REPROJECTION_PIXELS)[:, None], rays, np.nan)
    table = np.ones((height, width, 3), np.float32)
    table[..., :2] = rays.reshape(height, width, 2)
    table.setflags(write=False)
    return table
