# SPDX-License-Identifier: Apache-2.0
"""Cleaning takes out what was put in and leaves surfaces alone, steep ones as well."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.depth_cleaning import clean_depth, smooth_surroundings

CAMERA = Camera(np.array([[120.0, 0, 79.5], [0, 120, 59.5], [0, 0, 1]]), 160, 120)


def plane(normal: tuple[float, float, float], distance: float) -> np.ndarray:
    along = CAMERA.rays() @ (np.array(normal) / np.linalg.norm(normal))
    return np.where(along > 0.15, distance / np.maximum(along, 1e-6), np.nan).astype(np.float32)


@given(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.floats(0.8, 3))
def test_a_plane_stays_whole(a: float, b: float, distance: float) -> None:
    depth = plane((a, b, 1.0), distance)
    cleaned = clean_depth(depth, 0.3, 10)
    inside = np.isfinite(depth) & (depth > 0.35) & (depth < 8)
    assert (cleaned[inside] == depth[inside]).mean() > 0.999


def test_range_holes_and_infinities() -> None:
    depth = np.full((120, 160), 2.0, np.float32)
    depth[:20], depth[20:40], depth[40:50] = 0.29, 12.0, np.inf
    depth[50:60], depth[60:70], depth[70:80] = 0, np.nan, 0.31
    cleaned = clean_depth(depth)
    assert np.isnan(cleaned[:70]).all() and (cleaned[70:] == depth[70:]).all()


def test_flying_pixels_are_found_at_edges_of_any_side() -> None:
    depth = np.full((120, 160), 4.0, np.float32)
    depth[30:90, 40:120] = 1.5
    depth[30, 40:120] = depth[89, 40:120] = 2.5
    depth[30:90, 40] = depth[30:90, 119] = 2.5
    cleaned = clean_depth(depth)
    for side in (cleaned[30, 41:119], cleaned[89, 41:119], cleaned[31:89, 40], cleaned[31:89, 119]):
        assert np.isnan(side).mean() > 0.95
    assert np.isnan(cleaned).sum() <= 2 * (60 + 80)


def test_specks_are_taken_out_and_thin_things_stay() -> None:
    depth = np.full((120, 160), 4.0, np.float32)
    depth[30:33, 40:53] = 1.0  # 39 pixels
    depth[5:10, 5:13] = 1.0  # 40
    depth[10:110, 100:103] = 2.0  # a pole
    depth[60:110, 10:12] = np.nan
    cleaned = clean_depth(depth)
    assert np.isnan(cleaned[30:33, 40:53]).all() and (cleaned[5:10, 5:13] == 1).all()
    assert (cleaned[10:110, 100:103] == 2).all()
    assert np.isnan(cleaned[60:110, 10:12]).all()
    assert np.isfinite(cleaned).sum() == 120 * 160 - 39 - 100


def test_surroundings_are_a_square() -> None:
    depth = np.full((100, 100), 2.0, np.float32)
    depth[50, 50] = 4.0
    depth[20, 20] = 0.0  # unknown: nothing is said about it, and its neighbours are judged without
    rough = ~smooth_surroundings(depth, shift=0.05)
    expected = np.zeros((100, 100), bool)
    expected[45:56, 45:56] = True
    expected[20, 20] = True
    assert np.array_equal(rough, expected)
