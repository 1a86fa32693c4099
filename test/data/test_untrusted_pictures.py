# SPDX-License-Identifier: Apache-2.0
"""Pictures, arrays and masks that would take gigabytes are refused before they are decoded."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoded import png_chunk

from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.drawn.masks import read_masks
from proto_mtl_ros.data.map_file import read_array, read_image
from proto_mtl_ros.encodings import EncodingError, decode_file
from proto_mtl_ros.encodings.picture_size import picture_size
from proto_mtl_ros.errors import DataError, ProtoMtlError

pytestmark = [
    pytest.mark.usefixtures("bounded_effort"),
    pytest.mark.tries(
        "parsers",
        "a picture, array, mask or video that would take gigabytes or lead elsewhere",
        seen="one line; it is not decoded",
    ),  # fmt: skip
]


def png(width: int, height: int) -> bytes:
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 << 20)) for _ in range(100)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(width: int, height: int, *more: tuple[int, int]) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    tags |= dict(more)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def jpeg(width: int, height: int) -> bytes:
    content = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def many_scans() -> bytes:
    """A progressive JPEG that goes over its pixels a thousand times."""
    picture = np.zeros((2000, 2000, 3), np.uint8)
    content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * 1000 + b"\xff\xd9"


LARGE = {
    "PNG": png(60_000, 60_000),
    "PNG of all numbers": png(2**31 - 1, 2**31 - 1),
    "JPEG": jpeg(65_535, 65_535),
    "JPEG of many scans": many_scans(),
    "TIFF": tiff(60_000, 60_000),
    "TIFF of large tiles": tiff(16, 16, (322, 1 << 20), (323, 1 << 20)),
    "TIFF of many samples": tiff(16, 16, (277, 60_000)),
    "WebP": b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(99),
    "lossless WebP": b"RIFF\xff\0\0\0WEBPVP8L\xff\0\0\0\x2f" + b"\xff\xff\xff\x0f" + bytes(99),
    "BMP": b"BM" + bytes(12) + struct.pack("<Iii", 40, 60_000, -60_000) + bytes(99),
    "PNM": b"P6\n# a comment\n60000 60000\n255\n" + bytes(99),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_picture_above_the_limit_is_not_decoded(name: str, tmp_path: Path) -> None:
    with pytest.raises(EncodingError) as refused:
        picture_size(LARGE[name])
    assert refused.value.cause == "too_large"
    path = tmp_path / "picture.png"
    path.write_bytes(LARGE[name])
    with pytest.raises(DataError, match=r"picture\.png is not a readable image"):
        read_image(path)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.tiff").write_bytes(LARGE[name])
    with open_recording(folder) as recording, pytest.raises(ProtoMtlError):
        recording.pictures({1_000_000_000})


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a" + bytes(50), b"\x76\x2f\x31\x01" + bytes(50), b"#?RADIANCE\n" + bytes(50),
     b"\0\0\0\x0cjP  \r\n" + bytes(50), b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF", b"BM", b"P6 1"],
)  # fmt: skip
def test_what_no_camera_writes_is_not_decoded(content: bytes) -> None:
    with pytest.raises(EncodingError):
        decode_file(content, cv2.IMREAD_UNCHANGED)


def test_a_chunk_that_states_gigabytes_is_not_believed() -> None:
    """OpenCV allocates what a chunk of a PNG says that it holds; found by fuzzing."""
    whole = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    place = whole.index(b"IDAT") - 4
    content = whole[:place] + struct.pack(">I", 0xFFFFFF00) + whole[place + 4 :]
    with pytest.raises(EncodingError, match="cut off"):
        decode_file(content, cv2.IMREAD_COLOR)


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + length + text + data


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000, 3)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(16)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -2)}", bytes(8)),
        npy("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (0,)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + ")" * 3000 + "}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (", version=2),
        npy("__import__('os').abort()"),
        b"\x93NUMPY\x03\0" + bytes(50),
        b"PK\x03\x04" + bytes(50),
        b"",
    ],
)
def test_an_array_that_states_what_it_is_not_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a readable array") as refused:
        read_array(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["?", "u1", "<i8", ">f4", "f8", "f2"])
@pytest.mark.control
def test_arrays_of_numbers_are_read_as_numpy_reads_them(
    kind: str, order: str, tmp_path: Path
) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    read = read_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype and read.flags.writeable


COCO = {
    "images": [{"id": 1, "width": 8, "height": 4, "file_name": "1700000000000000000.png"}],
    "categories": [{"id": 1, "name": "floor"}],
    "annotations": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"images": [COCO["images"][0] | {"width": 10**6, "height": 10**6}]},  # type: ignore[index]
        {"images": [COCO["images"][0] | {"width": 10**400}]},  # type: ignore[index]
        {"images": [COCO["images"][0] | {"width": -8}]},  # type: ignore[index]
        {"annotations": [{"segmentation": {"counts": [2**62, 2**62, 2**62, 2**62 + 32]}}]},
        {"annotations": [{"segmentation": {"counts": "~" * 100_000}}]},
        {"annotations": [{"segmentation": {"counts": "\u0000"}}]},
        {"annotations": [{"segmentation": [[1e300, 0, 0, 1e300, 5, 5]]}]},
        {"annotations": [{"segmentation": [[float("nan"), 0, 0, 1, 5, 5]]}]},
        {"annotations": [{"segmentation": [[1, 2, 3]]}]},
        {"annotations": "x"},
        {"categories": [{"id": 1, "name": {}}, {"id": None}]},
    ],
)
def test_drawn_masks_beyond_measure_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    content = json.loads(json.dumps(COCO | change))
    for one in content["annotations"]:
        if isinstance(one, dict):
            one |= {"image_id": 1, "category_id": 1}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"coco\.json") as refused:
        read_masks(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_a_play_list_is_no_video(tmp_path: Path) -> None:
    """A video decoder would open whatever it names, over the network as well."""
    (tmp_path / "secret.txt").write_text("secret")
    for name, text in {
        "a.mp4": "#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/x.ts\n",
        "b.avi": f"ffconcat version 1.0\nfile {tmp_path}/secret.txt\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ProtoMtlError, match="a video file"):
            open_recording(tmp_path / name)
