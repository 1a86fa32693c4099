# SPDX-License-Identifier: Apache-2.0
"""Masks for images, as people have them: PNG files, or the file or folder of a labelling tool."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from proto_mtl_ros.data.drawn.json_files import Read, read_coco, read_label_studio, read_labelme
from proto_mtl_ros.data.drawn.shapes import IGNORED
from proto_mtl_ros.data.drawn.xml_files import parse, read_cvat, read_voc
from proto_mtl_ros.data.label_set import named_label_set, read_label_set
from proto_mtl_ros.data.map_file import read_segmentation
from proto_mtl_ros.encodings import EncodingError
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import MAX_JSON, check_inside, parse_json, read_bytes, read_text
from proto_mtl_ros.tasks import LabelSet

_MOST_BYTES = 64_000_000
"""Bytes of a file; as Python's values they are twenty times as many."""

_KNOWN = "COCO, LabelMe, Label Studio, CVAT for images, Pascal VOC"
_LABEL_MAP = "labelmap.txt"


@dataclass(frozen=True)
class NamedMasks:
    """Masks, uint8 [H, W], by the name of their image (a relative path), their classes, and what
    was passed over, a sentence each. ``as_stored``: they are files of pixels, which know nothing of
    how a viewer turns the image.
    """

    masks: dict[str, Callable[[], np.ndarray]]
    label_set: LabelSet
    notes: tuple[str, ...] = ()
    as_stored: bool = False


def read_masks(where: Path) -> NamedMasks:
    """Return the masks of a file or folder of a labelling tool, or of a folder of PNG files of ids
    or colours with ``classes.txt``, ``classes.json`` or ``labelmap.txt``.

    Without a list those classes count that the tool's file lists, or that occur, by name. DataError
    where there is no mask, or something is not understood: nothing that covers pixels is dropped.
    """
    if where.is_file():
        return _drawn([where], where.parent)
    files = sorted(path for path in where.rglob("*") if not path.name.startswith("."))
    for path in files:
        check_inside(path, where, DataError)
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    classes = next((path for path in files if path.name == "SegmentationClass"), None)
    shapes = [p for p in files if p.suffix in (".json", ".xml") and p.name != "classes.json"]
    if classes is not None:
        pictures = [path for path in pictures if path.is_relative_to(classes)]
    elif shapes:
        return _drawn(shapes, where)
    maps = [*(path for path in files if path.name == _LABEL_MAP), where.parent / _LABEL_MAP]
    label_map = next((path for path in maps if path.is_file()), None)
    folder = classes or where
    label_set = _read_label_map(label_map) if label_map else read_label_set(where)
    if label_set is None:
        raise DataError(
            f"{where} has neither classes.txt nor classes.json; name the classes of the masks "
            "there, one a line, the one of id 0 first"
        )
    if not pictures:
        raise DataError(f"{where} holds no mask: PNG files, or an export of {_KNOWN}")
    masks: dict[str, Callable[[], np.ndarray]] = {
        path.relative_to(folder).as_posix(): partial(
            read_segmentation, path, label_set, by_colour=label_map is not None
        )
        for path in pictures
    }
    notes: tuple[str, ...] = ()
    if len(label_set.classes) == 1 and np.isin((0, 255), next(iter(masks.values()))()).all():
        notes = (f"Black is {label_set.classes[0]}, white (255) is unlabelled; is it so meant?",)
    return NamedMasks(masks, label_set, notes, as_stored=True)


def _drawn(files: Sequence[Path], folder: Path) -> NamedMasks:
    drawn, passed = [], Counter[str]()
    names: dict[str, None] = {}
    for path in files:
        masks, own, left = _read_file(path, alone=len(files) == 1)
        drawn += masks
        passed += left
        names.update(dict.fromkeys(own))
    names.pop(IGNORED, None)
    notes = tuple(
        f"{count} {what} cover no pixels and are passed over." for what, count in passed.items()
    )
    drawn = [mask for mask in drawn if mask.shapes]  # what has no shape was not looked at
    if not drawn:
        raise DataError(f"{folder} holds no mask: no shape that covers pixels. {' '.join(notes)}")
    order = list(names) if len(files) == 1 else sorted(names)
    label_set = read_label_set(folder) or named_label_set(folder.stem, order, None, folder)
    found: dict[str, Callable[[], np.ndarray]] = {}
    for mask in drawn:
        file = Path(mask.where)
        named = file.relative_to(folder) if file.stem == Path(mask.name).stem else mask.name
        name = PureWindowsPath(named).as_posix()
        if name in found:
            raise DataError(f"{mask.where} has {name} twice: keep one of them")
        found[name] = partial(mask.draw, label_set.classes)
    return NamedMasks(found, label_set, notes)


def _read_file(path: Path, alone: bool) -> Read:
    """Read a file of any of the tools, by what is in it; one of many may be something else."""
    content = read_bytes(path, _MOST_BYTES, DataError)
    kind = "file of a labelling tool"
    try:
        if path.suffix == ".xml":
            root = parse(content)
            kind = {"annotations": "CVAT file", "annotation": "Pascal VOC file"}.get(root.tag, kind)
            return (read_voc if root.tag == "annotation" else read_cvat)(path, root)
        found: Any = parse_json(content, path, DataError)
        if isinstance(found, list) and found and isinstance(found[0], dict) and "data" in found[0]:
            kind = "Label Studio file"
            return read_label_studio(path, found)
        if not isinstance(found, dict) or not {"shapes", "images", "annotations"} & set(found):
            if alone:
                raise DataError(f"{path} is none of these: {_KNOWN}")
            return [], [], Counter({f"files such as {path.name}": 1})
        kind = "LabelMe file" if "shapes" in found else "COCO file"
        return (read_labelme if "shapes" in found else read_coco)(path, found)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError,
            EncodingError) as error:  # fmt: skip
        missing = "it lacks " if isinstance(error, KeyError) else ""
        raise DataError(
            f"{path} is not a {kind}, or has what is not understood: {missing}{one_line(error)}"
        ) from None


def _read_label_map(path: Path) -> LabelSet:
    """Return the classes and colours of ``name:r,g,b:parts:actions`` lines, without a background,
    which is what was not painted.
    """
    names, palette = [], []
    for line in read_text(path, MAX_JSON, DataError).removeprefix("\ufeff").splitlines():
        name, _, rest = line.strip().partition(":")
        if not name or name.startswith("#") or name == "background":
            continue
        names.append(name)
        palette.append(rest.split(":")[0].split(","))
    return named_label_set(path.parent.name, names, palette, path)


def image_names(name: str) -> list[str]:
    """Return what the image of a mask may be called, without suffix, the likeliest first: Roboflow
    and Label Studio rename images, and a mask may say that it is one.
    """
    stem = PurePosixPath(name).with_suffix("").as_posix()
    plain = re.sub(r"_(jpe?g|png|webp|bmp)\.rf\.[0-9a-zA-Z]+$", "", stem)
    plain = re.sub(r"\.(jpe?g|png|webp|bmp)$", "", plain)
    last = PurePosixPath(plain).name
    short = re.sub(r"^[0-9a-f]{8}-", "", last)
    bare = re.sub(r"[_-](mask|masks|label|labels|seg|gt|labelIds|color)$", "", last)
    return list(dict.fromkeys((stem, plain, PurePosixPath(stem).name, last, short, bare)))
