# SPDX-License-Identifier: Apache-2.0
"""Letterboxes: images reach the network unstretched, and maps come back to their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.geometry import Camera, Letterbox, height_at, resize, resize_to_width

PROPERTY = settings(max_examples=40, deadline=None)
CAMERA = Camera(np.array([[61.0, 0, 30.2], [0, 62.5, 25.1], [0, 0, 1]]), 64, 48)
sides = st.integers(1, 150)


@PROPERTY
@given(sides, sides, sides, sides)
def test_letterbox_keeps_the_image_inside_and_touches_two_sides(src_w, src_h, dst_w, dst_h):
    box = Letterbox.fit(src_w, src_h, dst_w, dst_h)
    image = np.full((src_h, src_w, 3), 200, np.uint8)
    canvas = box.apply(image)
    assert canvas.shape == (dst_h, dst_w, 3)
    inside = np.zeros((dst_h, dst_w), bool)
    inside[box.window] = True
    assert (canvas[inside] == 200).all() and (canvas[~inside] == 127).all()
    assert box.new_w == dst_w or box.new_h == dst_h
    assert abs(box.left - (dst_w - box.new_w - box.left)) <= 1
    # Not stretched: each side is the scaled one to within half a pixel, unless it would vanish.
    assert abs(box.new_w - src_w * box.scale) <= 0.5 or box.new_w == 1
    assert abs(box.new_h - src_h * box.scale) <= 0.5 or box.new_h == 1
    assert box.undo(canvas[..., 0]).shape == (src_h, src_w)
    assert (box.undo(canvas) == 200).all() and (box.undo(canvas, "linear") == 200).all()


@pytest.mark.parametrize("size", [(96, 96), (128, 64), (40, 60), (64, 48)])
def test_letterboxed_pixels_lie_where_the_letterboxed_camera_sees_them(size):
    # A picture that shows its own coordinates, in a value per pixel wide enough to interpolate.
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    box = Letterbox.fit(64, 48, *size)
    network = box.camera(CAMERA)
    canvas = box.apply(np.stack([3 * u, 4 * v, 0 * u], -1).astype(np.uint8))
    rows, columns = np.mgrid[box.window]
    inner = (slice(2, -2), slice(2, -2))
    source = CAMERA.project(network.rays()[box.window])
    assert (network.width, network.height) == size
    np.testing.assert_allclose(canvas[rows, columns, 0][inner] / 3, source[inner][..., 0], atol=0.4)
    np.testing.assert_allclose(canvas[rows, columns, 1][inner] / 4, source[inner][..., 1], atol=0.4)


def test_undo_returns_smooth_maps_to_their_pixels():
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    ramp = (0.1 * u + 0.2 * v).astype(np.float32)
    box = Letterbox.fit(64, 48, 128, 128)
    network = np.full((128, 128), 1e6, np.float32)  # padding that must not leak in
    network[box.window] = resize(ramp, box.new_w, box.new_h)
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(box.undo(network, "linear")[inner], ramp[inner], atol=0.02)
    np.testing.assert_allclose(box.undo(network, "nearest")[inner], ramp[inner], atol=0.16)


def test_nearest_keeps_ids_and_does_not_shift():
    ids = np.random.default_rng(5).integers(0, 255, (7, 9), np.uint8)
    assert (resize(ids, 27, 21, "nearest") == ids.repeat(3, 0).repeat(3, 1)).all()
    assert (resize(resize(ids, 27, 21, "nearest"), 9, 7, "nearest") == ids).all()


def test_letterbox_refuses_sizes_it_was_not_made_for():
    box = Letterbox.fit(64, 48, 96, 96)
    with pytest.raises(ValueError, match="image is 10x10"):
        box.apply(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="map is 64x48"):
        box.undo(np.zeros((48, 64)))
    with pytest.raises(ValueError, match="cannot fit"):
        Letterbox.fit(0, 48, 96, 96)
    with pytest.raises(ValueError, match="interpolation 'cubic'"):
        resize(np.zeros((4, 4)), 2, 2, "cubic")
    for size in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="is not positive"):
            resize(np.zeros((4, 4)), *size)
    assert resize(np.zeros((4, 4)), 1, 1).shape == (1, 1)


def test_a_very_thin_image_keeps_one_pixel_in_the_middle():
    box = Letterbox.fit(1, 200, 50, 50)
    assert (box.new_w, box.new_h, box.left, box.top) == (1, 50, 24, 0)
    box = Letterbox.fit(200, 1, 50, 50)
    assert (box.new_w, box.new_h, box.left, box.top) == (50, 1, 0, 24)


def test_shrinking_averages_areas_and_anything_else_interpolates():
    # six columns become one: their mean, not a value between the two in the middle
    wide = np.zeros((4, 60), np.float32)
    wide[:, ::6] = 6.0
    assert np.allclose(resize(wide, 10, 4), 1.0)
    assert np.allclose(resize(wide.T.copy(), 4, 10), 1.0)
    # one side grows: nothing is averaged along the other
    grown = resize(wide, 10, 8)
    assert grown.shape == (8, 10) and not np.allclose(grown, 1.0)


def test_an_image_of_one_right_side_is_resized_all_the_same():
    image = np.zeros((48, 64), np.uint8)
    assert resize(image, 32, 48).shape == (48, 32) and resize(image, 64, 24).shape == (24, 64)
    assert resize(image, 64, 48) is image


def test_a_strip_that_is_made_narrow_keeps_a_row():
    strip = np.full((2, 100), 7, np.uint8)
    assert height_at(10, strip) == height_at(50, strip) == 1
    assert (resize_to_width(strip, 10) == np.full((1, 10), 7)).all()
