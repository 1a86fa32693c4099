# SPDX-License-Identifier: Apache-2.0
"""Shapes as LabelMe, COCO and Label Studio write them as JSON.

A reader returns the masks, the names of the classes in their order, and how much of what kind was
passed over because it covers no pixels. What is not understood raises ValueError or KeyError.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from proto_mtl_ros.data.drawn.shapes import (
    DrawnMask,
    Patch,
    Shape,
    box,
    corners,
    ellipse,
    picture,
    runs,
    size,
)

Read = tuple[list[DrawnMask], list[str], Counter[str]]

_IMAGE = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?)(\?|$)", re.IGNORECASE)
_NO_AREA = ("choices", "keypointlabels", "textarea", "rating", "relation", "number")

_MOST_BITS = 40
"""Of a number in a compressed run length."""


def read_labelme(path: Path, content: Any) -> Read:
    """Return the mask of a LabelMe file, named as the file is."""
    shapes: list[tuple[str, Shape]] = []
    passed: Counter[str] = Counter()
    for one in content["shapes"]:
        kind = one.get("shape_type") or "polygon"
        if kind in ("point", "points", "line", "linestrip"):
            passed[f"shapes of the kind {kind}"] += 1
        else:
            shapes.append((str(one["label"]), _labelme_shape(kind, one)))
    extent = size(content["imageWidth"], content["imageHeight"])
    mask = DrawnMask(str(path), path.name, *extent, tuple(shapes))
    return [mask], sorted({name for name, _ in shapes}), passed


def _labelme_shape(kind: str, one: Mapping[str, Any]) -> Shape:
    points = corners(one["points"])
    if kind in ("polygon", "oriented_rectangle") or (kind == "rectangle" and len(points) > 2):
        return [points]
    if kind == "rectangle":
        return box(*points[0], *points[1])
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        return ellipse(points[0][0], points[0][1], radius, radius)
    if kind == "mask":
        return picture(base64.b64decode(one["mask"]), *points[0])
    raise ValueError(f"shape_type {kind!r} is not known")


def read_coco(path: Path, content: Any) -> Read:
    """Return the masks of a COCO file. Larger shapes are drawn first, so that what lies on a table
    is not covered by it.
    """
    categories = sorted(content["categories"], key=lambda one: int(one["id"]))
    names = {int(one["id"]): str(one["name"]) for one in categories}
    by_image: dict[int, list[tuple[float, str, Shape]]] = {}
    sizes = {int(one["id"]): size(one["width"], one["height"]) for one in content["images"]}
    passed: Counter[str] = Counter()
    for one in content["annotations"]:
        image, drawn = int(one["image_id"]), one.get("segmentation") or ()
        if image not in sizes or not any(drawn):
            passed["annotations without a segmentation, or of no image that is listed,"] += 1
            continue
        name, shape = names[int(one["category_id"])], _coco_shape(drawn, *sizes[image])
        by_image.setdefault(image, []).append((float(one.get("area", 0)), name, shape))
    masks = []
    for one in content["images"]:
        image = int(one["id"])
        found = sorted(by_image.get(image, ()), key=lambda item: -item[0])
        shapes = tuple((name, shape) for _, name, shape in found)
        masks.append(DrawnMask(str(path), str(one["file_name"]), *sizes[image], shapes))
    return masks, list(names.values()), passed


def _coco_shape(segmentation: Any, width: int, height: int) -> Shape:
    if not isinstance(segmentation, Mapping):
        return [corners(polygon) for polygon in segmentation if polygon]
    counts = segmentation["counts"]
    counts = _decompressed(counts) if isinstance(counts, str) else counts
    return Patch(runs(counts, width, height, by_columns=True))


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


def read_label_studio(path: Path, content: Any) -> Read:
    """Return the masks of Label Studio's JSON; of several people the first one's annotation."""
    masks, passed, names = [], Counter[str](), set[str]()
    for task in content:
        images = [str(text) for text in task["data"].values() if _IMAGE.search(str(text))]
        made = [one for one in task["annotations"] if not one.get("was_cancelled")]
        passed["further annotations of an image"] += max(0, len(made) - 1)
        shapes: list[tuple[str, Shape]] = []
        extent = (1, 1)
        for one in made[0]["result"] if made else ():
            kind, value = str(one["type"]), one["value"]
            if kind in _NO_AREA:
                passed[f"results of the type {kind}"] += 1
                continue
            if not value.get(kind):  # beside it stands one of the type "labels", with the same area
                passed["results without a class"] += 1
                continue
            extent = size(one["original_width"], one["original_height"])
            shapes.append((str(value[kind][0]), _studio_shape(value, *extent)))
        names.update(name for name, _ in shapes)
        file = unquote(images[0].rpartition("?d=")[2].partition("?")[0])
        masks.append(DrawnMask(str(path), file, *extent, tuple(shapes)))
    return masks, sorted(names), +passed


def _studio_shape(value: Mapping[str, Any], width: int, height: int) -> Shape:
    part = np.array([width, height]) / 100
    if "points" in value:
        return [corners(np.array(value["points"], np.float64) * part)]
    if "rle" in value:
        return Patch(_brushed(bytes(value["rle"]), width, height))
    x, y = float(value["x"]) * part[0], float(value["y"]) * part[1]
    degrees = float(value.get("rotation", 0))
    if "width" in value:
        w, h = float(value["width"]) * part[0], float(value["height"]) * part[1]
        return box(x, y, x + w, y + h, degrees, about=(x, y))
    rx, ry = float(value["radiusX"]) * part[0], float(value["radiusY"]) * part[1]
    return ellipse(x, y, rx, ry, degrees)


def _brushed(content: bytes, width: int, height: int) -> np.ndarray:
    """Return uint8 [height, width] of the alpha of a brush's RGBA, packed as @thi.ng/rle-pack does.

    32 bits say how many values, 5 how wide a value is, four times 4 how wide a length is; then
    each run has a bit (one value repeated, or all of them), 2 for the width of its length, and its
    length less one. All widths are stored less one.
    """
    bits, place = f"{int.from_bytes(content, 'big'):0{8 * len(content)}b}", 0

    def take(count: int) -> int:
        nonlocal place
        found = bits[place : place + count]
        if len(found) < count:
            raise ValueError("a brush stroke is cut off")
        place += count
        return int(found, 2)

    total, wide = take(32), take(5) + 1
    if total != width * height * 4 or wide != 8:
        raise ValueError(f"a brush stroke does not cover {width}x{height} pixels")
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    at = 0
    while at < total:
        repeated, count = take(1), take(lengths[take(2)]) + 1
        if at + count > total:
            raise ValueError("a brush stroke is longer than its picture")
        if repeated:
            values[at : at + count] = take(wide)
        else:
            for index in range(at, at + count):
                values[index] = take(wide)
        at += count
    return values.reshape(height, width, 4)[..., 3]
