# SPDX-License-Identifier: Apache-2.0
"""What a soak's samples and logs say: does memory grow, is an image unaccounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.ros.outcomes import PROCESSED
from tools.soak.schedule import KINDS, Fault

_LEAST_BLOCKS = 8
_Z = 1.96
_AGAIN_SECONDS = 2.5
"""/diagnostics comes once a second and warns for a while: what is seen may come so much later."""


@dataclass(frozen=True)
class Trend:
    """A line through a series; ``low`` to ``high``: 95 % confidence interval of its slope."""

    per_hour: float
    low: float
    high: float
    growth: float  # over the time that was fitted
    scatter: float  # of single values about the line (a robust standard deviation)

    @property
    def within_noise(self) -> bool:
        """Whether nothing shows that it grows: the interval holds 0, or the values scatter more."""
        return self.low <= 0 or self.growth < 2 * self.scatter


def trend(times: Sequence[float], values: Sequence[float], block: float) -> Trend | None:
    """Fit a line that single jumps do not tilt; None where there are too few values.

    The slope is Theil's and Sen's (the median of the slopes of all pairs), of medians of blocks:
    neighbouring samples are alike and would make the interval too narrow. Its interval is Sen's, of
    ranks ("Estimates of the regression coefficient based on Kendall's tau", 1968).

    Args:
        times: seconds, ascending.
        values: of the same moments.
        block: seconds; a round of the schedule, as what a reload leaves in the heap stays there
            until the next one.
    """
    if len(times) < _LEAST_BLOCKS:
        return None
    t, v = np.asarray(times, float), np.asarray(values, float)
    span = float(t[-1] - t[0])
    count = min(round(span / block), len(t))
    if count < _LEAST_BLOCKS:
        return None
    parts = np.array_split(np.arange(len(t)), count)
    x = np.array([np.mean(t[part]) for part in parts]) / 3600
    y = np.array([np.median(v[part]) for part in parts])
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    spread = _Z * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = int(max(np.floor((len(slopes) - spread) / 2), 0))
    high = int(min(np.ceil((len(slopes) + spread) / 2), len(slopes) - 1))
    slope = float(np.median(slopes))
    rest = v - slope * t / 3600
    scatter = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    return Trend(slope, float(slopes[low]), float(slopes[high]), slope * span / 3600, scatter)


_INFO_SECONDS = 1.0
"""An image is processed with the newest camera_info, which may be that of a later image."""


@dataclass(frozen=True)
class Accounts:
    """What became of every image."""

    sent: int  # images, malformed ones among them
    while_inactive: int  # sent while the node was not active, or not connected yet afterwards
    lost_in_transport: dict[str, int]  # never seen by an active node, by the fault under way
    received: int  # counted by the node, as processed
    processed: int
    causes: dict[str, int]  # of images that were received and have no result
    results: dict[str, int]  # topic -> what a healthy listener got of images that were processed
    missing: list[tuple[str, float]]  # and did not get: topic, monotonic seconds of the image
    without_calibration: int  # points not published for want of a calibrated camera_info
    unexplained: dict[str, int]  # what does not add up, by name; all 0 when all is accounted for

    @property
    def unexplained_drops(self) -> int:
        return sum(self.unexplained.values())


def images(sent: StampLog) -> dict[int, tuple[float, str]]:
    """Return stamp -> (monotonic seconds, fault under way) of the images that were sent."""
    return {
        stamp: (1e-9 * time, fault)
        for fault, stamps in sent.stamps.items()
        for stamp, time in zip(stamps, sent.times[fault], strict=True)
    }


def accounts(
    sent: StampLog,
    fates: Mapping[int, str],
    heard: StampLog,
    topics: Sequence[str],
    counters: Mapping[str, str],
    inactive: Sequence[tuple[float, float]],
) -> Accounts:
    """Account for every image.

    Args:
        sent: by fault under way.
        fates: stamp -> what became of the image, from the node's log.
        heard: results by topic, from a healthy listener.
        topics: of the results.
        counters: what /diagnostics said of the camera in the end, when nothing was under way.
        inactive: monotonic seconds between which the node was not active.
    """
    received, processed = int(counters["received"]), int(counters["processed"])
    causes = {
        name.partition(".")[2]: int(value)
        for name, value in counters.items()
        if name.startswith(("drops.", "skipped.", "bad.")) and int(value)
    }
    every = images(sent)
    lost: Counter[str] = Counter()
    idle = 0
    # no calibration: every image of this fault, and those just before it
    without_info = [(t - _INFO_SECONDS, t) for t, what in every.values() if what == "uncalibrated"]
    # activated, a node has forgotten camera_info, which may come after the first image
    without_info += [(end, end + _INFO_SECONDS) for _, end in inactive]
    for stamp, (moment, fault) in every.items():
        if stamp not in fates and _within(moment, inactive):
            idle += 1
        elif stamp not in fates:
            lost[fault] += 1
    done = {stamp for stamp, fate in fates.items() if fate == PROCESSED}
    results: dict[str, int] = {}
    missing: list[tuple[str, float]] = []
    without = twice = 0
    for topic in topics:
        came = heard.stamps.get(topic, ())
        results[topic] = len(done & set(came))
        twice += len(came) - len(every.keys() & set(came))
        for stamp in sorted(done - set(came)):
            moment, _ = every.get(stamp, (float("nan"), ""))
            if topic.endswith("/points") and _within(moment, without_info):
                without += 1
            else:
                missing.append((topic, moment))
    unexplained = {
        "received, neither processed nor counted by a cause": abs(
            received - processed - sum(causes.values())
        ),
        "received by the count, but not by the log, or the other way": abs(
            received - len(every.keys() & fates.keys())
        ),
        "processed, but a result did not arrive": len(missing),
        "results of images that were not sent, or given twice": twice,
    }
    return Accounts(
        len(every), idle, dict(lost), received, processed, causes, results, missing, without,
        unexplained,
    )  # fmt: skip


def _within(moment: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(start <= moment <= end for start, end in spans)


@dataclass
class FaultOutcome:
    """What came of a kind of fault."""

    fault: str  # its key in ``KINDS``
    name: str  # its text there
    tried: int = 0
    survived: int = 0  # times that every result came again afterwards
    lost: int = 0  # results that did not arrive meanwhile
    longest_recovery_seconds: float = 0.0  # from its end to the next result of every topic
    seen: list[str] = field(default_factory=list)  # what /diagnostics said most often
    failed: list[str] = field(default_factory=list)  # what did not go as it should


def fault_outcomes(
    faults: Sequence[Fault],
    origin: float,
    ended: float,
    heard: StampLog,
    topics: Sequence[str],
    said: Sequence[tuple[float, int, str]],
    refused: Mapping[Fault, str],
    missing: Sequence[tuple[str, float]] = (),
    patience: float = 15.0,
) -> list[FaultOutcome]:
    """Return what came of each kind of fault, in the order of ``KINDS``.

    Args:
        faults: those that were tried.
        origin, ended: monotonic seconds of their time 0, and of the last image.
        heard, topics: see ``accounts``.
        said: (monotonic seconds, level, text) of /diagnostics, when it changed.
        refused: faults of which something did not go as it should, and what.
        missing: results that did not arrive, see ``Accounts``.
        patience: seconds within which results must come again.
    """
    arrivals = [1e-9 * np.sort(np.array(heard.times.get(topic, ()), np.int64)) for topic in topics]
    found: dict[str, FaultOutcome] = {}
    seen: dict[str, Counter[str]] = {}
    for fault in faults:
        start, end = origin + fault.start, origin + fault.end
        # the first result of each topic from its end on
        firsts = [times[times >= end][:1].tolist() for times in arrivals]
        again = max(first[0] if first else float("inf") for first in firsts) - end
        if again > patience and ended < end + patience:
            continue  # the soak ended first
        row = found.setdefault(fault.name, FaultOutcome(fault.name, KINDS[fault.name].text))
        row.tried += 1
        row.survived += again <= patience and fault not in refused
        row.longest_recovery_seconds = max(row.longest_recovery_seconds, min(again, patience))
        if fault in refused:
            row.failed.append(refused[fault])
        row.lost += sum(start <= time <= end + _AGAIN_SECONDS for _, time in missing)
        seen.setdefault(fault.name, Counter()).update(
            {
                re.sub(r"\d+", "N", text)
                for time, level, text in said
                if level and start < time < end + _AGAIN_SECONDS
            }
        )
    for name, row in found.items():
        row.seen = [text for text, _ in seen[name].most_common(3)] or [KINDS[name].seen]
    return [found[name] for name in KINDS if name in found]
