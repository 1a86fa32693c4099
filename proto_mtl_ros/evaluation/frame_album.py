# SPDX-License-Identifier: Apache-2.0
"""The frames that a report shows: evenly spread ones, the best and the worst by a figure.

They are chosen while the frames pass by once, and kept at the size at which they are shown.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.geometry import height_at, resize

THROUGH = 30  # evenly spread frames, and so the size of a page: about 80 kB each
EXTREMES = 3  # best and worst frames
_WIDTH = 360
_KEPT = {"normals": np.float16}  # of a smaller type while they are kept


class FrameAlbum:
    """Takes the frames in their order, and keeps a few."""

    def __init__(self, count: int) -> None:
        """Choose evenly spread ones of ``count`` frames, about, that will come."""
        self._count = count
        self._through = spread(range(count), THROUGH)
        self._ranked: list[tuple[float, int]] = []
        self._rows: dict[int, SheetRow] = {}

    def add(
        self, place: int, error: float | None, row: Callable[[], SheetRow] | None = None
    ) -> None:
        """Take the frame number ``place``, ascending from 0.

        The best have the least error, None is neither. ``row`` is asked for what to show of it, if
        it is kept; without one, ``chosen`` will ask again.
        """
        keep = place in self._through
        if error is not None:
            insort(self._ranked, (error, place))
            kept = {*self._through, *chain.from_iterable(self._extremes(2).values())}
            keep = place in kept
            for left in self._rows.keys() - kept:
                del self._rows[left]
        if keep and row is not None:
            self._rows[place] = small_row(row())

    def _extremes(self, times: int = 1) -> dict[str, list[int]]:
        """Return the best and the worst frames, those of a kind apart in time.

        Twice as many are kept: a frame that is displaced may come back when its rival is.
        """
        count = min(EXTREMES * times, len(self._ranked) // 2)
        best = apart((place for _, place in self._ranked), count, self._count)
        rest = (place for _, place in reversed(self._ranked) if place not in best)
        return {"best": best, "worst": apart(rest, count, self._count)}

    def chosen(
        self, again: Callable[[int], SheetRow | None] = lambda place: None
    ) -> dict[str, list[SheetRow]]:
        """Return the frames "through" the recording, the "best" and the "worst", none of it both.

        ``again`` returns a frame that was taken without a row, None where it cannot.
        """
        places = {"through": self._through, **self._extremes()}
        for place in {one for own in places.values() for one in own} - self._rows.keys():
            row = again(place)
            if row is not None:
                self._rows[place] = small_row(row)
        return {
            name: [self._rows[place] for place in own if place in self._rows]
            for name, own in places.items()
        }


def apart(ranked: Iterable[int], count: int, of: int) -> list[int]:
    """Return the first ``count`` places that are a tenth of ``of`` apart from one another: what
    neighbours show is the same."""
    found: list[int] = []
    for place in ranked:
        if len(found) == count:
            break
        if all(abs(place - other) > of // 10 for other in found):
            found.append(place)
    return found


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return so many of the items, at most, evenly spread."""
    if len(items) <= count:
        return list(items)
    # The first and last moments of a recording are often the least typical ones.
    places = (np.arange(count) + 0.5) / count * len(items)
    return [items[int(place)] for place in places]


def small_row(row: SheetRow) -> SheetRow:
    """Return a frame at the size at which it is shown."""
    width = min(_WIDTH, row.rgb.shape[1])
    height = height_at(width, row.rgb)
    maps: dict[str, Any] = {}
    for name, own in vars(row).items():
        if isinstance(own, np.ndarray):
            how = "linear" if name == "rgb" else "nearest"
            maps[name] = resize(own, width, height, how).astype(_KEPT.get(name, own.dtype))
    return replace(row, **maps)
