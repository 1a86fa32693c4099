# SPDX-License-Identifier: Apache-2.0
"""What is odd about an image beside the one before it: its stamp, its encoding."""

from __future__ import annotations

_SECOND = 1_000_000_000
_UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60))


class StreamCheck:
    """Compares each image with the one before it and with the node's clock, in nanoseconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The next image is the first of a stream."""
        self._last: int | None = None
        self._encoding = ""

    def check(self, stamp: int, now: int, tolerance: float, encoding: str) -> list[tuple[str, str]]:
        """Cause and text of each thing that is odd.

        Args:
            stamp: of an image that has just come.
            now: the node's clock; 0 while it has no time yet.
            tolerance: seconds that the two may differ, 0 for any.
            encoding: of that image.
        """
        odd = []
        if encoding != self._encoding:
            if self._encoding:
                text = f"images were {self._encoding} and are {encoding} now"
                odd.append(("encoding_changed", text))
            self._encoding = encoding
        if stamp == 0:
            return [*odd, ("stamp_zero", "an image has the stamp 0")]
        if self._last is not None and stamp < self._last:
            text = f"an image is {_duration(self._last - stamp)} older than the one before it"
            odd.append(("stamp_backwards", text))
        self._last = stamp
        if now and tolerance and abs(now - stamp) > tolerance * _SECOND:
            behind = stamp < now
            side = "behind" if behind else "ahead of"
            text = f"stamps are {_duration(abs(now - stamp))} {side} this node's clock"
            odd.append(("stamp_past" if behind else "stamp_future", text))
        return odd


def _duration(nanoseconds: int) -> str:
    seconds = nanoseconds / _SECOND
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"
