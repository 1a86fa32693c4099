# SPDX-License-Identifier: Apache-2.0
"""Masks for frames of a recording, joined by the stamp of their image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from proto_mtl_ros.data.drawn.masks import image_names, read_masks
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import LabelSet

_NS = 1_000_000_000

Mask = Callable[[], np.ndarray]


def read_stamped_masks(where: Path) -> tuple[dict[int, Mask], LabelSet, tuple[str, ...]]:
    """Return stamp in nanoseconds -> what gives the mask, the classes, and notes, of any masks that
    ``read_masks`` reads. Their images are named by their stamp, in nanoseconds
    (``1700000000100000000.png``) or in seconds (``1700000000.100000000.png``), else DataError.
    """
    found = read_masks(where)
    return {stamp_of(n): mask for n, mask in found.masks.items()}, found.label_set, found.notes


def stamp_of(name: str) -> int:
    """Return the stamp in nanoseconds that a file is named by."""
    for stem in (PurePosixPath(name).name, *image_names(name)):
        seconds, dot, fraction = PurePosixPath(stem).name.partition(".")
        digits = seconds.isdecimal() and seconds.isascii() and len(seconds) < 20
        if digits and (not dot or (fraction.isdecimal() and fraction.isascii())):
            return int(seconds) * _NS + int(fraction.ljust(9, "0")[:9]) if dot else int(seconds)
    raise DataError(f"{name} is not named by a stamp in nanoseconds or in seconds")
