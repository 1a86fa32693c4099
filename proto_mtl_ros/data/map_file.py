# SPDX-License-Identifier: Apache-2.0
"""Pictures and label maps as files that any tool can read and write.

Depth: uint16 millimetres as ``.png`` or ``.tiff`` (0 = invalid, REP-118), or float metres as
``.tiff``, ``.npy``, ``.npz`` or ``.exr``. Segmentation: ``.png`` of uint8 ids, 255 = unlabelled, of
indices of a palette, or of the classes' colours. Normals: RGB = x, y, z with value =
(n + 1) / 2 * 255 as ``.png`` or lossless ``.webp``, black = invalid, or ``.npy``.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.exr import read_exr
from proto_mtl_ros.encodings import EncodingError, decode_file
from proto_mtl_ros.encodings.orientation import QUARTER_TURNS, exif_orientation
from proto_mtl_ros.encodings.picture_size import png_of_indices
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_bytes, write_bytes
from proto_mtl_ros.tasks import IGNORE_INDEX, TASKS, LabelSet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
SUFFIXES = {
    "segmentation": (".png",),
    "depth": (".png", ".tiff", ".tif", ".npy", ".npz", ".exr"),
    "normals": (".png", ".webp", ".npy"),
}
"""Task -> suffixes of its files."""

MAX_PICTURE_BYTES, MAX_ARRAY_BYTES = 256_000_000, 1_000_000_000
"""Of files; pixels have a limit of their own, ``encodings.MAX_PIXELS``."""

_ARRAY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_UNLABELLED_COLOURS = (0x000000, 0xE0E0C0)
"""Black, and the border of objects in Pascal VOC, where no class has them."""

_FARTHEST_MM = 65535
_LEAST_NORM, _MOST_NORM = 0.8, 1.2
"""A coded vector of another length is no direction: black and mid-grey are 1.7 and 0."""


def read_image(path: Path) -> np.ndarray:
    """Return uint8 RGB [H, W, 3], the way up that its EXIF orientation says."""
    return read_upright(path)[0]


def read_upright(path: Path) -> tuple[np.ndarray, int]:
    """Return the image, and the quarter turns clockwise that were needed; DataError where its EXIF
    orientation mirrors it.
    """
    content = read_bytes(path, MAX_PICTURE_BYTES, DataError)
    rgb = _decoded(path, content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    turns = QUARTER_TURNS.get(exif_orientation(content))
    if turns is None:
        raise DataError(f"{path} is mirrored by its EXIF orientation; save it as it is to be seen")
    return np.ascontiguousarray(np.rot90(rgb, -turns)), turns


def turned_alike(label: np.ndarray, rgb: np.ndarray, turns: int) -> np.ndarray:
    """Return a label map, or normals, turned as its image was, unless its size says that it is the
    turned image's already.
    """
    turned = np.rot90(label, -turns)
    if turned.shape[:2] != rgb.shape[:2]:
        return label
    if label.ndim == 3:
        for _ in range(turns):
            turned = np.stack([-turned[..., 1], turned[..., 0], turned[..., 2]], -1)
    return np.ascontiguousarray(turned)


def read_segmentation(path: Path, label_set: LabelSet, by_colour: bool = False) -> np.ndarray:
    """Return uint8 ids [H, W] of a PNG of one channel, of indices of a palette, or of the colours
    of the classes, of which black may be unlabelled; DataError for another id or colour. With
    ``by_colour`` the colours of a palette count, not its indices.
    """
    content = read_bytes(path, MAX_PICTURE_BYTES, DataError)
    plain, scale = (content, 1) if by_colour else png_of_indices(content)
    ids = _decoded(path, plain, cv2.IMREAD_UNCHANGED) // scale
    classes = len(label_set.classes)
    if ids.ndim == 3 and ids.dtype == np.uint8:
        return _ids_of_colours(ids[..., 2::-1], label_set, path)
    if by_colour:
        raise DataError(f"{path} has one channel, but labelmap.txt lists colours; give classes.txt")
    if ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16) or ids.max() > IGNORE_INDEX:
        raise DataError(f"{path} is of {ids.dtype}; save class ids in 8 bits, 255 = unlabelled")
    ids = ids.astype(np.uint8)
    wrong = ids[(ids >= classes) & (ids != IGNORE_INDEX)]
    if wrong.size:
        raise DataError(
            f"{path} has the id {wrong[0]}, but there are {classes} classes (0 to {classes - 1}) "
            "and 255 = unlabelled; correct the mask or the list of classes"
        )
    return ids


def _ids_of_colours(rgb: np.ndarray, label_set: LabelSet, path: Path) -> np.ndarray:
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    ids = np.full(packed.shape, IGNORE_INDEX, np.uint8)
    known = ~np.isin(packed, _UNLABELLED_COLOURS)
    for index, (r, g, b) in enumerate(label_set.palette):
        here = packed == (r << 16 | g << 8 | b)
        ids[here], known[here] = index, False
    if known.any():
        r, g, b = rgb[known][0].tolist()
        raise DataError(
            f"{path} has the colour [{r}, {g}, {b}], which is of no class; give classes.json with "
            '"classes" and "palette", or save class ids in one channel of 8 bits'
        )
    return ids


def read_depth(path: Path, scale: float = 1000.0) -> np.ndarray:
    """Return float32 metres [H, W], 0 where invalid; whole numbers are divided by ``scale``."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        depth = read_array(path)
    elif suffix == ".exr":
        depth = read_exr(path)
    else:
        depth = decoded(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim == 3 and 1 in (depth.shape[0], depth.shape[2]):
        depth = depth[..., 0] if depth.shape[2] == 1 else depth[0]
    if depth.ndim != 2:
        raise DataError(f"{path} has shape {depth.shape}; depth is one channel [H, W]")
    if depth.dtype in (np.uint16, np.int32, np.uint32, np.int64):
        return _positive(depth / np.float32(scale))
    if not np.issubdtype(depth.dtype, np.floating):
        raise DataError(
            f"{path} holds {depth.dtype}; save depth as uint16 millimetres or as float metres"
        )
    return _positive(depth)


def read_normals(path: Path) -> np.ndarray:
    """Return unit vectors float32 [H, W, 3] in the optical frame, (0, 0, 0) where invalid."""
    if path.suffix == ".npy":
        vectors = read_array(path).astype(np.float32)
    else:
        coded = decoded(path, cv2.IMREAD_UNCHANGED)
        if coded.ndim != 3 or coded.shape[2] != 3 or coded.dtype != np.uint8:
            raise DataError(f"{path} must be an 8 bit RGB image of (normal + 1) / 2 * 255")
        vectors = coded[..., ::-1].astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    if vectors.ndim != 3 or vectors.shape[2] != 3:
        raise DataError(f"{path} has shape {vectors.shape}; normals are [H, W, 3]")
    return unit_vectors(vectors)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return float32 [H, W, 3] of length 1; what is far from that length becomes (0, 0, 0)."""
    norm = np.sqrt(np.einsum("hwc,hwc->hw", vectors, vectors))
    valid = (norm > _LEAST_NORM) & (norm < _MOST_NORM)
    scale = np.where(valid, 1 / np.maximum(norm, 1e-6), 0).astype(np.float32)
    # NaN times 0 is NaN
    return np.where(valid[..., None], vectors, 0).astype(np.float32) * scale[..., None]


def write_image(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 RGB [H, W, 3]; the suffix, ``.png`` or ``.jpg``, says how."""
    _encode(path, rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else [])


def write_segmentation(path: Path, ids: np.ndarray) -> None:
    """Write uint8 ids [H, W] as ``.png``."""
    _encode(path, ids, [])


def depth_suffix(metres: np.ndarray) -> str:
    """Return the suffix that holds this depth: ``.png`` up to 65 m, else ``.npy``."""
    return ".png" if round(float(_positive(metres).max()) * 1000) <= _FARTHEST_MM else ".npy"


def write_depth(path: Path, metres: np.ndarray) -> None:
    """Write depth [H, W], 0 where invalid: millimetres as ``.png``, float32 metres as ``.npy``."""
    if path.suffix == ".npy":
        content = io.BytesIO()
        np.save(content, _positive(metres), allow_pickle=False)
        write_bytes(path, content.getvalue())
    else:
        _encode(path, np.round(_positive(metres) * 1000).astype(np.uint16), [])


def _positive(depth: np.ndarray) -> np.ndarray:
    """Return float32 depth with 0 wherever it is not finite and positive."""
    metres = depth.astype(np.float32)
    return np.where(TASKS["depth"].valid(metres), metres, np.float32(0))


def write_normals(path: Path, normals: np.ndarray) -> None:
    """Write unit vectors [H, W, 3] as ``.png`` of 8 bits; one step is 0.45 degrees."""
    coded = np.round((normals + 1) * 127.5).astype(np.uint8)
    coded[np.linalg.norm(normals, axis=-1) < _LEAST_NORM] = 0
    _encode(path, coded[..., ::-1], [])


def _encode(path: Path, pixels: np.ndarray, options: list[int]) -> None:
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels), options)
    if not done:
        raise DataError(f"{path}: OpenCV cannot write such an image")
    write_bytes(path, data.tobytes())


