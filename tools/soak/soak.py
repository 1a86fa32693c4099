# SPDX-License-Identifier: Apache-2.0
"""A soak: the node works for long under faults, and what it takes and gives is watched."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.ros.outcomes import read_outcomes
from tools.performance.node import NodeBench, NodeSetting
from tools.processes import cpu_seconds, idle_seconds, process_use, to_word
from tools.soak.analysis import Accounts, FaultOutcome, accounts, fault_outcomes, images, trend
from tools.soak.operator import Operator
from tools.soak.schedule import CAMERA, Fault, SoakSetting, round_seconds, schedule

NODE = "node0"
_STATUS = f"{NODE}: {CAMERA}"
_MEASURED = ("rss_mib", "anon_mib", "pss_mib", "uss_mib", "fds", "threads")
_JUDGED = ("rss_mib", "anon_mib", "fds", "threads")
"""pss and uss change as well when another process maps what this one has."""

_TOLD = ("rate_in_hz", "rate_out_hz", "received", "processed", "dropped", "skipped")
_POLL_SECONDS, _CONNECT_SECONDS = 0.05, 5.0
_SETTLE_SECONDS, _LEAST_SETTLE_SECONDS = 60.0, 1.5

Sample = dict[str, float]
"""One moment: "t" in seconds since the first image, and what was measured and told then."""


class Soak:
    """One soak. ``run`` returns also when SIGINT ends it early, with what there is."""

    def __init__(
        self, setting: SoakSetting, log: Path, on_sample: Callable[[Sample], None]
    ) -> None:
        """Prepare it; ``log`` gets every sample as a JSON line as it comes, ``on_sample`` too."""
        self._setting = setting
        self._log = log
        self._on_sample = on_sample
        self._samples: list[Sample] = []
        self._said: list[tuple[float, int, str]] = []
        self._faults = schedule(setting.seconds, setting.seed, setting.faults)
        self._interrupted = threading.Event()

    def run(self) -> dict[str, Any]:
        """Run it and return its figures, see ``soak_figures``.

        Raises:
            ProtoMtlError: it could not start, or the node ended; the samples are in the log.
        """
        setting = self._setting
        parameters = {
            "model": json.dumps(setting.model),
            "backend": json.dumps(setting.backend),
            "threads": str(setting.threads),
        }
        nodes = NodeSetting(setting.results, (CAMERA,), (parameters,), tell_fates=True)
        ends = (signal.SIGINT, signal.SIGTERM)
        former = [signal.signal(number, lambda *_: self._interrupted.set()) for number in ends]
        try:
            with NodeBench(nodes) as bench:
                try:
                    return self._run(bench)
                except ProtoMtlError:
                    shutil.copy(bench.folder / f"{NODE}.log", self._log.with_suffix(".node.log"))
                    raise
        finally:
            for number, handler in zip(ends, former, strict=True):
                signal.signal(number, handler)

    def _run(self, bench: NodeBench) -> dict[str, Any]:
        setting = self._setting
        stopped = bench.start("stopped_subscriber", bench.listener_arguments("stopped.json"))
        sent = bench.folder / "sent.json"
        words = ["tools.soak.camera", to_word(setting), str(sent)]
        camera = bench.start("camera", words, ends=True)
        started: dict[str, Any] = {}

        def has_started() -> bool:
            started.update(*(e for e in camera.events() if e["event"] == "started"))
            return bool(started)

        bench.wait(has_started, "the camera does not start")
        operator = Operator(NODE, setting.model, stopped.pid, bench.check)
        operator.start(self._faults, started["origin"])
        try:
            self._watch(bench, camera, started["origin"])
        finally:
            operator.close()
        ended = time.monotonic()
        camera.stop()
        self._settle(bench)
        counters = bench.status[_STATUS]
        fates = read_outcomes(bench.folder / f"{NODE}.log", CAMERA)
        log = StampLog.read(sent)
        topics = bench.topics[CAMERA]
        heard = bench.heard()
        inactive = [(start, _first_after(log, fates, end)) for start, end in operator.inactive]
        balance = accounts(log, fates, heard, topics, counters, inactive)
        tried = [fault for fault in self._faults if started["origin"] + fault.end < ended]
        origin, missing = started["origin"], balance.missing
        outcomes = fault_outcomes(
            tried, origin, ended, heard, topics, self._said, operator.refused, missing
        )
        balance = replace(balance, missing=[(topic, time - origin) for topic, time in missing])
        return soak_figures(
            self._samples, balance, outcomes, tried, round_seconds(setting.seconds)
        ) | {
            "rate_hz": started["rate"],
            "images_in_a_loop": started["images"],
            "interrupted": self._interrupted.is_set(),
            "seed": setting.seed,
            "engine": bench.status[f"{NODE}: engine"].get("choice", ""),
            "results": list(setting.results),
        }

    def _watch(self, bench: NodeBench, camera: Any, origin: float) -> None:
        """Take samples until the camera is done or somebody interrupts."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        node = bench.children[NODE]
        used, idle, clock = cpu_seconds(node.pid), idle_seconds(), time.monotonic()
        due, sent = origin, 0
        with self._log.open("w", encoding="utf-8") as lines:
            while not self._interrupted.is_set() and camera.status is None:
                bench.check()
                bench.listen()
                self._note(bench.status)
                for event in camera.events():
                    sent = event.get("count", sent)
                now = time.monotonic()
                if now >= due:
                    due = max(due + self._setting.every, now)
                    seconds, clock = max(now - clock, 1e-3), now
                    former, used = used, cpu_seconds(node.pid)
                    rested, idle = idle, idle_seconds()
                    sample = {
                        "t": round(now - origin, 2),
                        **process_use(node.pid),
                        "cpu": (used - former) / seconds,
                        "idle_cores": (idle - rested) / seconds,
                        "sent": float(sent),
                        **_told(bench.status.get(_STATUS, {})),
                    }
                    self._samples.append(sample)
                    lines.write(json.dumps(sample) + "\n")
                    lines.flush()
                    self._on_sample(sample)
                time.sleep(_POLL_SECONDS)
        bench.check()

    def _note(self, status: Mapping[str, Mapping[str, str]]) -> None:
        """Keep what /diagnostics says whenever it says something else."""
        rows = [values for name, values in status.items() if name.startswith(f"{NODE}:")]
        level = max((int(row["level"]) for row in rows), default=0)
        text = "; ".join(row["message"] for row in rows if int(row["level"])) or "OK"
        if not self._said or self._said[-1][1:] != (level, text):
            self._said.append((time.monotonic(), level, text))

    def _settle(self, bench: NodeBench) -> None:
        """Wait until nothing is under way any more."""
        end = time.monotonic() + _SETTLE_SECONDS
        former: tuple[str, ...] = ()
        since = time.monotonic()
        while time.monotonic() - since < _LEAST_SETTLE_SECONDS and time.monotonic() < end:
            bench.fresh_status()
            now = tuple(bench.status[_STATUS][name] for name in _TOLD[2:])
            if now != former:
                former, since = now, time.monotonic()


