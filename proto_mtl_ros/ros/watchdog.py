# SPDX-License-Identifier: Apache-2.0
"""For how long a worker has been at the same work."""

from __future__ import annotations

LONGEST_GAP = 1.0
"""Seconds between two looks count at most so much. A process that was stopped, by a debugger, a
full machine or a lid that was closed, has not worked meanwhile, and nothing in it has stalled."""


class Watchdog:
    """Looked at several times a second; counts the time in which this process really ran."""

    def __init__(self) -> None:
        self._work: int | None = None
        self._spent = self._seen = 0.0

    def observe(self, work: int | None, now: float) -> float:
        """Return for how many seconds the same work has gone on.

        work: its number, another for every piece of work; None while there is none. now: of a
        steady clock, seconds.
        """
        gap, self._seen = min(now - self._seen, LONGEST_GAP), now
        if work is None or work != self._work:
            self._work, self._spent = work, 0.0
        else:
            self._spent += gap
        return self._spent