def decoded(path: Path, flags: int) -> np.ndarray:
    """Return the pixels of a picture file as OpenCV's ``flags`` say; raises DataError."""
    return _decoded(path, read_bytes(path, MAX_PICTURE_BYTES, DataError), flags)


def _decoded(path: Path, content: bytes, flags: int) -> np.ndarray:
    try:
        return decode_file(content, flags)
    except EncodingError as error:
        raise DataError(f"{path} is not a readable image ({error}); write it again") from None


def read_array(path: Path) -> np.ndarray:
    """Return the numbers of a ``.npy`` file, or of a ``.npz`` file of one array; DataError for
    pickled objects, and for a header that does not state exactly what follows it.
    """
    content = read_bytes(path, MAX_ARRAY_BYTES, DataError)
    try:
        if path.suffix.lower() == ".npz":
            content = _only_array(content)
        stream = io.BytesIO(content)
        shape, by_columns, dtype = _ARRAY_HEADERS[np.lib.format.read_magic(stream)](stream)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never loaded")
        if dtype.kind not in "biuf":
            raise ValueError(f"it holds {dtype}, not numbers")
        data = content[stream.tell() :]
        wanted = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or len(shape) > 8 or len(data) != wanted:
            raise ValueError(f"its header says {one_line(shape)} {dtype}, {len(data)} bytes follow")
        array = np.frombuffer(bytearray(data), dtype)  # that can be written to
        return array.reshape(shape, order="F" if by_columns else "C")
    except Exception as error:  # a header is a Python literal, whose parser raises many kinds
        raise DataError(f"{path} is not a readable array: {one_line(error)}") from None


