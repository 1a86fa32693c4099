# SPDX-License-Identifier: Apache-2.0
"""Masks for frames of a recording, joined by the stamp of their image: PNG, COCO or LabelMe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from proto_mtl_ros.data.label_set import named_label_set, read_label_set
from proto_mtl_ros.data.map_file import read_segmentation
from proto_mtl_ros.encodings import MAX_PIXELS
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import check_inside, read_json
from proto_mtl_ros.tasks import IGNORE_INDEX, LabelSet

_MOST_BYTES = 64_000_000
"""Bytes of a file; as Python's values they are twenty times as many."""

_FARTHEST = 100_000.0
"""Pixels from the origin that a corner may lie; OpenCV counts in fractions of 32 bits."""

_MOST_BITS = 40
"""Of a number in a compressed run length."""

_NS = 1_000_000_000

Mask = Callable[[], np.ndarray]


def read_masks(where: Path) -> tuple[dict[int, Mask], LabelSet]:
    """Return stamp in nanoseconds -> what gives the mask, uint8 [H, W], and the classes.

    From a folder of PNG files of class ids with ``classes.txt`` or ``classes.json``, a folder of
    LabelMe files, or a COCO file. Pictures are named by their stamp, in nanoseconds
    (``1700000000100000000.png``) or in seconds (``1700000000.100000000.png``). Without a file of
    classes those of drawn masks are the ones that occur, by the order of the file or by name.
    DataError where there is no mask, a file is not of its kind, or a name is no stamp.
    """
    if where.is_file():
        drawn, names = read_coco(where)
        return _drawn(drawn, read_label_set(where.parent) or _named(where, names))
    files = sorted(path for path in where.glob("*") if not path.name.startswith("."))
    for path in files:
        check_inside(path, where, DataError)
    label_set = read_label_set(where)
    shapes = [path for path in files if path.suffix == ".json" and path.name != "classes.json"]
    if shapes:
        drawn = [read_labelme(path) for path in shapes]
        occurring = sorted({name for mask in drawn for name, _ in mask.shapes})
        return _drawn(drawn, label_set or _named(where, occurring))
    if label_set is None:
        raise DataError(
            f"{where} has neither classes.txt nor classes.json; name the classes of the masks "
            "there, one a line, the one of id 0 first"
        )
    count = len(label_set.classes)
    pictures = [path for path in files if path.suffix == ".png"]
    return {
        stamp_of(path.name): partial(read_segmentation, path, count) for path in pictures
    }, label_set


def stamp_of(name: str) -> int:
    """Return the stamp in nanoseconds that a file is named by."""
    stem = name.rsplit(".", 1)[0] if not name.rsplit(".", 1)[-1].isdigit() else name
    seconds, dot, fraction = stem.partition(".")
    digits = seconds.isdecimal() and seconds.isascii() and len(seconds) < 20
    if not digits or (dot and not (fraction.isdecimal() and fraction.isascii())):
        raise DataError(f"{name} is not named by a stamp in nanoseconds or in seconds")
    return int(seconds) * _NS + int(fraction.ljust(9, "0")[:9]) if dot else int(seconds)


def _drawn(masks: list[DrawnMask], label_set: LabelSet) -> tuple[dict[int, Mask], LabelSet]:
    # what has no shape was not looked at
    return {
        stamp_of(mask.name): partial(mask.draw, label_set.classes) for mask in masks if mask.shapes
    }, label_set


def _named(where: Path, names: tuple[str, ...] | list[str]) -> LabelSet:
    return named_label_set(where.stem, list(names), None, where)


@dataclass(frozen=True)
class DrawnMask:
    """The shapes of one image, (class name, shape): a list of polygons float [n, 2], or ids uint8
    [H, W] != 0; a later one covers an earlier one. ``where`` is the file, for messages.
    """

    where: str
    name: str
    width: int
    height: int
    shapes: tuple[tuple[str, Any], ...]

    def draw(self, classes: Sequence[str]) -> np.ndarray:
        """Return class ids, uint8 [height, width], 255 where nothing was drawn."""
        ids = np.full((self.height, self.width), IGNORE_INDEX, np.uint8)
        for name, shape in self.shapes:
            if name not in classes:
                raise DataError(
                    f"{self.where} has the class {name!r}, which classes.txt does not name:"
                    " add it there"
                )
            index = classes.index(name)
            if isinstance(shape, np.ndarray):
                ids[shape != 0] = index
            else:
                polygons = [np.rint(polygon).astype(np.int32) for polygon in shape if len(polygon)]
                cv2.fillPoly(ids, polygons, index)
        return ids


