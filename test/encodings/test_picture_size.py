# SPDX-License-Identifier: Apache-2.0
"""The size in a picture's header, against OpenCV's and against headers made by hand."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from encoded import cause_of, turned_jpeg
from encoded import png_chunk as chunk
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.encodings import MAX_PIXELS, EncodingError, decode_compressed, decode_file
from proto_mtl_ros.encodings.picture_size import MAX_LAYERED_PIXELS, jpeg_frame, picture_size

SUFFIXES = (".png", ".jpg", ".webp", ".tiff", ".bmp", ".ppm", ".pgm")
LOSSY_WEBP = (cv2.IMWRITE_WEBP_QUALITY, 80)
PNG = b"\x89PNG\r\n\x1a\n"


def cause(content: bytes) -> str:
    return cause_of(picture_size, content)


def encoded(suffix: str, picture: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, picture, list(options))[1].tobytes())


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(SUFFIXES), st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_the_size_is_read_from_the_header(
    suffix: str, height: int, width: int, color: bool
) -> None:
    picture = np.zeros(
        (height, width, 3) if suffix == ".ppm" or (color and suffix != ".pgm") else (height, width)
    )
    content = encoded(suffix, picture.astype(np.uint8))
    assert picture_size(content) == (height, width)
    assert decode_file(content, cv2.IMREAD_COLOR).shape == (height, width, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3000), (2999, 300)])
def test_the_size_of_the_three_kinds_of_webp(height: int, width: int) -> None:
    kinds = {
        b"VP8 ": encoded(".webp", np.zeros((height, width, 3), np.uint8), *LOSSY_WEBP),
        b"VP8L": encoded(".webp", np.zeros((height, width, 3), np.uint8)),
        b"VP8X": encoded(".webp", np.full((height, width, 4), 9, np.uint8), *LOSSY_WEBP),
    }
    for kind, content in kinds.items():
        assert content[12:16] == kind and picture_size(content) == (height, width)
    moving = kinds[b"VP8X"]
    assert cause(moving[:20] + bytes([moving[20] | 2]) + moving[21:]) == "unknown_encoding"
    assert picture_size(moving[:30]) == (height, width)
    assert cause(moving[:29]) == "unknown_encoding"


def tiff(tags: dict[int, int], order: str = "<", kind: int = 4, start: int = 8) -> bytes:
    """The first directory of a TIFF, of numbers of one kind."""
    code = {1: "B3x", 3: "H2x", 4: "I"}.get(kind, "I")
    entries = b"".join(
        struct.pack(f"{order}HHI{code}", tag, kind, 1, value) for tag, value in tags.items()
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head.ljust(start, b"\0") + struct.pack(order + "H", len(tags)) + entries


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_a_tiff_of_either_byte_order(order: str, kind: int) -> None:
    known = {254: 0, 256: 200, 257: 100, 258: 8, 259: 1, 277: 3}
    for start in (8, 50):
        assert picture_size(tiff(known, order, kind, start)) == (100, 200)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, None),  # one sample of one bit
        ({258: 32, 277: 4}, None),
        ({258: 32, 277: 5}, "too_large"),
        ({258: 129}, "too_large"),
        ({322: 8000, 323: 8000}, None),
        ({322: 8001, 323: 8000}, "too_large"),
        ({322: MAX_PIXELS}, None),
        ({322: 0, 323: 16}, "zero_size"),
        ({256: 0}, "zero_size"),
        ({257: 0}, "zero_size"),
    ],
)
def test_what_a_tiff_may_say_of_its_pixels(more: dict[int, int], said: str | None) -> None:
    content = tiff({256: 200, 257: 100} | more)
    if said is None:
        assert picture_size(content) == (100, 200)
    else:
        assert cause(content) == said


def test_a_tiff_that_is_not_right_is_none() -> None:
    assert cause(tiff({256: 200, 257: 100}, kind=5)) == "unknown_encoding"
    twice = tiff({256: 200, 257: 100}).replace(struct.pack("<H", 257), struct.pack("<H", 256))
    assert cause(twice) == "unknown_encoding"
    # what is not looked at may have any type, and stand there twice
    odd = tiff({256: 200, 257: 100, 300: 1, 301: 2}, kind=4)
    assert picture_size(odd.replace(struct.pack("<HH", 301, 4), struct.pack("<HH", 300, 12)))


def test_bits_that_lie_elsewhere_in_a_tiff() -> None:
    whole = tiff({256: 200, 257: 100, 258: 0, 277: 3})
    entry = struct.pack("<HHII", 258, 4, 1, 0)
    moved = whole.replace(entry, struct.pack("<HHII", 258, 3, 3, len(whole)))
    assert picture_size(moved + struct.pack("<HHH", 32, 32, 32)) == (100, 200)
    assert cause(moved + struct.pack("<HHH", 64, 64, 64)) == "too_large"


def test_a_bmp_of_any_header() -> None:
    picture = encoded(".bmp", np.zeros((5, 7, 3), np.uint8))
    from_above = picture[:22] + struct.pack("<i", -5) + picture[26:]
    assert picture_size(picture) == picture_size(from_above) == (5, 7)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 60_000, 1000)) == (1000, 60_000)
    assert cause(b"BM" + bytes(12) + struct.pack("<Iii", 40, -7, 5)) == "zero_size"


@pytest.mark.parametrize(
    "head", ["P6 7 5 255\n", "P5\n7\n5\n", "P6\n# of a camera\n#\n7 5\n", "P3\n7 # wide\n5 1\n"]
)
def test_a_pnm_with_comments(head: str) -> None:
    assert picture_size(head.encode() + bytes(120)) == (5, 7)


def test_a_jpeg_with_filling_and_other_segments() -> None:
    plain = encoded(".jpg", np.zeros((5, 7, 3), np.uint8))
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0\xff\xda"
    for inserted in (b"", b"\xff" * 3, b"\xff\xd0", b"\xff\x01", comment):
        content = plain[:2] + inserted + plain[2:]
        height, width, scan = jpeg_frame(content)
        assert (height, width) == (5, 7)
        assert content[scan : scan + 2] == b"\xff\xda"
        assert picture_size(b"\xff\xd8\xff\xff" + content[2:]) == (5, 7)


def test_a_jpeg_without_a_frame_or_a_scan_is_none() -> None:
    plain = encoded(".jpg", np.zeros((5, 7, 3), np.uint8))
    frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
    assert cause(plain[:scan]) == "bad_jpeg"
    assert cause(plain[:frame] + plain[scan:]) == "bad_jpeg"
    assert cause(plain[:frame] + b"\0" + plain[frame:]) == "bad_jpeg"
    for last in (0xC1, 0xCF):  # other kinds of coding, which OpenCV may refuse
        assert picture_size(plain[: frame + 1] + bytes([last]) + plain[frame + 2 :]) == (5, 7)
    for other in (0xC4, 0xC8, 0xCC):  # tables, an extension, arithmetic coding
        assert cause(plain[: frame + 1] + bytes([other]) + plain[frame + 2 :]) == "bad_jpeg"


def test_a_jpeg_may_have_as_many_scans_as_it_is_small() -> None:
    plain = encoded(".jpg", np.zeros((500, 2000, 3), np.uint8))
    scans = MAX_LAYERED_PIXELS // 1_000_000
    assert picture_size(plain + b"\xff\xda" * (scans - 1)) == (500, 2000)
    assert cause(plain + b"\xff\xda" * scans) == "too_large"


HEADER = struct.pack(">IIBBBBB", 7, 5, 8, 2, 0, 0, 0)


def test_a_png_begins_with_its_header_and_has_an_end() -> None:
    head, end = chunk(b"IHDR", HEADER), chunk(b"IEND", b"")
    assert picture_size(PNG + head + end) == (5, 7)
    assert picture_size(PNG + head + end + b"anything") == (5, 7)
    for content in (head, end, head + end[:-1], chunk(b"gAMA", HEADER) + end, b"",
                    chunk(b"IHDR", HEADER[:12]) + end, chunk(b"IHDR", HEADER + b"\0") + end,
                    chunk(b"tEXt", b"") + head + end, head + chunk(b"IDAT", b"x")):  # fmt: skip
        assert cause(PNG + content) == "bad_png"


@pytest.mark.parametrize("suffix", (*SUFFIXES, "VP8", "VP8X"))
def test_a_header_that_is_cut_off_gives_a_size_or_a_cause(suffix: str) -> None:
    if suffix.startswith("VP8"):
        channels = 4 if suffix == "VP8X" else 3
        content = encoded(".webp", np.full((5, 7, channels), 9, np.uint8), *LOSSY_WEBP)
    else:
        channels = 1 if suffix == ".pgm" else 3
        content = encoded(suffix, np.zeros((5, 7, channels), np.uint8))
    for length in range(min(len(content), 400)):
        try:
            assert picture_size(content[:length]) == (5, 7)
        except EncodingError as error:
            assert error.cause in ("unknown_encoding", "bad_jpeg", "bad_png", "zero_size")


def test_a_file_that_says_how_it_is_to_be_turned_is_turned() -> None:
    plain = encoded(".jpg", np.zeros((16, 40, 3), np.uint8))
    turned = turned_jpeg(plain)
    assert picture_size(turned) == (16, 40)
    assert decode_file(turned, cv2.IMREAD_COLOR).shape == (40, 16, 3)
    # of a message, whose camera_info describes the pixels as stored, nothing is turned
    np.testing.assert_array_equal(decode_compressed("jpeg", turned), decode_compressed("", plain))
