# SPDX-License-Identifier: Apache-2.0
"""Masks that people have drawn in a labelling tool: COCO and LabelMe files as class ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError, one_line
from ..tasks import IGNORE_INDEX

_MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class DrawnMask:
    """The shapes of one picture; a later one covers an earlier one.

    Attributes:
        where: the file, for messages.
        name: of the picture's file, or of a file that is named as it is.
        width, height: of the picture.
        shapes: (class name, shape): a list of polygons float [n, 2], or ids uint8 [H, W] != 0.
    """

    where: str
    name: str
    width: int
    height: int
    shapes: tuple[tuple[str, Any], ...]

    def draw(self, classes: Sequence[str]) -> np.ndarray:
        """Return class ids, uint8 [height, width], 255 where nothing was drawn.

        Raises:
            DataError: a shape is of a class that is not among them.
        """
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
                polygons = [np.rint(polygon).astype(np.int32) for polygon in shape]
                cv2.fillPoly(ids, polygons, index)
        return ids


def read_labelme(path: Path) -> DrawnMask:
    """Return the shapes of a LabelMe file: polygons and rectangles."""
    content = _read(path)
    try:
        shapes = []
        for shape in content["shapes"]:
            points = np.array(shape["points"], np.float64).reshape(-1, 2)
            kind = shape.get("shape_type", "polygon")
            if kind == "rectangle":
                (left, top), (right, bottom) = points[0], points[1]
                points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            elif kind != "polygon":
                continue  # points and lines cover no pixels
            shapes.append((str(shape["label"]), [points]))
        return DrawnMask(
            str(path),
            path.name,
            int(content["imageWidth"]),
            int(content["imageHeight"]),
            tuple(shapes),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is not a LabelMe file ({one_line(error)})") from None


def read_coco(path: Path) -> tuple[list[DrawnMask], tuple[str, ...]]:
    """Return the pictures of a COCO file and the names of its classes, by their id.

    Polygons and run lengths, compressed or not. Larger shapes are drawn first, so that what lies
    on a table is not covered by it.
    """
    content = _read(path)
    try:
        categories = sorted(content["categories"], key=lambda one: int(one["id"]))
        names = {int(one["id"]): str(one["name"]) for one in categories}
        by_image: dict[int, list[tuple[float, str, Any]]] = {}
        sizes = {
            int(one["id"]): (int(one["width"]), int(one["height"])) for one in content["images"]
        }
        for one in content["annotations"]:
            image = int(one["image_id"])
            width, height = sizes[image]
            shape = _coco_shape(one["segmentation"], width, height)
            area = float(one.get("area", 0))
            by_image.setdefault(image, []).append((area, names[int(one["category_id"])], shape))
        masks = []
        for one in content["images"]:
            shapes = sorted(by_image.get(int(one["id"]), ()), key=lambda item: -item[0])
            masks.append(
                DrawnMask(
                    str(path),
                    Path(str(one["file_name"])).name,
                    *sizes[int(one["id"])],
                    tuple((name, shape) for _, name, shape in shapes),
                )
            )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path} is not a COCO file ({one_line(error)})") from None
    return masks, tuple(names.values())


def _coco_shape(segmentation: Any, width: int, height: int) -> Any:
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            counts = _decompressed(counts)
        return _from_runs(counts, width, height)
    return [np.array(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]


def _from_runs(counts: Sequence[int], width: int, height: int) -> np.ndarray:
    """Return uint8 [height, width] of run lengths, which go down the columns, zeros first."""
    runs = np.array(counts, np.int64)
    if runs.min(initial=0) < 0 or int(runs.sum()) != width * height:
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
            value |= (group & 0x1F) << shift
            more = bool(group & 0x20)
            place, shift = place + 1, shift + 5
            if not more and group & 0x10:
                value -= 1 << shift
        if len(found) > 2:
            value += found[-2]
        found.append(value)
    return found


def _read(path: Path) -> Any:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} has {path.stat().st_size / 1e6:.0f} MB: split it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is neither a COCO nor a LabelMe file")
    return content
