# SPDX-License-Identifier: Apache-2.0
"""Image messages to arrays: every encoding, any padding, both byte orders, and broken ones."""

from __future__ import annotations

import array

import numpy as np
import pytest
from encoded import cause_of
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.encodings import (
    ENCODINGS,
    decode_image,
    to_depth,
    to_rgb,
)

PROPERTY = settings(max_examples=250, deadline=None)
# Where red, green and blue stand in a stored pixel.
COLOUR_ORDERS = {
    **dict.fromkeys(("rgb8", "rgba8", "rgb16", "rgba16"), (0, 1, 2)),
    **dict.fromkeys(
        ("bgr8", "8UC3", "bgra8", "8UC4", "bgr16", "16UC3", "bgra16", "16UC4"), (2, 1, 0)
    ),
    **dict.fromkeys(("mono8", "8UC1", "mono16"), (0, 0, 0)),
}
# The first two rows of a mosaic, as ROS names it.
MOSAICS = {name: name[6:10] for name in ENCODINGS if name.startswith("bayer")}


def message_bytes(pixels, padding, big):
    """Bytes of an image as its driver would send it, built row by row, and their step."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xa5" * padding for row in stored]
    return b"".join(rows), len(rows[0])


def random_pixels(name, height, width, seed):
    layout = ENCODINGS[name]
    shape = (height, width, layout.channels)[: 2 if layout.channels == 1 else 3]
    generator = np.random.default_rng(seed)
    if layout.dtype == "f4":
        return generator.uniform(0.1, 9, shape).astype(np.float32)
    return generator.integers(0, np.iinfo(layout.dtype).max, shape, layout.dtype, endpoint=True)


@PROPERTY
@given(
    name=st.sampled_from(sorted(set(ENCODINGS) - {"nv12", "nv21"})),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    big=st.booleans(),
    seed=st.integers(0, 9),
)
def test_stored_pixels_survive_any_step_and_byte_order(name, height, width, padding, big, seed):
    pixels = random_pixels(name, height, width, seed)
    data, step = message_bytes(pixels, padding, big)
    decoded = decode_image(name, height, width, step, big, data)
    assert decoded.shape == pixels.shape
    np.testing.assert_array_equal(decoded, pixels)


@PROPERTY
@given(
    name=st.sampled_from(sorted(COLOUR_ORDERS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    big=st.booleans(),
)
def test_colours_come_out_in_rgb_order(name, height, width, padding, big):
    pixels = random_pixels(name, height, width, 1)
    data, step = message_bytes(pixels, padding, big)
    rgb = to_rgb(name, height, width, step, big, data)
    expected = pixels if pixels.ndim == 3 else pixels[..., None]
    expected = expected[..., list(COLOUR_ORDERS[name])]
    if expected.dtype == np.uint16:
        expected = expected // 256
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(
    ("name", "luma", "blue", "red"),
    [
        ("yuv422", (1, 3), 0, 2),
        ("uyvy", (1, 3), 0, 2),
        ("yuv422_yuy2", (0, 2), 1, 3),
        ("yuyv", (0, 2), 1, 3),
    ],
)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 6), pairs=st.integers(1, 5), padding=st.integers(0, 5))
def test_yuv_follows_bt601(name, luma, blue, red, height, pairs, padding):
    quads = np.random.default_rng(2).integers(60, 190, (height, pairs, 4), np.uint8)
    data, step = message_bytes(quads.reshape(height, -1), padding, False)
    rgb = to_rgb(name, height, 2 * pairs, step, False, data)
    for column in range(2):
        y = 1.164 * (quads[..., luma[column]].astype(float) - 16)
        u, v = quads[..., blue].astype(float) - 128, quads[..., red].astype(float) - 128
        expected = np.stack([y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u], -1)
        np.testing.assert_allclose(rgb[:, column::2], expected.clip(0, 255), atol=2)


@pytest.mark.parametrize(("name", "blue"), [("nv12", 0), ("nv21", 1)])
@pytest.mark.parametrize("padding", [0, 4])
def test_half_the_rows_more_are_colour(name, blue, padding):
    rows = np.empty((6, 8), np.uint8)
    rows[:4] = np.arange(60, 92).reshape(4, 8)
    rows[4:, blue::2], rows[4:, 1 - blue :: 2] = 140, 110
    data, step = message_bytes(rows, padding, False)
    y = 1.164 * (rows[:4].astype(float) - 16)
    expected = np.stack([y - 1.596 * 18, y - 0.391 * 12 + 0.813 * 18, y + 2.018 * 12], -1)
    np.testing.assert_allclose(to_rgb(name, 4, 8, step, False, data), expected, atol=2)


def test_mosaic_keeps_shapes_in_place():
    # Of two colours: a mosaic read with a shift would swap or smear them.
    scene = np.zeros((12, 16, 3), np.uint8)
    scene[:, :8], scene[:, 8:] = (240, 90, 30), (10, 120, 250)
    rows, columns = np.mgrid[:12, :16]
    for name, pattern in MOSAICS.items():
        channel = np.array(["rgb".index(letter) for letter in pattern]).reshape(2, 2)
        mosaic = scene[rows, columns, channel[rows % 2, columns % 2]]
        data, step = message_bytes(
            mosaic.astype(ENCODINGS[name].dtype) << 8 * ("16" in name), 0, False
        )
        rgb = to_rgb(name, 12, 16, step, False, data)
        np.testing.assert_array_equal(rgb[:, 1:6], scene[:, 1:6])
        np.testing.assert_array_equal(rgb[:, 10:15], scene[:, 10:15])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("name", ["16UC1", "mono16"])
def test_integer_depth_is_millimetres_and_zero_is_none(name, big):
    data, step = message_bytes(np.array([[0, 1, 65535], [1500, 0, 256]], np.uint16), 3, big)
    depth = to_depth(name, 2, 3, step, big, data)
    assert depth.dtype == np.float32 and depth.dtype.isnative
    np.testing.assert_allclose(depth, [[np.nan, 0.001, np.nan], [1.5, np.nan, 0.256]])


@pytest.mark.parametrize("big", [False, True])
def test_float_depth_is_metres_and_everything_else_is_nan(big):
    pixels = np.array([[0, -1, np.nan, np.inf, -np.inf, 2.5]], np.float32)
    data, step = message_bytes(pixels, 1, big)
    np.testing.assert_array_equal(to_depth("32FC1", 1, 6, step, big, data), [[np.nan] * 5 + [2.5]])


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview, "array", "numpy"])
def test_data_of_any_kind_is_viewed_and_not_copied(container):
    raw = bytes(range(60))
    data = {"array": array.array("B", raw), "numpy": np.frombuffer(raw, np.uint8)}.get(
        container, None if isinstance(container, str) else container(raw)
    )
    rgb = to_rgb("rgb8", 4, 4, 15, False, data)
    assert rgb[1, 0, 0] == 15 and rgb[3, 3, 2] == 56
    assert np.shares_memory(rgb, np.frombuffer(data, np.uint8))
    assert np.shares_memory(
        decode_image("16UC1", 4, 7, 15, True, data), np.frombuffer(data, np.uint8)
    )


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("rgb8", 0, 4, 12, False, b""), "zero_size"),
        (("rgb8", 4, 0, 0, False, b""), "zero_size"),
        (("rgb8", 4, 4, 12, False, b""), "short_data"),
        (("rgb8", 4, 4, 12, False, bytes(47)), "short_data"),
        (("rgb8", 2**32 - 1, 2**30, 2**32 - 1, False, bytes(48)), "short_data"),
        (("rgb8", 4, 4, 11, False, bytes(48)), "bad_step"),
        (("rgb8", 4, 4, 0, False, bytes(48)), "bad_step"),
        (("", 4, 4, 12, False, bytes(48)), "unknown_encoding"),
        (("h264", 4, 4, 12, False, bytes(48)), "unknown_encoding"),
        (("uyvy", 4, 3, 6, False, bytes(48)), "bad_width"),
        (("nv12", 3, 4, 4, False, bytes(48)), "bad_width"),
        (("nv12", 4, 4, 4, False, bytes(23)), "short_data"),
        (("bayer_rggb8", 2, 2, 2, False, bytes(4)), "bad_width"),
        (("16UC1", 4, 4, 8, False, bytes(48)), "wrong_kind"),
        (("32FC1", 4, 4, 16, False, bytes(64)), "wrong_kind"),
        (("32FC3", 1, 4, 48, False, bytes(64)), "wrong_kind"),
    ],
)
def test_unreadable_picture_is_refused_by_cause(arguments, cause):
    assert cause_of(to_rgb, *arguments) == cause


def test_picture_is_no_depth():
    assert cause_of(to_depth, "rgb8", 1, 4, 12, False, bytes(12)) == "wrong_kind"
    assert cause_of(to_depth, "16UC1", 2, 4, 8, False, bytes(15)) == "short_data"


@pytest.mark.parametrize(
    "name", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "yuv422_yuy2", *MOSAICS]
)
def test_cv_bridge_reads_the_same_colours(name):
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    messages = pytest.importorskip("sensor_msgs.msg", reason="sensor_msgs is not installed")
    pixels = random_pixels(name, 6, 8, 4)
    data, step = message_bytes(pixels, 0, False)
    message = messages.Image(height=6, width=8, encoding=name, step=step)
    message.data = array.array("B", data)
    oracle = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    ours = to_rgb(name, 6, 8, step, False, message.data)
    # 16 bits are cut to 8 here and rounded there.
    np.testing.assert_allclose(ours.astype(int), oracle.astype(int), atol=1)
