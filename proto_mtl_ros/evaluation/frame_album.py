# SPDX-License-Identifier: Apache-2.0
"""The frames that a report shows: evenly spread ones, the best and the worst by a figure.

They are chosen while the frames pass by once, and lie in a folder until the report is written.
"""

from __future__ import annotations

import io
import zipfile
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.files import write_bytes
from proto_mtl_ros.geometry import height_at, resize

THROUGH = 30
"""Evenly spread frames, and so the size of a page: about 60 kB each."""

EXTREMES = 3
"""Best and worst frames."""

_WIDTH = 400


class FrameAlbum:
    """Takes the frames in their order; a pass that goes on takes those before once more."""

    def __init__(self, folder: Path, count: int) -> None:
        """Choose evenly spread frames.

        Args:
            folder: of the pictures, made when it is needed.
            count: frames that will come, about.
        """
        self._folder = folder
        self._through = spread(range(count), THROUGH)
        self._ranked: list[tuple[float, int]] = []

    def add(self, place: int, error: float | None, row: Callable[[], SheetRow] | None) -> None:
        """Take a frame.

        Args:
            place: from 0, ascending.
            error: what the best and the worst are told by, the less the better; None for neither.
            row: what to show of it, asked for only if it is kept; None: it was taken before.
        """
        keep = place in self._through
        if error is not None:
            before = self._extremes()
            insort(self._ranked, (error, place))
            after = self._extremes()
            keep = keep or place in after
            for left in before - after - set(self._through):
                self._path(left).unlink(missing_ok=True)
        if keep and row is not None:
            write_bytes(self._path(place), _packed(row()))

    def _extremes(self) -> set[int]:
        return {place for _, place in (*self._ranked[:EXTREMES], *self._ranked[-EXTREMES:])}

    def chosen(self) -> dict[str, list[SheetRow]]:
        """Return the frames "through" the recording, the "best" and the "worst", none of it both."""
        count = min(EXTREMES, len(self._ranked) // 2)
        ranked = [place for _, place in self._ranked]
        places = {"through": self._through, "best": ranked[:count], "worst": ranked[::-1][:count]}
        rows = {one: _unpacked(self._path(one)) for own in places.values() for one in own}
        return {
            name: [row for one in own if (row := rows[one]) is not None]
            for name, own in places.items()
        }

    def _path(self, place: int) -> Path:
        return self._folder / f"{place:06d}.npz"


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return so many of the items, at most, evenly spread."""
    if len(items) <= count:
        return list(items)
    # The first and last moments of a recording are often the least typical ones.
    places = (np.arange(count) + 0.5) / count * len(items)
    return [items[int(place)] for place in places]


def _packed(row: SheetRow) -> bytes:
    """Return a frame at the size at which it is shown, as a NumPy archive."""
    width = min(_WIDTH, row.rgb.shape[1])
    height = height_at(width, row.rgb)
    maps = {one.name: getattr(row, one.name) for one in fields(row) if one.name != "caption"}
    small = {
        name: resize(own, width, height, "linear" if name == "rgb" else "nearest")
        for name, own in maps.items()
        if own is not None
    }
    content = io.BytesIO()
    np.savez_compressed(content, caption=row.caption, **small)
    return content.getvalue()


def _unpacked(path: Path) -> SheetRow | None:
    """Return a frame, None where somebody has removed or damaged its file."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return SheetRow(**{**content, "caption": str(content["caption"])})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
