# SPDX-License-Identifier: Apache-2.0
"""A limit on how many frames of a camera are processed in a second."""

from __future__ import annotations

_EARLY = 0.25
"""Share of a period that a frame may come early: cameras are not as regular as their rate."""


class RateLimit:
    """Admits frames by a schedule, so that the mean rate keeps to the limit.

    A camera of 30 Hz limited to 20 gets two frames of three, not every other one.
    """

    def __init__(self, rate: float = 0.0) -> None:
        """Limit to ``rate`` frames a second, 0 for no limit."""
        self.rate = rate
        self._due: float | None = None

    def admits(self, now: float) -> bool:
        """Tell whether a frame that came at ``now``, in seconds, is one to process."""
        if self.rate <= 0.0:
            return True
        period = 1.0 / self.rate
        if self._due is None or now >= self._due + period:
            self._due = now + period  # after a pause the schedule begins anew
            return True
        if now < self._due - _EARLY * period:
            return False
        self._due += period
        return True