def _only_array(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} arrays, one is needed")
        if archive.getinfo(names[0]).file_size > MAX_ARRAY_BYTES:
            raise ValueError("its array is too large")
        return archive.read(names[0])


_NAMES = "xyz"


@dataclass(frozen=True)
class NormalAxes:
    """The stored component that holds x right, y down, z forward, and the sign of each."""

    order: tuple[int, int, int]
    signs: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> NormalAxes:
        """Return what a text such as ``x,-y,-z`` (OpenGL) says; DataError for another."""
        parts = [part.strip() for part in str(text).split(",")]
        letters = [part.lstrip("+-") for part in parts]
        if sorted(letters) != list(_NAMES) or any(len(part) > 2 for part in parts):
            raise DataError(
                f"normal_axes {text!r} must say which stored component, with its sign, points "
                "right, down and forward, such as x,y,z or x,-y,-z"
            )
        order = [_NAMES.index(letter) for letter in letters]
        signs = [-1 if part.startswith("-") else 1 for part in parts]
        return cls((order[0], order[1], order[2]), (signs[0], signs[1], signs[2]))

    def __str__(self) -> str:
        return ",".join(
            ("-" if sign < 0 else "") + _NAMES[place] for place, sign in zip(self.order, self.signs)
        )

    def optical(self, stored: np.ndarray) -> np.ndarray:
        """Return vectors [..., 3] in the optical frame."""
        return stored[..., list(self.order)] * np.array(self.signs, np.float32)
