# SPDX-License-Identifier: Apache-2.0
"""Masks for frames of a recording, joined by the stamp of their image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.drawn_masks import DrawnMask, read_coco, read_labelme
from proto_mtl_ros.data.label_set import named_label_set, read_label_set
from proto_mtl_ros.data.map_file import read_segmentation
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import check_inside
from proto_mtl_ros.tasks import LabelSet

_NS = 1_000_000_000

Mask = Callable[[], np.ndarray]


def read_masks(where: Path) -> tuple[dict[int, Mask], LabelSet]:
    """Return stamp in nanoseconds -> what gives the mask, uint8 [H, W], and the classes.

    Args:
        where: a folder of PNG files of class ids with ``classes.txt`` or ``classes.json`` beside
            them; a folder of LabelMe files; or a COCO file. Pictures are named by their stamp, in
            nanoseconds (``1700000000100000000.png``) or in seconds (``1700000000.100000000.png``).
            The classes of drawn masks are those of ``classes.txt`` or ``classes.json`` in the same
            folder, else those that occur, by the order of the file or by name.

    Raises:
        DataError: there is no mask, a file is not of its kind, or a name is no stamp.
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