def _told(values: Mapping[str, str]) -> Sample:
    """Return what a status says in numbers, latencies by stage among them."""
    found = {name: float(values[name]) for name in _TOLD if name in values}
    prefix = "latency_ms."
    return found | {k: float(v) for k, v in values.items() if k.startswith(prefix)}


def _first_after(sent: StampLog, fates: Mapping[int, str], end: float) -> float:
    """Return when the node saw an image again after it was activated: connecting takes a while."""
    times = [time for stamp, (time, _) in images(sent).items() if stamp in fates and time >= end]
    return min([*times, end + _CONNECT_SECONDS])


def soak_figures(
    samples: list[Sample],
    balance: Accounts,
    outcomes: list[FaultOutcome],
    faults: list[Fault],
    warm_up: float,
) -> dict[str, Any]:
    """Return the figures of a soak, ready for JSON.

    The slope of memory leaves out ``warm_up`` seconds: the first round of faults, which takes every
    buffer to its largest size.
    """
    steady = [sample for sample in samples if sample["t"] >= warm_up]
    times = [sample["t"] for sample in steady]
    trends: dict[str, Any] = {
        name: None if found is None else asdict(found) | {"within_noise": found.within_noise}
        for name in _MEASURED
        for found in [trend(times, [sample[name] for sample in steady], warm_up)]
    }
    memory = trends["rss_mib"]
    return {
        "minutes": samples[-1]["t"] / 60 if samples else 0.0,
        "warm_up_minutes": warm_up / 60,
        "memory_slope_mib_per_hour": None if memory is None else memory["per_hour"],
        "memory_slope_interval": None if memory is None else [memory["low"], memory["high"]],
        "memory_within_noise": None
        if memory is None
        else all(trends[name]["within_noise"] for name in _JUDGED),
        "unexplained_drops": balance.unexplained_drops,
        "lost_in_transport": sum(balance.lost_in_transport.values()),
        "accounts": asdict(balance),
        "trends": trends,
        "faults": [asdict(outcome) for outcome in outcomes],
        "schedule": [asdict(fault) for fault in faults],
        "series": {
            name: [sample.get(name) for sample in samples] for name in sorted(set().union(*samples))
        },
    }


def verdict(figures: Mapping[str, Any]) -> list[str]:
    """Return what a soak has found to be wrong, one line each; nothing when all is well."""
    found = []
    if figures["unexplained_drops"]:
        causes = {k: n for k, n in figures["accounts"]["unexplained"].items() if n}
        found.append(f"images or results are unaccounted for: {causes}")
    for name in _JUDGED:
        one = figures["trends"][name]
        if one is not None and not one["within_noise"]:
            found.append(
                f"{name} grows by {one['per_hour']:.2f} an hour"
                f" ({one['low']:.2f} to {one['high']:.2f})"
            )
    for row in figures["faults"]:
        if row["survived"] < row["tried"]:
            why = f": {row['failed'][0]}" if row["failed"] else ""
            found.append(f"{row['name']}: survived {row['survived']} of {row['tried']}{why}")
    return found
