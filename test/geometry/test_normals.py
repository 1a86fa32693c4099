# SPDX-License-Identifier: Apache-2.0
"""Normals of depth: right on planes of every orientation, at steps, in holes and in noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.geometry import normals as normals_module
from proto_mtl_ros.geometry.normals import depth_to_normals

WIDTH, HEIGHT = 96, 72
PINHOLE = Camera(np.array([[90.0, 0, 47.1], [0, 91.0, 36.4], [0, 0, 1]]), WIDTH, HEIGHT)
LENSES = {
    "pinhole": PINHOLE,
    "plumb_bob": Camera(PINHOLE.K, WIDTH, HEIGHT, [-0.2, 0.05, 1e-3, 1e-3, 0], None, "plumb_bob"),
    "equidistant": Camera(PINHOLE.K, WIDTH, HEIGHT, [0.02, 0, 0, 0], None, "equidistant"),
}
PROPERTY = settings(max_examples=25, deadline=None)
HALF_DEGREE = 0.5
INNER = (slice(12, -12), slice(12, -12))


def plane_depth(camera, normal, distance):
    """Depth of the plane n . p = -distance; NaN where it is not seen or nearly edge-on."""
    towards = camera.rays().astype(np.float64) @ normal
    with np.errstate(divide="ignore"):
        return np.where(towards < -0.02, -distance / towards, np.nan).astype(np.float32)


def degrees(normals, expected):
    """Angle between unit normals [..., 3] and the expected ones."""
    cosine = np.clip((normals.astype(np.float64) * expected).sum(-1), -1, 1)
    return np.degrees(np.arccos(cosine))


def turned(normal, pitch, yaw):
    """A direction of the level world as seen by a camera turned by pitch and yaw in degrees."""
    p, y = np.radians([pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    return about_x @ about_y @ np.array(normal, float)


def directions(most_degrees=180.0):
    """Unit vectors at most so far from the one that faces the camera."""
    least = np.cos(np.radians(most_degrees))
    return st.tuples(st.floats(least, 1), st.floats(-np.pi, np.pi)).map(
        lambda t: np.array(
            [*np.sqrt(1 - t[0] ** 2) * np.array([np.cos(t[1]), np.sin(t[1])]), -t[0]]
        )
    )


@pytest.mark.parametrize("yaw", [-10, 0, 10])
@pytest.mark.parametrize("pitch", [-10, 0, 10])
@pytest.mark.parametrize(
    ("surface", "normal", "distance"),
    [
        ("floor", (0, -1, 0), 1.2),
        ("ceiling", (0, 1, 0), 1.4),
        ("wall on the left", (1, 0, 0), 0.8),
        ("wall on the right", (-1, 0, 0), 1.0),
        ("wall ahead", (0, 0, -1), 3.0),
    ],
)
def test_room_seen_by_a_turned_camera(surface, normal, distance, pitch, yaw):
    expected = turned(normal, pitch, yaw)
    depth = plane_depth(PINHOLE, expected, distance)
    seen = np.isfinite(depth)
    assert seen.sum() > 500
    normals = depth_to_normals(depth, PINHOLE)
    found = normals.any(-1)
    assert found[seen].mean() > 0.97 and not found[~seen].any()
    assert degrees(normals[found], expected).max() < HALF_DEGREE


def test_normal_may_point_away_from_the_image_plane():
    # A camera that looks down by 10 degrees sees the ceiling's normal with n_z > 0.
    expected = turned((0, 1, 0), 10, 0)
    assert expected[2] > 0
    normals = depth_to_normals(plane_depth(PINHOLE, expected, 1.4), PINHOLE)
    assert (normals[normals.any(-1)][:, 2] > 0.15).all()


@pytest.mark.parametrize("lens", LENSES)
@PROPERTY
@given(normal=directions(), distance=st.floats(0.2, 12))
def test_plane_of_any_orientation(lens, normal, distance):
    camera = LENSES[lens]
    depth = plane_depth(camera, normal, distance)
    seen = np.isfinite(depth)
    assume(seen.sum() > 300)
    normals = depth_to_normals(depth, camera)
    found = normals.any(-1)
    assert found[seen].mean() > 0.8
    assert degrees(normals[found], normal).max() < HALF_DEGREE


@pytest.mark.parametrize("lens", LENSES)
@PROPERTY
@given(
    near=directions(40),
    far=directions(40),
    ratio=st.floats(1.5, 4),
    angle=st.floats(-np.pi, np.pi),
    offset=st.floats(-15, 15),
    holes=st.sampled_from([0.0, 0.3]),
)
def test_both_sides_of_a_step_keep_their_own_normal(lens, near, far, ratio, angle, offset, holes):
    camera = LENSES[lens]
    u, v = np.meshgrid(np.arange(WIDTH) - 48, np.arange(HEIGHT) - 36)
    left = u * np.cos(angle) + v * np.sin(angle) < offset
    depths = plane_depth(camera, near, 1.0), plane_depth(camera, far, ratio)
    assume(np.nanmin(depths[1] / depths[0]) > 1.2)
    depth = np.where(left, *depths)
    expected = np.where(left[..., None], near, far)
    # A pixel in a corner of the image has few windows to choose from.
    if holes:
        depth[np.random.default_rng(6).random(depth.shape) < holes] = 0
    normals = depth_to_normals(depth, camera)[INNER]
    found = normals.any(-1)
    assert found[depth[INNER] > 0].mean() > 0.98
    assert degrees(normals[found], expected[INNER][found]).max() < HALF_DEGREE


@PROPERTY
@given(normal=directions(60), holes=st.floats(0.05, 0.6), seed=st.integers(0, 99))
def test_holes_are_left_out_and_stay_invalid(normal, holes, seed):
    depth = plane_depth(PINHOLE, normal, 1.5)
    hole = np.random.default_rng(seed).random(depth.shape) < holes
    depth[hole] = np.resize(np.array([0, np.nan, np.inf, -np.inf, -2], np.float32), hole.sum())
    normals = depth_to_normals(depth, PINHOLE)
    assert not normals[~(depth > 0) | np.isinf(depth)].any()
    found = normals.any(-1)
    assert found[INNER][~hole[INNER] & (depth[INNER] > 0)].mean() > 0.8
    assert degrees(normals[found], normal).max() < HALF_DEGREE


@PROPERTY
@given(normal=directions(50), other=directions(50), lens=st.sampled_from(sorted(LENSES)))
def test_normals_commute_with_flip_and_crop(normal, other, lens):
    camera = LENSES[lens]
    depth = plane_depth(camera, normal, 1.0)
    depth[20:50, 30:60] = plane_depth(camera, other, 2.5)[20:50, 30:60]
    normals = depth_to_normals(depth, camera)
    mirrored = depth_to_normals(depth[:, ::-1].copy(), camera.flipped())[:, ::-1] * [-1, 1, 1]
    cropped = depth_to_normals(depth[10:60, 15:80], camera.cropped(15, 10, 65, 50))
    # Two windows may fit equally well; then the choice is free, the surface is not.
    same = np.abs(mirrored - normals).max(-1) < 0.01
    assert same.mean() > 0.97
    window = (slice(22, 48), slice(27, 68))
    same = np.abs(cropped[12:38, 12:53] - normals[window]).max(-1) < 0.01
    assert same.mean() > 0.97


@PROPERTY
@given(normal=directions(50), scale=st.sampled_from([0.5, 2.0]))
def test_normals_do_not_change_with_resize(normal, scale):
    camera = PINHOLE.resized(int(WIDTH * scale), int(HEIGHT * scale))
    normals = depth_to_normals(plane_depth(camera, normal, 1.0), camera)
    assert degrees(normals[normals.any(-1)], normal).max() < HALF_DEGREE


def test_crease_between_floor_and_wall_stays_sharp():
    floor = plane_depth(PINHOLE, turned((0, -1, 0), 20, 0), 1.0)
    wall = plane_depth(PINHOLE, turned((0, 0, -1), 20, 0), 2.5)
    depth = np.fmin(floor, wall)
    on_floor = ~(wall < floor)
    expected = np.where(on_floor[..., None], turned((0, -1, 0), 20, 0), turned((0, 0, -1), 20, 0))
    angle = degrees(depth_to_normals(depth, PINHOLE), expected)[INNER]
    assert (angle < HALF_DEGREE).mean() > 0.9 and angle.mean() < 2


def test_sensor_noise_is_averaged_and_wider_windows_average_more():
    # Noise of structured light: even in inverse depth.
    expected = turned((0, 0, -1), 15, 30)
    exact = plane_depth(PINHOLE, expected, 2.0)
    noisy = 1 / (1 / exact + np.random.default_rng(7).normal(0, 5e-4, exact.shape))
    narrow, wide = (
        degrees(depth_to_normals(noisy, PINHOLE, window), expected).mean() for window in (5, 15)
    )
    assert wide < 0.5 and wide < narrow / 3


def test_a_scene_and_its_small_model_have_the_same_normals():
    """Thresholds are relative: from a table's edge to a street, nothing changes but the scale."""
    expected = turned((0, 0, -1), 15, 30)
    depth = plane_depth(PINHOLE, expected, 2.0)
    depth[:, 50:] *= 1.02
    # from clean to so noisy that there are no planes
    noise = np.random.default_rng(3).normal(0, 1, depth.shape)
    depth *= 1 + noise * np.linspace(0, 0.1, HEIGHT)[:, None]
    normals = depth_to_normals(depth, PINHOLE)
    assert 0.3 < normals.any(-1).mean() < 1
    for scale in (0.05, 20.0):
        scaled = depth_to_normals(depth * np.float32(scale), PINHOLE)
        assert (scaled.any(-1) == normals.any(-1)).mean() > 0.999
        assert degrees(scaled, normals)[normals.any(-1) & scaled.any(-1)].max() < 0.1


