# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one thing, for /diagnostics and the log, with hysteresis.

A diagnostic is given as soon as it is seen, and until it has not been seen for some seconds. One
that keeps returning is held longer each time, so neither the level nor the log flaps with it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from proto_mtl_ros.errors import one_line, printable
from proto_mtl_ros.ros.diagnostic_table import ERROR, OK, row_of

HOLD = 5.0  # seconds that a diagnostic is given after it was last seen
LONGEST_HOLD = 60.0  # the hold doubles each time a diagnostic returns soon, up to this
CALM = 60.0  # seconds after its end within which one that is seen again has returned
_CURRENT = 1.5  # seen within so many seconds it is there now: reports are a second apart

Finding = tuple[bytes, str]
"""Level and text of what is not in order."""


@dataclass
class _State:
    """What is known of a cause; times are of the steady clock."""

    level: bytes
    text: str
    begun: float
    seen: float
    hold: float
    over: float | None = None


class Diagnostics:
    """The diagnostics of one thing; its methods may be called from any thread.

    name: begins every line of the log. clock: seconds of a steady clock.
    """

    def __init__(self, name: str, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._logger, self._clock = name, logger, clock
        self._lock = threading.Lock()
        self._states: dict[tuple[str, str], _State] = {}
        self._counts: Counter[str] = Counter()

    def count(self, cause: str, text: str) -> None:
        """See what a message brought that costs no image; it is counted as info.<cause>."""
        with self._lock:
            self._counts[cause] += 1
        self.see(cause, text)

    def see(self, cause: str, text: str, level: bytes | None = None, about: str = "") -> None:
        """A diagnostic of the table is there now.

        level: where it is not the table's. about: tells those of one cause apart, such as a topic.
        """
        row, now = row_of(cause), self._clock()
        level = level or row.level
        line = f"{cause}: {one_line(text)}; {row.action}"
        with self._lock:
            state = self._states.get((cause, about))
            begins = state is None or state.over is not None
            if state is None or state.over is not None:
                hold = HOLD
                if state is not None and state.over is not None and now - state.over < CALM:
                    hold = min(2 * state.hold, LONGEST_HOLD)
                state = self._states[cause, about] = _State(level, line, now, now, hold)
            state.level, state.text, state.seen = level, line, now
        # Two lines: a logger of rclpy allows one level at each place that it is called from.
        if begins and level == ERROR:
            self._logger.error(f"{self._name}: {line}")
        elif begins:
            self._logger.warning(f"{self._name}: {line}")

    def report(self) -> list[Finding]:
        """What is given now; logs what is over."""
        now = self._clock()
        found, over = [], []
        with self._lock:
            for (cause, _), state in self._states.items():
                if state.over is not None:
                    continue
                age = now - state.seen
                if age > state.hold:
                    state.over = now
                    over.append(f"{cause} is over, it lasted {state.seen - state.begun:.0f} s")
                else:
                    ago = f" ({age:.0f} s ago)" if age > _CURRENT else ""
                    found.append((state.level, state.text + ago))
        for line in over:
            self._logger.info(f"{self._name}: {line}")
        return found

    def values(self) -> dict[str, str]:
        with self._lock:
            return {f"info.{cause}": str(n) for cause, n in sorted(self._counts.items())}

    def forget(self) -> None:
        with self._lock:
            self._states.clear()


def named(node: Any) -> str:
    """What the node's statuses begin with: two robots' are told apart by their namespaces."""
    root = node.get_namespace() == "/"
    return str(node.get_name() if root else node.get_fully_qualified_name())


def status(
    name: str, hardware: str, values: Mapping[str, str], findings: list[Finding], good: str
) -> DiagnosticStatus:
    """A status of the worst level and all texts, the worst first; `good` is for none."""
    return DiagnosticStatus(
        name=name,
        hardware_id=hardware,
        level=max((level for level, _ in findings), default=OK),
        message=printable("; ".join(text for _, text in sorted(findings, reverse=True)) or good),
        values=[KeyValue(key=one_line(k), value=one_line(v, 1000)) for k, v in values.items()],
    )
