# SPDX-License-Identifier: Apache-2.0
"""RVL depth against an encoder that goes pixel by pixel, as the paper describes it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from encoded import cause_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proto_mtl_ros.encodings import EncodingError
from proto_mtl_ros.encodings.compressed import decode_compressed_depth
from proto_mtl_ros.encodings.rvl import decode_rvl


class Encoder:
    """Writes numbers in groups of three bits and a flag, eight groups to a 32-bit word."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.word = self.groups = 0

    def number(self, value: int) -> None:
        while True:
            group, value = value & 7, value >> 3
            self._group(group | (8 if value else 0))
            if not value:
                return

    def _group(self, bits: int) -> None:
        self.word = self.word << 4 | bits
        self.groups += 1
        if self.groups == 8:
            self.words.append(self.word)
            self.word = self.groups = 0

    def bytes(self) -> bytes:
        if self.groups:
            self.words.append(self.word << 4 * (8 - self.groups))
        return struct.pack(f"<{len(self.words)}I", *self.words)


def encode(pixels: list[int]) -> bytes:
    encoder, place, previous = Encoder(), 0, 0
    while place < len(pixels):
        start = place
        while place < len(pixels) and pixels[place] == 0:
            place += 1
        encoder.number(place - start)
        start = place
        while place < len(pixels) and pixels[place] != 0:
            place += 1
        encoder.number(place - start)
        for value in pixels[start:place]:
            delta = value - previous
            encoder.number(2 * delta if delta >= 0 else -2 * delta - 1)
            previous = value
    return encoder.bytes()


def message(depth: np.ndarray) -> bytes:
    size = struct.pack("<ii", depth.shape[1], depth.shape[0])
    return bytes(12) + size + encode(depth.reshape(-1).tolist())


@given(arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 40)), elements=st.one_of(
    st.just(0), st.integers(0, 65535), st.integers(900, 910))))  # fmt: skip
def test_every_picture_survives(depth: np.ndarray) -> None:
    flat = depth.reshape(-1)
    assert (decode_rvl(encode(flat.tolist()), flat.size) == flat).all()


def test_a_compressed_depth_message_is_metres() -> None:
    depth = np.array([[0, 1500, 1501], [0, 0, 65534]], np.uint16)
    metres = decode_compressed_depth("16UC1; compressedDepth rvl", message(depth))
    assert metres.dtype == np.float32
    expected = np.where(depth > 0, depth / 1000, np.nan)
    np.testing.assert_allclose(metres, expected, rtol=1e-6)


@given(st.binary(max_size=200), st.integers(1, 300))
def test_noise_is_refused_or_a_picture_but_never_more(content: bytes, count: int) -> None:
    try:
        assert decode_rvl(content, count).shape == (count,)
    except EncodingError as error:
        assert error.cause == "bad_rvl"


@pytest.mark.parametrize(
    ("size", "cause"),
    [((40_000, 40_000), "too_large"), *((s, "zero_size") for s in ((0, 5), (5, 0), (-3, -5)))],
)
def test_a_size_is_looked_at_before_memory_is_taken(size: tuple[int, int], cause: str) -> None:
    data = bytes(12) + struct.pack("<ii", *size) + bytes(40)
    assert cause_of(decode_compressed_depth, "16UC1; compressedDepth rvl", data) == cause


def test_depth_that_is_cut_short_is_refused() -> None:
    data = message(np.full((20, 20), 1234, np.uint16))
    for length in (13, 19, 20, 24, len(data) - 4):
        cut = data[:length]
        assert cause_of(decode_compressed_depth, "16UC1; compressedDepth rvl", cut) == "bad_rvl"