def test_a_lone_outlier_gets_no_normal_and_spoils_no_other():
    expected = turned((0, -0.5, -0.866), 0, 0)
    depth = plane_depth(PINHOLE, expected, 2.0)
    depth[30, 40] *= 0.3
    normals = depth_to_normals(depth, PINHOLE)
    assert not normals[30, 40].any()
    others = normals.any(-1)
    assert others.mean() > 0.97
    assert degrees(normals[others], expected).max() < HALF_DEGREE


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_slivers_have_no_normals(size):
    camera = Camera(np.array([[50.0, 0, 0], [0, 50, 0], [0, 0, 1]]), *size)
    assert not depth_to_normals(np.ones((size[1], size[0]), np.float32), camera).any()


def test_normals_are_float32_units_or_zero_and_depth_may_be_any_real_type():
    depth = plane_depth(PINHOLE, np.array([0, 0, -1.0]), 2.0)
    depth[:30] = 0
    for dtype in (np.float16, np.float32, np.float64):
        normals = depth_to_normals(depth.astype(dtype), PINHOLE)
        assert normals.dtype == np.float32
        assert set(np.round(np.linalg.norm(normals, axis=-1).ravel(), 5)) == {0.0, 1.0}


def test_unusable_arguments_are_refused():
    for window in (-1, 1, 2, 4):
        with pytest.raises(ValueError, match="an odd number of 3 or more"):
            depth_to_normals(np.ones((HEIGHT, WIDTH)), PINHOLE, window=window)
    with pytest.raises(ValueError, match="depth has shape"):
        depth_to_normals(np.ones((10, 10)), PINHOLE)


