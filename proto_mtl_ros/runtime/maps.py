# SPDX-License-Identifier: Apache-2.0
"""The network's maps brought to the size of the picture they belong to."""

from __future__ import annotations

import cv2
import numpy as np

from proto_mtl_ros.geometry import (
    Letterbox,
    resize,
)
from proto_mtl_ros.tasks import IGNORE_INDEX

DEPTH_STEP = 0.1
"""Relative difference above which two depths close to each other belong to two surfaces."""

_LEAST_FACING = 0.01
_SHORTEST = 1e-3
_AROUND = np.ones((3, 3), np.uint8)
_SUM = np.ones((1, 3), np.float32)


def fit_map(
    values: np.ndarray, letterbox: Letterbox, full_size: bool, interpolation: str
) -> np.ndarray:
    """Return a network map [H, W, ...] without its padding, at the source's size if wanted."""
    if full_size:
        return letterbox.undo(values, interpolation)
    return values[letterbox.window]


def fit_ids(
    ids: np.ndarray,
    confidence: np.ndarray | None,
    threshold: int,
    letterbox: Letterbox,
    full_size: bool,
) -> np.ndarray:
    """Return class ids uint8[H, W]; those of a confidence below ``threshold`` (0..255) are 255."""
    if threshold > 0 and confidence is not None:
        ids = np.where(confidence < threshold, np.uint8(IGNORE_INDEX), ids)
    return np.ascontiguousarray(fit_map(ids, letterbox, full_size, "nearest"))


def fit_depth(raw: np.ndarray, factor: float, letterbox: Letterbox, full_size: bool) -> np.ndarray:
    """Return depth float32[H, W] in metres, NaN where the network gives none.

    Args:
        raw: depth of the canonical camera, float32[h, w].
        factor: from the canonical camera to the real one.
        letterbox: of the picture.
        full_size: at the source's size rather than the network's.

    Interpolated linearly, as surfaces are smooth, except next to steps: there the interpolated
    value lies in the air between two surfaces, and such flying pixels become obstacles in a
    robot's map. Where the network's pixels around differ by more than ``DEPTH_STEP``, the nearest
    one's value is taken, as it is everywhere when the map becomes smaller. The price is a
    staircase of one network pixel along edges, and on a floor close to the horizon.
    """
    depth = raw * np.float32(factor)
    depth[~((depth > 0) & (depth < np.inf))] = 0.0
    fitted = np.ascontiguousarray(fit_map(depth, letterbox, full_size, "nearest"))
    if full_size and letterbox.scale < 1:
        # The four pixels that are interpolated are among the nearest one and those around it.
        inside = np.ascontiguousarray(depth[letterbox.window])
        farthest, closest = cv2.dilate(inside, _AROUND), cv2.erode(inside, _AROUND)
        smooth = (farthest <= (1 + DEPTH_STEP) * closest).view(np.uint8)
        size = (letterbox.src_width, letterbox.src_height)
        linear = resize(inside, *size, "linear")
        cv2.copyTo(linear, resize(smooth, *size, "nearest"), fitted)
    fitted[fitted <= 0] = np.nan
    return fitted


def fit_normals(
    normals: np.ndarray, rays: np.ndarray | None, letterbox: Letterbox, full_size: bool
) -> np.ndarray:
    """Return unit normals float32[H, W, 3]; (0, 0, 0) where there is none.

    Args:
        normals: of the network, float32[h, w, 3].
        rays: viewing rays of the pixels of the result, float32[H, W, 3]; when they are given,
            every normal faces the camera afterwards.
        letterbox: of the picture.
        full_size: at the source's size rather than the network's.
    """
    fitted = unit(np.ascontiguousarray(fit_map(normals, letterbox, full_size, "linear")))
    return fitted if rays is None else face_camera(fitted, rays)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return a new float32[H, W, 3] of unit length; (0, 0, 0) where there is no direction."""
    squared = _dot(vectors, vectors)
    usable = (squared > _SHORTEST**2) & (squared < np.inf)
    scale = cv2.pow(squared, -0.5)
    result = cv2.multiply(vectors, cv2.merge([scale, scale, scale]))
    if not usable.all():
        result[~usable] = 0.0
    return result


def face_camera(normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Turn, in place, those unit normals that point away from the camera, and return all.

    A visible surface has n . p < 0 for its viewing ray p. A predicted normal that breaks this is
    one of a surface seen almost edge-on, so the closest direction that keeps it is taken: what
    points along the ray is removed. Flipping it would be wrong by up to 180 degrees. Only one that
    points straight away, for which there is no closest direction, turns round.
    """
    flat = normals.reshape(-1, 3)
    away = np.flatnonzero(_dot(normals, rays) > -_LEAST_FACING / 2)
    if away.size:
        wrong, ray = flat[away], rays.reshape(-1, 3)[away]
        ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
        along = np.einsum("nc,nc->n", wrong, ray)
        turned = wrong - (along + _LEAST_FACING)[:, None] * ray
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        is_normal = wrong.any(axis=1)
        flat[away[is_normal]] = turned[is_normal]
    return normals


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # OpenCV, as numpy takes three to six times as long over rows of three numbers.
    return cv2.transform(cv2.multiply(a, b), _SUM)
