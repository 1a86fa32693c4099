# SPDX-License-Identifier: Apache-2.0
"""Which folders the published packs of preprocessed data have, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.cityscapes_classes import CITYSCAPES7, CITYSCAPES19
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.tasks import NYU13, LabelSet


@dataclass(frozen=True)
class Layout:
    """One of the published packs.

    Attributes:
        folders: task -> folders that may hold its maps, the first that is there is taken.
        label_sets: folder -> what its ids mean.
        camera: of the image that was resized to the stored size.
    """

    folders: Mapping[str, tuple[str, ...]]
    label_sets: Mapping[str, LabelSet]
    camera: Camera


def _camera(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> Camera:
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), width, height)


_NYUV2_CAMERA = _camera(518.857901, 519.469611, 325.582449, 253.736166, 640, 480)
LAYOUTS = {
    "nyuv2": Layout(
        {"segmentation": ("label",), "depth": ("depth",), "normals": ("normal",)},
        {"label": NYU13},
        _NYUV2_CAMERA.cropped(40, 44, 561, 427),
    ),
    "cityscapes": Layout(
        {"segmentation": ("label_7", "label", "label_19"), "depth": ("depth",)},
        {"label_7": CITYSCAPES7, "label": CITYSCAPES7, "label_19": CITYSCAPES19},
        _camera(2262.52, 2265.3017905988554, 1096.98, 513.137, 2048, 1024),
    ),
}


def layout_of(root: Path, layout: str) -> str:
    if layout in LAYOUTS:
        return layout
    if layout != "auto":
        raise DataError(f"unknown layout {layout!r}; there are: auto, {', '.join(LAYOUTS)}")
    if (root / "normal").is_dir():
        return "nyuv2"
    if (root / "label_7").is_dir() or (root / "label_19").is_dir():
        return "cityscapes"
    raise DataError(
        f"{root} has neither normal nor label_7: say which it is with layout nyuv2 or cityscapes"
    )


def label_folders(root: Path, layout: Layout, label: str | None) -> dict[str, Path]:
    found = {}
    for task, names in layout.folders.items():
        if task == "segmentation" and label is not None:
            if label not in layout.label_sets or not (root / label).is_dir():
                raise DataError(
                    f"{root} has no class ids {label!r}; those it may have: "
                    f"{', '.join(layout.label_sets)}"
                )
            names = (label,)
        there = [root / name for name in names if (root / name).is_dir()]
        if there:
            found[task] = there[0]
    return found


def label_set_of(layout: Layout, folders: Mapping[str, Path]) -> LabelSet:
    folder = folders.get("segmentation")
    first = next(iter(layout.label_sets.values()))
    return first if folder is None else layout.label_sets[folder.name]