@pytest.mark.data
def test_normals_of_real_depth_agree_with_those_of_the_pack(nyuv2):
    # 8-bit depth has steps of 4 cm, which take a wide window and count as noise.
    camera = Camera(np.array([[518.86, 0, 325.58], [0, 519.47, 253.74], [0, 0, 1]]), 640, 480)
    means, medians = [], []
    for frame in ("0001", "0635", "1195"):
        depth = cv2.imread(str(nyuv2 / "depth" / f"{frame}.png"), cv2.IMREAD_UNCHANGED) / 25.5
        stored = cv2.imread(str(nyuv2 / "normal" / f"{frame}.webp"))[..., ::-1]
        expected = np.floor(stored / 4) / 63 * 2 - 1
        expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
        normals = depth_to_normals(depth, camera, window=21, noise=0.04)
        normals = resize(normals, 384, 288, "nearest")
        both = normals.any(-1) & stored.any(-1)
        both[:12], both[-12:], both[:, :12], both[:, -12:] = False, False, False, False
        angle = degrees(normals, expected)[both]
        means.append(angle.mean())
        medians.append(np.median(angle))
    assert np.mean(means) < 10 and np.mean(medians) < 6


def test_normals_do_not_depend_on_the_strips_they_are_computed_in(monkeypatch):
    camera = Camera(np.array([[90.0, 0, 19.5], [0, 90, 199.5], [0, 0, 1]]), 40, 400)
    generator = np.random.default_rng(0)
    depth = 2 + 0.3 * np.sin(np.arange(400) / 9)[:, None] + generator.normal(0, 0.004, (400, 40))
    strips = depth_to_normals(depth, camera)
    monkeypatch.setattr(normals_module, "_STRIP", 1000)
    assert np.array_equal(strips, depth_to_normals(depth, camera))


@pytest.mark.parametrize("size", [(4, 40), (40, 4), (4, 4)])
def test_an_image_smaller_than_a_window_has_normals(size):
    width, height = size
    camera = Camera(np.array([[90.0, 0, width / 2], [0, 90, height / 2], [0, 0, 1]]), width, height)
    normals = depth_to_normals(np.full((height, width), 2.0), camera, window=11, min_valid=0.1)
    assert np.allclose(normals, (0, 0, -1), atol=1e-3)


def test_a_skewed_camera_sees_planes_as_they_are():
    skewed = Camera(PINHOLE.K + np.array([[0, 25.0, 0], [0, 0, 0], [0, 0, 0]]), WIDTH, HEIGHT)
    normal = np.array([0.3, -0.2, -0.93])
    normal /= np.linalg.norm(normal)
    normals = depth_to_normals(plane_depth(skewed, normal, 2.0), skewed)
    assert degrees(normals[INNER], normal).max() < HALF_DEGREE
