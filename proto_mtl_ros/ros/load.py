# SPDX-License-Identifier: Apache-2.0
"""Whether a worker has more to do than it can, from the share of the time in which it is busy."""

from __future__ import annotations

WINDOW = 5.0
"""Seconds over which the share is taken."""

FULL, WINDOWS_FULL = 0.95, 2
"""Busy for more than this share in so many windows one after the other: it cannot keep up."""

EASY, WINDOWS_EASY = 0.75, 6
"""At the larger input it would be busy for less than this: it could keep up again."""


class Load:
    """Decides between a network's whole input and a smaller one; looked at now and then."""

    def __init__(self) -> None:
        self.share = 0.0
        """Of the newest window in which the worker was busy, 0..1."""
        self._begin: tuple[float, float, int] | None = None
        self._windows = 0
        self._small = False
        self._cost: dict[bool, float] = {}

    def observe(self, now: float, busy: float, count: int, small: bool) -> bool:
        """Return whether the input shall be small.

        now: of a steady clock, seconds. busy: seconds of work so far. count: images so far. small:
        whether the input is small now.
        """
        if self._begin is None or small != self._small:
            self._begin, self._small, self._windows = (now, busy, count), small, 0
            return small
        begin, busy_before, count_before = self._begin
        if now - begin < WINDOW:
            return small
        self._begin = now, busy, count
        self.share = (busy - busy_before) / (now - begin)
        images = count - count_before
        if images:
            self._cost[small] = (busy - busy_before) / images
        if small:
            whole = self.share * self._cost.get(False, 0.0) / max(self._cost.get(True, 0.0), 1e-6)
            self._windows = self._windows + 1 if whole < EASY else 0
            return self._windows < WINDOWS_EASY
        self._windows = self._windows + 1 if self.share > FULL else 0
        return self._windows >= WINDOWS_FULL