def read_labelme(path: Path) -> DrawnMask:
    """Return the shapes of a LabelMe file: polygons and rectangles."""
    with _one_line_errors(path, "LabelMe") as content:
        shapes = []
        for shape in content["shapes"]:
            points = _corners(shape["points"])
            kind = shape.get("shape_type", "polygon")
            if kind == "rectangle":
                (left, top), (right, bottom) = points[0], points[1]
                points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            elif kind != "polygon":
                continue  # points and lines cover no pixels
            shapes.append((str(shape["label"]), [points]))
        size = _size(content["imageWidth"], content["imageHeight"])
        return DrawnMask(str(path), path.name, *size, tuple(shapes))


def read_coco(path: Path) -> tuple[list[DrawnMask], tuple[str, ...]]:
    """Return the masks of a COCO file and the names of its classes, by their id. Larger shapes are
    drawn first, so that what lies on a table is not covered by it.
    """
    with _one_line_errors(path, "COCO") as content:
        categories = sorted(content["categories"], key=lambda one: int(one["id"]))
        names = {int(one["id"]): str(one["name"]) for one in categories}
        by_image: dict[int, list[tuple[float, str, Any]]] = {}
        sizes = {int(one["id"]): _size(one["width"], one["height"]) for one in content["images"]}
        for one in content["annotations"]:
            image = int(one["image_id"])
            width, height = sizes[image]
            shape = _coco_shape(one["segmentation"], width, height)
            area = float(one.get("area", 0))
            by_image.setdefault(image, []).append((area, names[int(one["category_id"])], shape))
        masks = []
        for one in content["images"]:
            found = sorted(by_image.get(int(one["id"]), ()), key=lambda item: -item[0])
            shapes = tuple((name, shape) for _, name, shape in found)
            file = Path(str(one["file_name"])).name
            masks.append(DrawnMask(str(path), file, *sizes[int(one["id"])], shapes))
        return masks, tuple(names.values())


def _coco_shape(segmentation: Any, width: int, height: int) -> Any:
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            counts = _decompressed(counts)
        return _from_runs(counts, width, height)
    return [_corners(polygon) for polygon in segmentation]


def _from_runs(counts: Sequence[int], width: int, height: int) -> np.ndarray:
    """Return uint8 [height, width] of run lengths, which go down the columns, zeros first."""
    runs = np.array(counts, np.int64).reshape(-1)
    # a sum of 64 bits may come round to the right number, so no run may be longer than all
    fits = runs.min(initial=0) >= 0 and runs.max(initial=0) <= width * height
    if not fits or len(runs) > width * height + 2 or int(runs.sum()) != width * height:
        raise ValueError(f"run lengths do not cover {width}x{height} pixels")
    values = np.arange(len(runs)) % 2
    return np.repeat(values, runs).astype(np.uint8).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed form.

    Each number is written in groups of five bits, least first, a sixth bit says whether more
    follow; from the third on it is the difference to the one two before.
    """
    found: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            group = ord(text[place]) - 48
            if not 0 <= group < 64 or shift > _MOST_BITS:
                raise ValueError("its run lengths are damaged")
            value |= (group & 0x1F) << shift
            more = bool(group & 0x20)
            place, shift = place + 1, shift + 5
            if not more and group & 0x10:
                value -= 1 << shift
        if len(found) > 2:
            value += found[-2]
        found.append(value)
    return found


def _size(width: Any, height: Any) -> tuple[int, int]:
    """Return (width, height) of a picture that masks are drawn for."""
    width, height = int(width), int(height)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a picture of {width}x{height} is empty or above {MAX_PIXELS} pixels")
    return width, height


def _corners(points: Any) -> np.ndarray:
    """Return float [n, 2] of corners that can be drawn."""
    corners = np.array(points, np.float64).reshape(-1, 2)
    if not (np.abs(corners) < _FARTHEST).all():  # NaN is not smaller either
        raise ValueError("a corner lies far outside of its picture")
    return corners


@contextmanager
def _one_line_errors(path: Path, kind: str) -> Iterator[Any]:
    """Give the content of a file; whatever is missing of it becomes a DataError."""
    content = read_json(path, DataError, _MOST_BYTES)
    if not isinstance(content, dict):
        raise DataError(f"{path} is neither a COCO nor a LabelMe file")
    try:
        yield content
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is not a {kind} file ({one_line(error)})") from None
