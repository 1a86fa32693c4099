# SPDX-License-Identifier: Apache-2.0
"""Cameras, letterboxes and points: whatever happens to an image, its geometry follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.geometry import Camera, canonical_factor, depth_to_points, distortion

TANGENTIAL = (0.1, 0.02, 1e-3, 2e-3, 0, 0, 0, 0)
LENSES = {
    "pinhole": ("", None),
    "plumb_bob": ("plumb_bob", [-0.28, 0.09, 0.001, -0.0007, 0.01]),
    "rational_polynomial": ("rational_polynomial", [0.4, 0.1, 3e-4, -2e-4, 0.01, 0.6, 0.2, 0.03]),
    "thin prism": ("rational_polynomial", [*TANGENTIAL, 2e-3, 1e-3, -1e-3, 5e-4]),
    "tilted": ("rational_polynomial", [*TANGENTIAL, 0, 0, 0, 0, 0.02, -0.03]),
    "equidistant": ("equidistant", [0.03, -0.01, 0.002, 0.0]),
    "equidistant without coefficients": ("equidistant", []),
}
PROPERTY = settings(max_examples=20, deadline=None)


def make_camera(lens: str = "pinhole", width: int = 64, height: int = 48) -> Camera:
    model, coefficients = LENSES[lens]
    K = np.array([[61.0, 0, 30.2], [0, 62.5, 25.1], [0, 0, 1]])
    P = np.array([[58.0, 0, 31.0, -7.0], [0, 58.0, 24.0, 0.5], [0, 0, 1, 0]])
    return Camera(K, width, height, coefficients, P, model)


def info(**changes):
    fields = dict(
        height=48,
        width=64,
        K=[61.0, 0, 30.2, 0, 62.5, 25.1, 0, 0, 1],
        D=[0.0] * 5,
        P=[58.0, 0, 31.0, 0, 0, 58.0, 24.0, 0, 0, 0, 1, 0],
        distortion_model="plumb_bob",
    )
    return {**fields, **changes}


points_in_view = st.tuples(st.floats(-0.35, 0.35), st.floats(-0.3, 0.3), st.floats(0.3, 20)).map(
    lambda p: np.array([p[0] * p[2], p[1] * p[2], p[2]])
)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_lead_back_to_their_pixels(lens):
    camera = make_camera(lens)
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    assert camera.rays().shape == (48, 64, 3) and camera.rays().dtype == np.float32
    np.testing.assert_allclose(camera.project(camera.rays()), np.stack([u, v], -1), atol=1e-3)


def test_the_ray_table_of_a_4k_camera_is_exact_and_costs_few_rays(monkeypatch):
    computed, exact = [], distortion.undistort_rays

    def counted(xy, *lens):
        computed.append(len(xy))
        return exact(xy, *lens)

    monkeypatch.setattr(distortion, "undistort_rays", counted)
    K = [[2700.0, 0, 1920], [0, 2700, 1080], [0, 0, 1]]
    camera = Camera(K, 3840, 2160, [-0.28, 0.07, 2e-4, 2e-5, 0], None, "plumb_bob")
    u, v = np.meshgrid(np.arange(3840), np.arange(2160))
    seen = camera.project(camera.rays()[::7, ::7])
    np.testing.assert_allclose(seen, np.stack([u, v], -1)[::7, ::7], atol=0.01)
    assert sum(computed) < 300_000 < 3840 * 2160 / 20


@pytest.mark.parametrize("lens", LENSES)
@PROPERTY
@given(points_in_view, st.integers(8, 200), st.integers(8, 200))
def test_resize_moves_projections_by_pixel_centres(lens, point, width, height):
    camera = make_camera(lens)
    scale = np.array([width / 64, height / 48])
    expected = (camera.project(point) + 0.5) * scale - 0.5
    np.testing.assert_allclose(camera.resized(width, height).project(point), expected, atol=1e-6)


@pytest.mark.parametrize("lens", LENSES)
@PROPERTY
@given(points_in_view)
def test_flip_mirrors_projections_of_the_mirrored_world(lens, point):
    camera = make_camera(lens)
    u, v = camera.project(point)
    mirrored = camera.flipped().project(point * [-1, 1, 1])
    np.testing.assert_allclose(mirrored, [63 - u, v], atol=1e-6)
    again = camera.flipped().flipped()
    np.testing.assert_allclose(again.project(point), [u, v], atol=1e-6)


@PROPERTY
@given(points_in_view, st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
def test_crop_and_pad_shift_projections_and_rays(point, x, y, pad):
    camera = make_camera("plumb_bob")
    cropped = camera.cropped(x, y, 40, 25)
    np.testing.assert_allclose(cropped.project(point), camera.project(point) - [x, y])
    np.testing.assert_allclose(cropped.rays(), camera.rays()[y : y + 25, x : x + 40], atol=1e-6)
    padded = cropped.padded(pad, 2, 1, 3)
    assert (padded.width, padded.height) == (41 + pad, 30)
    np.testing.assert_allclose(padded.project(point), cropped.project(point) + [pad, 2])


@PROPERTY
@given(points_in_view)
def test_projection_matrix_follows_with_its_baseline(point):
    def through_p(camera):
        u, v, w = camera.P @ np.append(point, 1)
        return np.array([u, v]) / w

    camera = make_camera()
    pixel = through_p(camera)
    np.testing.assert_allclose(through_p(camera.cropped(3, 5, 30, 30)), pixel - [3, 5])
    np.testing.assert_allclose(
        through_p(camera.resized(128, 24)), (pixel + 0.5) * [2, 0.5] - 0.5, atol=1e-9
    )
    flipped = camera.flipped().P @ np.append(point * [-1, 1, 1], 1)
    np.testing.assert_allclose(flipped[:2] / flipped[2], [63 - pixel[0], pixel[1]], atol=1e-9)


def test_rectified_camera_is_the_projection_matrix_without_distortion():
    camera = make_camera("plumb_bob").rectified()
    assert (camera.fx, camera.cx, camera.D) == (58.0, 31.0, None)
    np.testing.assert_allclose(camera.rays()[24, 31], [0, 0, 1], atol=1e-6)


def test_pixels_outside_the_lens_model_have_no_ray_and_no_point():
    # 90 degrees off axis is reached 1.57 focal lengths from the centre.
    camera = Camera(np.diag([20.0, 20, 1]), 80, 5, None, None, "equidistant")
    rays = camera.rays()
    assert np.isfinite(rays[0, 25]).all() and np.isnan(rays[0, 45:, 0]).all()
    assert np.isnan(depth_to_points(np.ones((5, 80)), camera)[:, 45:]).all()


def test_skewed_matrix_is_honoured():
    K = make_camera().K.copy()
    K[0, 1] = 5
    camera = Camera(K, 64, 48)
    np.testing.assert_allclose(camera.project(camera.rays()[10, 20]), [20, 10], atol=1e-4)


@pytest.mark.parametrize(
    ("bin_x", "bin_y", "roi"),
    [
        *((*bins, (0, 0, 0, 0)) for bins in ((0, 0), (2, 2), (1, 2), (2, 1))),
        *((*bins, (8, 4, 20, 40)) for bins in ((1, 1), (4, 2))),
    ],
)
@pytest.mark.parametrize("rectified", [False, True])
def test_region_of_interest_comes_before_binning(bin_x, bin_y, roi, rectified):
    camera = Camera.from_info(
        **info(), binning_x=bin_x, binning_y=bin_y, roi=roi, rectified=rectified
    )
    x, y, height, width = roi if any(roi) else (0, 0, 48, 64)
    step = np.array([max(bin_x, 1), max(bin_y, 1)])
    assert (camera.width, camera.height) == (width // step[0], height // step[1])
    point = np.array([0.2, -0.1, 2.0])
    fx, fy, cx, cy = (58, 58, 31, 24) if rectified else (61, 62.5, 30.2, 25.1)
    sensor = np.array([fx * 0.1 + cx, fy * -0.05 + cy])
    np.testing.assert_allclose(camera.project(point), (sensor - [x, y] + 0.5) / step - 0.5)


def test_rectified_image_ignores_distortion_and_falls_back_to_k_without_p():
    bent = info(D=[-0.3, 0.1, 0, 0, 0])
    assert Camera.from_info(**bent).distorted
    assert not Camera.from_info(**bent, rectified=True).distorted
    assert Camera.from_info(**{**bent, "P": [0.0] * 12}, rectified=True).fx == 61.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"K": [np.nan] * 9}, "K has values that are not finite"),
        ({"K": [-61.0, 0, 30, 0, 62, 25, 0, 0, 1]}, "must be positive"),
        ({"K": [61.0, 0, 30, 0, 0, 25, 0, 0, 1]}, "focal lengths 61 and 0, which must be positive"),
        ({"K": [61.0, 0, 30, -1, 62, 25, 0, 0, 1]}, "K is not a camera matrix"),
        ({"K": [61.0, 0, 30, 0, 62, 25, 0, 0, 0]}, "K is not a camera matrix"),
        ({"K": [61.0] * 8}, "K has 8 values"),
        ({"K": [0.5, 0, 30, 0, -0.5, 25, 0, 0, 1]}, "must be positive"),
        ({"width": 0}, "not positive"),
        ({"height": 0}, "not positive"),
        ({"binning_x": 65}, "leaves nothing"),
        ({"binning_y": 49}, "leaves nothing"),
    ],
)
def test_impossible_camera_info_is_refused_with_its_reason(changes, reason):
    with pytest.raises(ValueError, match=reason):
        Camera.from_info(**info(**changes))


D4, D8 = [0.05, -0.02, 1e-3, 5e-4], [0.3, 0.1, 1e-4, 1e-4, 0.01, 0.25, 0.09, 0.02]


@pytest.mark.parametrize(
    ("model", "given", "used", "taken"),
    [
        *((name, [*D4, 0.1], "plumb_bob", [*D4, 0.1]) for name in (
            "", "radtan", "brown_conrady", "Brown-Conrady", "PLUMB_BOB", "pinhole", "opencv")),
        ("radtan", D4[:3], "plumb_bob", [*D4[:3], 0]),
        ("plumb_bob", [*D4, 0, 0, 0], "plumb_bob", D4),
        ("equidistant", [*D4, 0], "equidistant", D4),
        ("kannala_brandt4", [*D4, *[0] * 10], "equidistant", D4),
        ("rational_polynomial", D8[:6], "rational_polynomial", [*D8[:6], 0, 0]),
        ("magic", [0] * 5, "", None),
    ],
)  # fmt: skip
def test_distortion_is_read_as_drivers_write_it(model, given, used, taken):
    camera = Camera.from_info(**info(distortion_model=model, D=given))
    assert not camera.approximate
    assert camera.distortion_model == used
    assert (camera.D if taken is None else camera.D.tolist()) == taken


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"P": [58.0] * 3}, "cannot reshape"),
        ({"P": [58.0, 0, np.inf, 0, 0, 58, 24, 0, 0, 0, 1, 0]}, "P has values that are not finite"),
        ({"D": [np.inf] * 5}, "D has values that are not finite"),
        ({"D": [1e9] * 5}, "no lens"),
        ({"distortion_model": "equidistant", "D": [0.1] * 5}, "D has 5 values"),
        ({"distortion_model": "magic", "D": [0.1] * 5}, "distortion model 'magic' is not known"),
        ({"roi": (60, 0, 10, 10)}, "not inside"),
    ],
)
def test_what_cannot_be_used_of_camera_info_leaves_k(changes, reason):
    camera = Camera.from_info(**info(**changes))
    assert camera.fx == 61.0 and reason in camera.approximate
    assert "D" not in changes or not camera.distorted
    assert reason in camera.resized(20, 20).approximate


def test_a_region_as_large_as_the_camera_has_a_matrix_of_its_own():
    camera = Camera.from_info(**info(roi=(40, 30, 48, 64)))
    assert (camera.width, camera.height, camera.cx) == (64, 48, 30.2) and not camera.approximate


def test_what_camera_info_may_leave_out():
    whole = Camera.from_info(48, 64, make_camera().K.ravel())
    assert (whole.width, whole.height, whole.fx) == (64, 48, 61.0)
    corner = Camera.from_info(**info(roi=(10, 5, 0, 0)))
    assert (corner.width, corner.height) == (54, 43)
    single = Camera.from_info(**info(binning_x=64, binning_y=48))
    assert (single.width, single.height) == (1, 1)
    assert Camera.from_info(**info(K=[0.0] * 9)) is None


def test_canonical_depth_becomes_metres_of_the_actual_lens():
    # The same object at twice the focal length looks as if it stood at half the distance.
    assert canonical_factor(1000.0, 500.0) == 2.0
    camera = make_camera()
    zoomed = camera.cropped(16, 12, 32, 24).resized(64, 48)
    assert canonical_factor(zoomed.fx, 61.0) == 2 * canonical_factor(camera.fx, 61.0)


@pytest.mark.parametrize("lens", ["pinhole", "plumb_bob", "equidistant"])
def test_points_equal_a_loop_over_pixels(lens):
    camera = make_camera(lens, 24, 17)
    depth = np.random.default_rng(3).uniform(0.2, 9, (17, 24)).astype(np.float32)
    depth[2, 3], depth[4, 5], depth[6, 7], depth[8, 9] = 0, np.nan, np.inf, -1
    points = depth_to_points(depth, camera)
    assert points.dtype == np.float32
    for v in range(17):
        for u in range(24):
            if (v, u) in ((2, 3), (4, 5), (6, 7), (8, 9)):
                assert np.isnan(points[v, u]).all()
            else:
                assert points[v, u, 2] == depth[v, u]
                np.testing.assert_allclose(camera.project(points[v, u]), [u, v], atol=1e-3)


@pytest.mark.parametrize("lens", ["pinhole", "thin prism", "equidistant"])
def test_points_commute_with_flip_and_crop(lens):
    camera = make_camera(lens)
    depth = np.random.default_rng(4).uniform(0.5, 3, (48, 64)).astype(np.float32)
    points = depth_to_points(depth, camera)
    mirrored = depth_to_points(depth[:, ::-1], camera.flipped())
    np.testing.assert_allclose(mirrored[:, ::-1] * [-1, 1, 1], points, atol=1e-5)
    window = depth_to_points(depth[5:25, 7:47], camera.cropped(7, 5, 40, 20))
    np.testing.assert_allclose(window, points[5:25, 7:47], atol=1e-5)


def test_depth_of_another_size_than_the_camera_is_refused():
    with pytest.raises(ValueError, match="48 high and 64 wide"):
        depth_to_points(np.ones((64, 48)), make_camera())


def test_cameras_cannot_be_changed_in_place_and_share_their_rays():
    camera = make_camera("plumb_bob")
    for array in (camera.K, camera.D, camera.rays()):
        with pytest.raises(ValueError):
            array[0] = 1
    assert replace(camera, width=10).width == 10
    assert make_camera("plumb_bob").rays() is camera.rays()


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (0, 0, 5, 0), (-1, 0, 5, 5), (0, -1, 5, 5)])
def test_a_window_outside_the_image_or_without_pixels_is_refused(window):
    with pytest.raises(ValueError, match="is not inside 64x48"):
        make_camera().cropped(*window)
    assert make_camera().cropped(63, 47, 1, 1).width == 1


def test_an_image_of_the_same_shape_has_the_resized_camera_and_others_have_none():
    camera = make_camera()
    assert camera.fitted(64, 48) is camera
    half = camera.fitted(32, 24)
    assert half is not None and np.allclose(half.K, camera.resized(32, 24).K)
    assert camera.fitted(128, 96).width == 128
    assert camera.fitted(32, 30) is None and camera.fitted(48, 64) is None
