# SPDX-License-Identifier: Apache-2.0
"""Pictures and label maps as files that any tool can read and write.

Depth: uint16 millimetres as ``.png`` or ``.tiff`` (0 = invalid, REP-118), or float metres as
``.tiff`` or ``.npy``. Segmentation: uint8 ids as ``.png``, 255 = unlabelled. Normals: RGB = x, y, z
with value = (n + 1) / 2 * 255 as ``.png`` or lossless ``.webp``, black = invalid, or ``.npy``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.encodings import EncodingError, decode_file
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_bytes, write_bytes
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.tasks import TASKS

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
SUFFIXES = {
    "segmentation": (".png",),
    "depth": (".png", ".tiff", ".tif", ".npy"),
    "normals": (".png", ".webp", ".npy"),
}
"""Task -> suffixes of its files."""

MAX_PICTURE_BYTES, MAX_ARRAY_BYTES = 256_000_000, 1_000_000_000
"""Of files; pixels have a limit of their own, ``encodings.MAX_PIXELS``."""

_ARRAY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_FARTHEST_MM = 65535
_LEAST_NORM, _MOST_NORM = 0.8, 1.2
"""A coded vector of another length is no direction: black and mid-grey are 1.7 and 0."""


def read_image(path: Path) -> np.ndarray:
    """Return uint8 RGB [H, W, 3]."""
    return np.ascontiguousarray(decoded(path, cv2.IMREAD_COLOR)[..., ::-1])


def read_segmentation(path: Path, classes: int) -> np.ndarray:
    """Return uint8 ids [H, W]; DataError for one that is neither a class nor 255."""
    ids = decoded(path, cv2.IMREAD_UNCHANGED)
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise DataError(
            f"{path} is a colour, palette or 16 bit image; "
            "save class ids in one channel of 8 bits, 255 = unlabelled"
        )
    wrong = ids[(ids >= classes) & (ids != 255)]
    if wrong.size:
        raise DataError(
            f"{path} has the id {wrong[0]}, but there are {classes} classes (0 to {classes - 1}) "
            "and 255 = unlabelled; correct the mask or the list of classes"
        )
    return ids


def read_depth(path: Path) -> np.ndarray:
    """Return float32 metres [H, W], 0 where invalid."""
    depth = read_array(path) if path.suffix == ".npy" else decoded(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2:
        raise DataError(f"{path} has shape {depth.shape}; depth is one channel [H, W]")
    if depth.dtype == np.uint16:
        return depth.astype(np.float32) / np.float32(1000)
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
    try:
        return decode_file(read_bytes(path, MAX_PICTURE_BYTES, DataError), flags)
    except EncodingError as error:
        raise DataError(f"{path} is not a readable image ({error}); write it again") from None


def read_array(path: Path) -> np.ndarray:
    """Return the numbers of a ``.npy`` file; DataError for pickled objects, and for a header that
    does not state exactly what follows it.
    """
    content = read_bytes(path, MAX_ARRAY_BYTES, DataError)
    stream = io.BytesIO(content)
    try:
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


_NAMES = "xyz"
_LEAST_COSINE, _LEAST_LEAD = 0.75, 0.05


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


def find_normal_axes(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], camera: Camera, where: object
) -> NormalAxes:
    """Return the axes of stored unit normals, of a few frames with their depth in metres; DataError
    where none agree, or two agree equally well.

    Data sets store normals in every handedness. Normals of the depth map are in the optical frame,
    so the signed permutation of the stored components that agrees with them best is the right one.
    """
    correlation, pixels = np.zeros((3, 3)), 0
    for depth, stored in frames:
        derived = depth_to_normals(depth, camera)
        both = derived.any(-1) & stored.any(-1)
        correlation += derived[both].astype(np.float64).T @ stored[both].astype(np.float64)
        pixels += int(both.sum())
    scores = sorted(
        (
            (sum(s * correlation[i, o] for i, (o, s) in enumerate(zip(order, signs))), order, signs)
            for order in permutations(range(3))
            for signs in product((1, -1), repeat=3)
        ),
        reverse=True,
    )
    best, second = scores[0][0] / max(pixels, 1), scores[1][0] / max(pixels, 1)
    if best < _LEAST_COSINE or best - second < _LEAST_LEAD:
        raise DataError(
            f"the axes of the normals of {where} cannot be told from its depth (agreement "
            f"{best:.2f}, next best {second:.2f}): give normal_axes, such as x,y,z or x,-y,-z"
        )
    return NormalAxes(scores[0][1], scores[0][2])  # type: ignore[arg-type]
