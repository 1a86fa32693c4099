# SPDX-License-Identifier: Apache-2.0
"""What the node tells about itself on /diagnostics: rates, latency, drops and their causes.

All times are of a steady clock, so simulated time, pauses and jumps do not touch them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from proto_mtl_ros.ros.engine_upgrade import EngineUpgrade
from proto_mtl_ros.ros.health import (
    ERROR,
    OK,
    WARN,
)
from proto_mtl_ros.ros.output_rate import Counts
from proto_mtl_ros.runtime.predictor import Predictor

RATE_WINDOW = 5.0
"""Seconds over which rates are counted."""

SAMPLES = 512
"""Latency percentiles are over so many newest frames."""


class CameraStatistics:
    """Counters of one camera; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._born = time.monotonic()
        self._received = 0
        self._processed = 0
        self._drops: Counter[str] = Counter()
        self._skips: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._info: Counter[str] = Counter()
        self._camera_infos: Counter[str] = Counter()
        self._inputs: deque[float] = deque(maxlen=2048)
        self._outputs: deque[float] = deque(maxlen=2048)
        self._latencies: dict[str, deque[float]] = {}

    def reset(self) -> None:
        """Forget rates and latencies; the counts stay, they are of the node's life."""
        with self._lock:
            self._born = time.monotonic()
            self._inputs.clear()
            self._outputs.clear()
            self._latencies.clear()

    def count_received(self) -> None:
        """An image arrived."""
        with self._lock:
            self._received += 1
            self._inputs.append(time.monotonic())

    def count_drop(self, cause: str) -> None:
        """An image that someone wanted was not processed."""
        with self._lock:
            self._drops[cause] += 1

    def count_skip(self, cause: str) -> None:
        """An image that nobody wanted was not processed."""
        with self._lock:
            self._skips[cause] += 1

    def count_bad(self, cause: str) -> None:
        """An image could not be used."""
        with self._lock:
            self._bad[cause] += 1

    def count_info(self, cause: str) -> None:
        """Something is not in order that costs no image."""
        with self._lock:
            self._info[cause] += 1

    def count_camera_info(self, kind: str) -> None:
        """A camera_info arrived that is "calibrated", "uncalibrated" or "bad"."""
        with self._lock:
            self._camera_infos[kind] += 1

    def count_processed(self, latencies_ms: dict[str, float]) -> None:
        """The results of an image were published; latencies by stage in milliseconds."""
        with self._lock:
            self._processed += 1
            self._outputs.append(time.monotonic())
            for stage, value in latencies_ms.items():
                self._latencies.setdefault(stage, deque(maxlen=SAMPLES)).append(value)

    def seconds_without_input(self) -> float:
        """Seconds since the newest image, or since the start when there was none."""
        with self._lock:
            return time.monotonic() - (self._inputs[-1] if self._inputs else self._born)

    def counts(self) -> Counts:
        """What became of the images so far."""
        with self._lock:
            return Counts(
                self._received,
                sum(self._skips.values()),
                self._processed,
                self._drops + self._bad,
            )

    def values(self) -> dict[str, str]:
        """Key-value pairs for /diagnostics."""
        now = time.monotonic()
        with self._lock:
            span = max(min(now - self._born, RATE_WINDOW), 1e-3)
            values = {
                "rate_in_hz": f"{_recent(self._inputs, now) / span:.2f}",
                "rate_out_hz": f"{_recent(self._outputs, now) / span:.2f}",
                "received": str(self._received),
                "processed": str(self._processed),
                "dropped": str(sum((self._drops + self._bad).values())),
                "skipped": str(sum(self._skips.values())),
                "drops.overwritten": str(self._drops["overwritten"]),
                "camera_info.received": str(sum(self._camera_infos.values())),
            }
            for group, counter in (
                ("drops", self._drops),
                ("skipped", self._skips),
                ("bad", self._bad),
                ("info", self._info),
                ("camera_info", self._camera_infos),
            ):
                values |= {f"{group}.{cause}": str(n) for cause, n in sorted(counter.items())}
            for stage, samples in self._latencies.items():
                p50, p95 = percentiles(samples)
                values[f"latency_ms.{stage}.p50"] = f"{p50:.2f}"
                values[f"latency_ms.{stage}.p95"] = f"{p95:.2f}"
        return values


def _recent(times: deque[float], now: float) -> int:
    return sum(1 for t in times if now - t <= RATE_WINDOW)


def percentiles(samples: Iterable[float]) -> tuple[float, float]:
    """The 50th and the 95th percentile (nearest rank) of a non-empty sample."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return ordered[round(0.5 * last)], ordered[round(0.95 * last)]


def status(
    name: str, hardware: str, values: dict[str, str], troubles: list[tuple[bytes, str]], good: str
) -> DiagnosticStatus:
    """A DiagnosticStatus with the worst level and all texts; `good` is said when all is well."""
    return DiagnosticStatus(
        name=name,
        hardware_id=hardware,
        level=max((level for level, _ in troubles), default=OK),
        message=_sentence(troubles) or good,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def add_troubles(given: DiagnosticStatus, troubles: list[tuple[bytes, str]]) -> None:
    """Tell of more troubles, (level, text), in a status."""
    if troubles:
        own = [(given.level, given.message)] if given.level != OK else []
        given.level = max(level for level, _ in (*own, *troubles))
        given.message = _sentence(own + troubles)


def _sentence(troubles: list[tuple[bytes, str]]) -> str:
    """All texts, those of the worst level first."""
    return "; ".join(text for _, text in sorted(troubles, reverse=True))


def engine_status(
    name: str,
    state: str,
    alarms: list[tuple[bytes, str]],
    parameters: dict[str, Any],
    predictor: Predictor | None,
    upgrade: EngineUpgrade | None,
    more: dict[str, str],
) -> DiagnosticStatus:
    """Status of the model and its engine.

    state: of the lifecycle. alarms: (level, text) of what the node has found wrong. predictor: None
    while nothing is loaded, then what the parameters ask for is told. upgrade: a better engine that
    is being built, or has failed to.
    """
    values = {
        "state": state,
        "enabled": str(parameters["enabled"]).lower(),
        "model": parameters["model"],
        "backend": parameters["backend"],
        **more,
    }
    troubles = list(alarms)
    device = "none"
    if predictor is not None:
        engine = predictor.engine
        device = engine.device
        values |= {
            "model": predictor.bundle.name,
            "model_path": str(predictor.bundle.path),
            "backend": engine.name,
            "device": device,
            "precision": engine.precision,
            "choice": engine.choice,
            "input_size": "x".join(str(size) for size in reversed(predictor.input_size)),
        }
        if engine.fallback:
            values["fallback"] = engine.fallback
            troubles.append((WARN, f"fallback: {engine.fallback}"))
    if upgrade is not None:
        values["engine_build"] = upgrade.error or upgrade.progress
        if upgrade.error:
            troubles.append((ERROR, f"no TensorRT engine: {upgrade.error}"))
    return status(name, device, values, troubles, state)
