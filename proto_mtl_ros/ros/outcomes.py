# SPDX-License-Identifier: Apache-2.0
"""What became of a camera's images: counters, latencies, and a line of the debug log for each.

The counters on /diagnostics say how many images gave no result and why; the log says which, and a
replay reads it back. Times are of a steady clock, which simulated time does not touch.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.logging import LoggingSeverity

from proto_mtl_ros.ros.decoding import Frame

PROCESSED = "processed"

RATE_WINDOW = 5.0  # seconds over which rates are counted
SAMPLES = 512  # latency percentiles are over so many newest frames

LATE, KEEPS_UP = 0.5, 0.6
"""Below the one share of images that give results it is too few, from the other on enough again."""

_FEWEST = 5  # so many images in a window are needed to tell

_LINE = re.compile(r"(\S+): image (\d+)\.(\d{9}): (\w+)$")


class Outcomes:
    """Counts each frame of a camera once; its methods may be called from any thread."""

    def __init__(self, camera: str, logger: Any) -> None:
        self._camera, self._logger = camera, logger
        self._lock = threading.Lock()
        self._processed = 0
        self._lost: dict[str, Counter[str]] = {
            group: Counter() for group in ("drops", "skipped", "bad")
        }
        self.reset()

    def reset(self) -> None:
        """Forget rates and latencies; the counts stay, they are of the node's life."""
        with self._lock:
            self._born = time.monotonic()
            self._times: deque[float] = deque(maxlen=2048)
            self._latencies: dict[str, deque[float]] = {}
            self._rate = OutputRate()

    def settle(self, frame: Frame, outcome: str, group: str = "") -> None:
        """Count an image and, where it has no group of those that are lost, its latencies."""
        with self._lock:
            if frame.outcome:  # given up before, with the worker that had it
                return
            frame.outcome = outcome
            if group:
                self._lost[group][outcome] += 1
            else:
                self._processed += 1
                self._times.append(time.monotonic())
                for stage, value in frame.latencies.items():
                    self._latencies.setdefault(stage, deque(maxlen=SAMPLES)).append(value)
        if self._logger.is_enabled_for(LoggingSeverity.DEBUG):
            stamp = frame.message.header.stamp
            self._logger.debug(f"{self._camera}: image {stamp.sec}.{stamp.nanosec:09d}: {outcome}")

    drop = partialmethod(settle, group="drops")  # somebody wanted it, and there is no result
    skip = partialmethod(settle, group="skipped")  # nobody wanted it
    refuse = partialmethod(settle, group="bad")  # it cannot be used
    finish = partialmethod(settle, outcome=PROCESSED)

    def lateness(self, received: int) -> tuple[str, str] | None:
        """Cause and text where too few of the images received so far give results."""
        with self._lock:
            lost = self._lost["drops"] + self._lost["bad"]
            wanted = received - self._lost["skipped"].total()
            return self._rate.check(time.monotonic(), wanted, self._processed, lost)

    def values(self) -> dict[str, str]:
        with self._lock:
            drops, skipped, bad = self._lost.values()
            values = {
                "rate_out_hz": f"{recent_rate(self._times, self._born):.2f}",
                "processed": str(self._processed),
                "dropped": str(drops.total() + bad.total()),
                "skipped": str(skipped.total()),
                "drops.overwritten": str(drops["overwritten"]),
            }
            for group, counter in self._lost.items():
                values |= {f"{group}.{cause}": str(n) for cause, n in sorted(counter.items())}
            for stage, samples in self._latencies.items():
                p50, p95 = np.percentile(samples, (50, 95))
                values[f"latency_ms.{stage}.p50"] = f"{p50:.2f}"
                values[f"latency_ms.{stage}.p95"] = f"{p95:.2f}"
        return values


class OutputRate:
    """Whether enough of the images that somebody wanted gave results of late."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int, int, Counter[str]]] = deque()
        self._late = False

    def check(
        self, now: float, wanted: int, done: int, lost: Counter[str]
    ) -> tuple[str, str] | None:
        """Cause and text of what is wrong, None while all is well; to be called once a second.

        now: seconds of a steady clock. wanted, done, lost: numbers of images so far, lost by cause.
        """
        self._past.append((now, wanted, done, lost))
        while len(self._past) > 1 and now - self._past[1][0] >= RATE_WINDOW:
            self._past.popleft()
        begin, wanted_before, done_before, lost_before = self._past[0]
        seconds, wanted, done = now - begin, wanted - wanted_before, done - done_before
        if seconds < 0.6 * RATE_WINDOW:
            return None
        self._late = wanted >= _FEWEST and done < (KEEPS_UP if self._late else LATE) * wanted
        lost = lost - lost_before
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


def recent_rate(times: Iterable[float], born: float) -> float:
    """How many of the steady times lie in the last window, in Hz; counted since `born`."""
    now = time.monotonic()
    span = max(min(now - born, RATE_WINDOW), 1e-3)
    return sum(now - t <= RATE_WINDOW for t in times) / span


def read_outcomes(log: Path, camera: str) -> dict[int, str]:
    """Stamp in nanoseconds -> outcome of the images of a camera, from a node's debug log."""
    outcomes: dict[int, str] = {}
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = _LINE.search(line.rstrip())
            if found and found[1] == camera:
                outcomes[int(found[2] + found[3])] = found[4]
    return outcomes
