# SPDX-License-Identifier: Apache-2.0
"""Shapes as CVAT (images 1.1) and Pascal VOC write them as XML; see :mod:`.json_files`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from proto_mtl_ros.data.drawn.json_files import Read
from proto_mtl_ros.data.drawn.shapes import (
    DrawnMask,
    Patch,
    Shape,
    box,
    corners,
    ellipse,
    runs,
    size,
)

_NO_AREA = ("points", "polyline", "tag", "skeleton", "cuboid")


def parse(content: bytes) -> ElementTree.Element:
    """Return the root; a document that defines entities, which may grow without end, is refused."""
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise ValueError("it defines entities")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from None


def read_cvat(path: Path, root: ElementTree.Element) -> Read:
    """Return the masks of a file of "CVAT for images"; ``z_order`` says what covers what."""
    if root.find("track") is not None:
        raise ValueError('it is of the form "CVAT for video": export "CVAT for images"')
    named = [
        one.findtext("name") or "" for one in root.iter("label") if one.find("name") is not None
    ]
    masks, passed = [], Counter[str]()
    for image in root.iter("image"):
        shapes: list[tuple[int, str, Shape]] = []
        for one in image:
            if one.tag in _NO_AREA:
                passed[f"shapes of the kind {one.tag}"] += 1
            else:
                shapes.append((int(one.get("z_order", 0)), one.attrib["label"], _cvat_shape(one)))
        ordered = sorted(shapes, key=lambda item: item[0])
        extent = size(image.attrib["width"], image.attrib["height"])
        drawn = tuple((name, shape) for _, name, shape in ordered)
        masks.append(DrawnMask(str(path), image.attrib["name"], *extent, drawn))
    used = sorted({name for mask in masks for name, _ in mask.shapes})
    return masks, list(dict.fromkeys(named)) or used, passed


def _cvat_shape(one: ElementTree.Element) -> Shape:
    def numbers(*names: str) -> list[float]:
        return [float(one.attrib[name]) for name in names]

    degrees = float(one.get("rotation", 0))
    if one.tag == "polygon":
        return [corners([point.split(",") for point in one.attrib["points"].split(";")])]
    if one.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        return box(left, top, right, bottom, degrees)
    if one.tag == "ellipse":
        x, y, rx, ry = numbers("cx", "cy", "rx", "ry")
        return ellipse(x, y, rx, ry, degrees)
    if one.tag == "mask":
        left, top, width, height = (int(n) for n in numbers("left", "top", "width", "height"))
        size(width, height)
        counts = [int(count) for count in one.attrib["rle"].split(",")]
        return Patch(runs(counts, width, height, by_columns=False), left, top)
    raise ValueError(f"a shape of the kind {one.tag!r} is not known")


def read_voc(path: Path, root: ElementTree.Element) -> Read:
    """Return the polygons of a Pascal VOC file; a box around an object is no mask of it."""
    shapes: list[tuple[str, Shape]] = []
    passed: Counter[str] = Counter()
    for one in root.iter("object"):
        polygon = one.find("polygon")
        if polygon is None:
            passed["objects with a box alone"] += 1
            continue
        # <x1>, <y1>, <x2> ..., or a <pt> with <x> and <y> for each corner
        points = [float(number.text or "") for number in polygon.iter() if number.tag[0] in "xy"]
        shapes.append((one.findtext("name") or "", [corners(points)]))
    name = root.findtext("filename") or path.name
    extent = size(root.findtext("size/width"), root.findtext("size/height"))
    mask = DrawnMask(str(path), name, *extent, tuple(shapes))
    return [mask], sorted({name for name, _ in shapes}), passed
