# SPDX-License-Identifier: Apache-2.0
"""The classes of a data set: known ones, and those of ``classes.json`` or ``classes.txt``."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import MAX_JSON, check_inside, read_json, read_text, write_text
from proto_mtl_ros.tasks import NYU13, LabelSet

NO_CLASSES = LabelSet("none", (), ())
"""The label set of a data set without segmentation."""

CITYSCAPES7 = LabelSet(
    "cityscapes7",
    ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    (
        (128, 64, 128), (70, 70, 70), (153, 153, 153), (107, 142, 35), (70, 130, 180),
        (220, 20, 60), (0, 0, 142),
    ),
)  # fmt: skip

CITYSCAPES19 = LabelSet(
    "cityscapes19",
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    ),
    (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip

LABEL_SETS = {label_set.name: label_set for label_set in (NYU13, CITYSCAPES7, CITYSCAPES19)}
"""The label sets that can be named instead of spelt out."""


def read_label_set(folder: Path) -> LabelSet | None:
    """Return the classes that ``folder`` names; None when it has no file of them.

    ``classes.txt`` has one name a line; the first one is id 0; names, or id and name, may stand
    between semicolons. ``classes.json`` is a list of names
    or ``{"name": ..., "classes": [...], "palette": [[r, g, b], ...]}``. DataError for another form.
    """
    as_json, as_text = folder / "classes.json", folder / "classes.txt"
    for path in (as_json, as_text):
        if path.is_file():
            check_inside(path, folder, DataError)
    if as_json.is_file():
        content: Any = read_json(as_json, DataError)
        content = content if isinstance(content, dict) else {"classes": content}
        name = str(content.get("name", folder.name))
        return named_label_set(name, content.get("classes"), content.get("palette"), as_json)
    if as_text.is_file():
        text = read_text(as_text, MAX_JSON, DataError).removeprefix("\ufeff")
        lines = [line.strip().rstrip(";") for line in text.splitlines()]
        rows = [[part.strip() for part in line.split(";")] for line in lines if line]
        if all(row[0] == str(index) and len(row) == 2 for index, row in enumerate(rows)):
            rows = [row[1:] for row in rows]
        return named_label_set(folder.name, [name for row in rows for name in row], None, as_text)
    return None


def write_label_set(folder: Path, label_set: LabelSet) -> None:
    """Write ``classes.json``."""
    content = {name: getattr(label_set, name) for name in ("name", "classes", "palette")}
    write_text(folder / "classes.json", json.dumps(content, indent=1) + "\n")


def named_label_set(name: str, classes: Any, palette: Any, where: object) -> LabelSet:
    """Return a checked label set, with colours that are made up when ``palette`` is None;
    DataError.
    """
    if (
        not isinstance(classes, list | tuple)
        or not classes
        or not all(isinstance(c, str) and c for c in classes)
    ):
        raise DataError(f"{where} must list the names of the classes, the one of id 0 first")
    if len(set(classes)) != len(classes):
        raise DataError(f"{where} names a class twice; every id needs a name of its own")
    if len(classes) > 255:
        raise DataError(f"{where} names {len(classes)} classes, at most 255 fit in 8 bits")
    if palette is None:
        palette = distinct_colours(len(classes))
    try:
        colours = tuple((int(r), int(g), int(b)) for r, g, b in palette)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: palette must be a list of [r, g, b]") from None
    if len(colours) != len(classes) or not all(0 <= v <= 255 for c in colours for v in c):
        raise DataError(f"{where}: palette needs one [r, g, b] of 0 to 255 for every class")
    return LabelSet(name, tuple(classes), colours)


def distinct_colours(count: int) -> Sequence[tuple[int, int, int]]:
    """Return so many colours that differ: hues a golden angle apart, two brightnesses."""
    colours = []
    for index in range(count):
        hue, value = (index * 0.618034) % 1.0, (0.92, 0.68)[index % 2]
        r, g, b = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.62, value))
        colours.append((r, g, b))
    return colours
