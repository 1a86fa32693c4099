# SPDX-License-Identifier: Apache-2.0
"""Compressed images: JPEG, PNG and compressed depth, whole and damaged."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from encoded import cause_of, png_chunk
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.encodings import (
    EncodingError,
    decode_compressed,
    decode_compressed_depth,
    encode_compressed,
)


def photograph():
    u, v = np.meshgrid(np.arange(80), np.arange(50))
    return np.stack([u * 3, v * 5, 120 + 0 * u], -1).astype(np.uint8)


def test_png_is_exact_and_jpeg_is_close():
    rgb = photograph()
    exact = decode_compressed("rgb8; png compressed bgr8", encode_compressed(rgb, "png"))
    np.testing.assert_array_equal(exact, rgb)
    close = decode_compressed("jpeg", encode_compressed(rgb, "jpeg", 95).tobytes())
    assert np.abs(close.astype(int) - rgb).mean() < 2
    with pytest.raises(ValueError, match="webp"):
        encode_compressed(rgb, "webp")


def test_grey_and_16_bit_pictures_become_rgb():
    grey = photograph()[..., 0]
    for stored in (grey, grey.astype(np.uint16) * 257):
        png = cv2.imencode(".png", stored)[1]
        np.testing.assert_array_equal(
            decode_compressed("mono16; png compressed ", png), np.dstack([grey] * 3)
        )
    jpeg = cv2.imencode(".jpg", grey)[1]
    assert decode_compressed("mono8; jpeg compressed", jpeg).shape == (50, 80, 3)


def declared_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def declared_jpeg(width, height):
    jpeg = bytearray(encode_compressed(photograph()).tobytes())
    start = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, start + 5, height, width)
    return bytes(jpeg)


@pytest.mark.parametrize("declare", [declared_png, declared_jpeg])
def test_declared_size_is_checked_before_memory_is_taken(declare):
    assert cause_of(decode_compressed, "", declare(60000, 60000)) == "too_large"
    assert cause_of(decode_compressed, "", declare(0, 50)) == "zero_size"


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_cut_or_changed_data_is_refused_without_noise(kind, capfd):
    whole = encode_compressed(photograph(), kind).tobytes()
    for length in sorted({4, 20, 60, len(whole) // 2, len(whole) - 3}):
        cause = cause_of(decode_compressed, kind, whole[:length])
        assert cause == f"bad_{kind}" or (cause == "unknown_encoding" and length == 4)
    changed = bytearray(whole)
    changed[20:24] = b"\xff\xff\xff\xff"
    if kind == "png":
        assert cause_of(decode_compressed, kind, bytes(changed)) == "bad_png"
    assert capfd.readouterr().err == ""


def test_other_data_is_refused():
    assert cause_of(decode_compressed, "jpeg", b"") == "zero_size"
    assert cause_of(decode_compressed, "jpeg", b"not a picture") == "unknown_encoding"
    depth = cv2.imencode(".png", np.zeros((3, 3), np.uint16))[1]
    assert cause_of(decode_compressed, "16UC1; compressedDepth png", depth) == "wrong_kind"


@settings(max_examples=80, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["jpeg", "png"]))
def test_any_damage_gives_a_picture_or_a_cause(data, kind):
    damaged = bytearray(encode_compressed(photograph()[:20, :20], kind).tobytes())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        assert decode_compressed(kind, bytes(damaged)).ndim == 3
    except EncodingError as error:
        assert error.cause


def test_compressed_depth_of_both_kinds():
    millimetres = np.array([[0, 1500, 800], [4000, 20, 65534]], np.uint16)
    png = cv2.imencode(".png", millimetres)[1].tobytes()
    expected = np.where(millimetres == 0, np.nan, millimetres / 1000.0)
    for content in (png, struct.pack("<iff", 0, 0, 0) + png):
        depth = decode_compressed_depth("16UC1; compressedDepth png", content)
        np.testing.assert_allclose(depth, expected, rtol=1e-6)
    # As compressed_depth_image_transport quantises: value = a / depth + b.
    metres = np.array([[np.nan, 1.5, 0.8], [4.0, 2.0, 9.5]])
    a, b = 100.0 * 101, 1 - 100.0 * 101 / 10
    with np.errstate(invalid="ignore"):
        quantised = np.where(np.isnan(metres), 0, np.round(a / metres + b)).astype(np.uint16)
    png = cv2.imencode(".png", quantised)[1].tobytes()
    content = struct.pack("<iff", 1, a, b) + png
    depth = decode_compressed_depth("32FC1; compressedDepth png", content)
    np.testing.assert_allclose(depth, metres, rtol=0.005)
    assert cause_of(decode_compressed_depth, "16UC1; compressedDepth", b"") == "zero_size"
    assert cause_of(decode_compressed_depth, "16UC1; compressedDepth", b"rubbish" * 9) == (
        "unknown_encoding"
    )
    grey = encode_compressed(photograph(), "png")
    assert cause_of(decode_compressed_depth, "16UC1; compressedDepth", grey) == "wrong_kind"
    # quantised, and the constants before it are missing
    assert np.isnan(decode_compressed_depth("32FC1; compressedDepth png", png)).all()
    for picture in (np.ones((4, 5), np.uint8), np.ones((4, 5, 3), np.uint16)):
        other = cv2.imencode(".png", picture)[1].tobytes()
        assert cause_of(decode_compressed_depth, "16UC1; compressedDepth", other) == "wrong_kind"
