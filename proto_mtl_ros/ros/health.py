# SPDX-License-Identifier: Apache-2.0
"""Troubles of one thing that /diagnostics tells of, with hysteresis and bounded logging.

A trouble is told as soon as it is seen, and until it has not been seen for some seconds. One that
keeps returning is kept longer each time, so neither the level nor the log flaps with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proto_mtl_ros.errors import one_line

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"
"""Levels of diagnostic_msgs/DiagnosticStatus, here so that documents are made without ROS."""

HOLD = 5.0
"""Seconds that a trouble is told after it was last seen, unless the parameter says otherwise."""

LONGEST_HOLD = 60.0
"""The hold doubles each time a trouble returns soon, up to this."""

CALM = 60.0
"""Seconds after its end within which a trouble that is seen again has returned."""

_CURRENT = 1.5
"""A trouble seen within so many seconds is there now: reports are a second apart."""


@dataclass
class _Trouble:
    """What is known of a cause; times are of the steady clock."""

    level: bytes
    text: str
    begun: float
    seen: float
    hold: float
    over: float | None = None


class Health:
    """The troubles of one thing; its methods may be called from any thread.

    name: begins every line of the log. logger: the node's. clock: seconds of a steady clock.

    Attributes:
        hold: seconds that a trouble is told after it was last seen; may be changed at any time.
    """

    def __init__(self, name: str, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.hold = HOLD
        self._name = name
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    def see(self, cause: str, level: bytes, text: str, action: str, about: str = "") -> None:
        """A trouble is there now.

        Args:
            cause: its short name, one of a limited number.
            text: what was seen; made one line.
            action: what to do.
            about: tells troubles of the same cause apart, for example by topic.
        """
        now = self._clock()
        line = f"{cause}: {one_line(text)}; {action}"
        with self._lock:
            known = self._troubles.get((cause, about))
            begins = known is None or known.over is not None
            if known is None or known.over is not None:
                hold = self.hold
                if known is not None and known.over is not None and now - known.over < CALM:
                    hold = min(2 * known.hold, LONGEST_HOLD)
                known = _Trouble(level, line, now, now, hold)
                self._troubles[cause, about] = known
            known.level, known.text, known.seen = level, line, now
        if begins and level == ERROR:
            self._logger.error(f"{self._name}: {line}")
        elif begins:
            self._logger.warning(f"{self._name}: {line}")

    def report(self) -> list[tuple[bytes, str]]:
        """(level, text) of each trouble that is told now; logs which are over."""
        now = self._clock()
        told, over = [], []
        with self._lock:
            for (cause, _), trouble in self._troubles.items():
                if trouble.over is not None:
                    continue
                age = now - trouble.seen
                if age > trouble.hold:
                    trouble.over = now
                    over.append(f"{cause} is over, it lasted {trouble.seen - trouble.begun:.0f} s")
                else:
                    ago = f" ({age:.0f} s ago)" if age > _CURRENT else ""
                    told.append((trouble.level, trouble.text + ago))
        for line in over:
            self._logger.info(f"{self._name}: {line}")
        return told

    def forget(self) -> None:
        """Nothing is wrong, and nothing was."""
        with self._lock:
            self._troubles.clear()
