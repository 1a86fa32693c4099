# SPDX-License-Identifier: Apache-2.0
"""Depth seen by another camera, against planes whose depth in both is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.registration import register_depth, rigid_transform


def camera(fx: float = 60.0, width: int = 64, height: int = 48) -> Camera:
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return Camera(np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1]]), width, height)


def plane_depth(of: Camera, normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth of the plane normal . p = distance."""
    along = of.rays() @ normal
    with np.errstate(divide="ignore"):
        depth = distance / along
    return np.where((along > 1e-6) & (depth < 50), depth, np.nan).astype(np.float32)


def test_the_same_camera_sees_the_same() -> None:
    depth = plane_depth(camera(), np.array([0.2, 0.3, 0.93]), 2.0)
    depth[5:9, 7:20] = np.nan
    seen = register_depth(depth, camera(), camera(), np.eye(4))
    known = np.isfinite(depth)
    assert np.isfinite(seen[known]).all()
    # a pixel reaches a little over its border, and the nearest point counts
    assert (np.abs(seen[known] / depth[known] - 1) < 0.02).all()


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-0.1, 0.1)] * 3),
    st.tuples(*[st.floats(-0.08, 0.08)] * 3),
    st.floats(45, 130),
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
)
def test_a_plane_is_a_plane_for_every_camera(
    moved: tuple[float, float, float],
    turned: tuple[float, float, float],
    fx: float,
    tilt: tuple[float, float],
) -> None:
    depth_camera, other = camera(), camera(fx, 100, 70)
    normal = np.array([*tilt, 1.0])
    normal /= np.linalg.norm(normal)
    transform = rigid_transform(moved, (*turned, 1.0))
    seen = register_depth(plane_depth(depth_camera, normal, 2.0), depth_camera, other, transform)
    # the same plane in the other frame
    normal_there = transform[:3, :3] @ normal
    expected = plane_depth(other, normal_there, 2.0 + float(normal_there @ transform[:3, 3]))
    both = np.isfinite(seen) & np.isfinite(expected)
    assert both.mean() > 0.2
    # a pixel's point lies up to a pixel of either camera beside the ray
    error = np.abs(seen[both] / expected[both] - 1)
    assert np.median(error) < 0.01 and error.max() < 0.06
    # no holes inside of what is seen
    filled = np.isfinite(seen)
    rows, columns = np.nonzero(filled)
    inside = filled[rows.min() + 8 : rows.max() - 7, columns.min() + 8 : columns.max() - 7]
    if inside.size and abs(turned[2]) < 0.02:
        assert inside.mean() > 0.97


def test_what_is_in_front_hides_what_is_behind() -> None:
    depth = np.full((48, 64), 4.0, np.float32)
    depth[20:28, 28:36] = 1.0  # a box, seen from a place half a metre to the right
    seen = register_depth(depth, camera(), camera(), rigid_transform((-0.25, 0, 0)))
    near = np.isfinite(seen) & (seen < 2)
    assert near.sum() == pytest.approx(64, abs=20)
    # 0.25 m at 1 m are 15 pixels, at 4 m less than 4
    assert np.nonzero(near)[1].mean() == pytest.approx(31.5 - 15, abs=0.6)
    assert seen[40, 40] == pytest.approx(4.0)


@pytest.mark.parametrize(("fx", "pixels"), [(60.0, 1), (120.0, 3), (240.0, 5)])
def test_a_point_fills_a_square_of_the_size_of_its_pixel(fx: float, pixels: int) -> None:
    """0.65 of a pixel of the depth camera to each side, in pixels of the other."""
    depth = np.full((48, 64), np.nan, np.float32)
    depth[20, 30] = 2.0
    wide = camera(fx, 255, 191)
    rows, columns = np.nonzero(np.isfinite(register_depth(depth, camera(), wide, np.eye(4))))
    centre = wide.project(np.array([2.0, 2.0, 2.0]) * [*camera().rays()[20, 30][:2], 1.0])
    for places, middle in ((columns, centre[0]), (rows, centre[1])):
        assert np.abs(places - middle).max() <= 0.65 * fx / 60
        assert abs(len(set(places)) - pixels) <= 1
        first, last = np.ceil(middle - 0.65 * fx / 60), np.floor(middle + 0.65 * fx / 60)
        assert len(set(places)) == last - first + 1
    assert len(rows) == len(set(rows)) * len(set(columns))


def test_points_behind_the_camera_are_not_seen() -> None:
    depth = np.full((48, 64), 1.0, np.float32)
    away = rigid_transform((0, 0, -2.0))
    assert np.isnan(register_depth(depth, camera(), camera(), away)).all()


def test_a_transform_must_be_one() -> None:
    quarter = rigid_transform((1, 2, 3), (0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)))
    np.testing.assert_allclose(quarter @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    with pytest.raises(ValueError, match="zero"):
        rigid_transform((0, 0, 0), (0, 0, 0, 0))
    for moved, turned in (
        ((0, 0), (0, 0, 0, 1)),
        ((0, 0, 0), (0, 0, 1)),
        ((0, 0, np.nan), (1,) * 4),
    ):
        with pytest.raises(ValueError, match="3 and a quaternion of 4"):
            rigid_transform(moved, turned)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3).filter(lambda turn: 1e-3 < np.linalg.norm(turn) < 3.1))
def test_a_quaternion_turns_as_its_axis_and_angle_do(turn: tuple[float, float, float]) -> None:
    angle = float(np.linalg.norm(turn))
    axis = np.array(turn) / angle
    quaternion = [*np.sin(angle / 2) * axis, np.cos(angle / 2)]
    matrix = rigid_transform((1, 2, 3), 5 * np.array(quaternion))  # of any length
    assert np.allclose(matrix[:3, :3], cv2.Rodrigues(np.array(turn))[0], atol=1e-6)
    assert matrix[:3, 3].tolist() == [1, 2, 3] and matrix[3].tolist() == [0, 0, 0, 1]
