# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's images give results, or too few of them do, and why."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

WINDOW = 5.0
"""Seconds that are looked at."""

LATE, KEEPS_UP = 0.5, 0.6
"""Below the one share of images that give results it is too few, from the other on enough again."""

_FEWEST = 5
"""So many images in a window are needed to tell."""


@dataclass(frozen=True)
class Counts:
    """What became of the images so far; `lost` is by cause."""

    received: int
    skipped: int
    processed: int
    lost: Counter[str]


class OutputRate:
    """Compares results with the images that somebody wanted results of."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, Counts]] = deque()
        self._late = False

    def forget(self) -> None:
        """Begin anew: the stream has ended."""
        self._past.clear()
        self._late = False

    def check(self, now: float, counts: Counts) -> tuple[str, str] | None:
        """Cause and text of what is wrong, None while all is well; to be called once a second.

        now: seconds of a steady clock. counts: taken at that time.
        """
        self._past.append((now, counts))
        while len(self._past) > 1 and now - self._past[1][0] >= WINDOW:
            self._past.popleft()
        begin, before = self._past[0]
        seconds = now - begin
        if seconds < 0.6 * WINDOW:
            return None
        wanted = counts.received - before.received - (counts.skipped - before.skipped)
        done = counts.processed - before.processed
        if wanted < _FEWEST:
            self._late = False
            return None
        self._late = done < (KEEPS_UP if self._late else LATE) * wanted
        lost = counts.lost - before.lost
        if not self._late or not lost:
            return None
        cause, number = lost.most_common(1)[0]
        text = (
            f"{done / seconds:.1f} results a second from {wanted / seconds:.1f} images; "
            f"{100 * number / wanted:.0f} % of them are lost to {cause}"
        )
        if done == 0:
            return "no_results", text
        return "too_slow" if cause == "overwritten" else "few_results", text
