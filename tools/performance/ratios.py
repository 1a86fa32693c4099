# SPDX-License-Identifier: Apache-2.0
"""The figures that sum up the benches, and what is wanted of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tools.performance.plot import MOST_LOSS


class _Ratio(NamedTuple):
    meaning: str
    wanted: str
    limit: float

    def verdict(self, value: Any) -> str:
        """Return "yes" or "no", or nothing where nothing was measured."""
        values = list(value.values()) if isinstance(value, dict) else [value]
        if not values or None in values:
            return ""
        if self.wanted == "at least":
            return "yes" if min(values) >= self.limit else "no"
        return "yes" if max(values) <= self.limit else "no"


_RATIOS = {
    "best_fp32_over_eager": _Ratio(
        "fastest fp32 engine over torch eager, model's input, two threads", "at least", 2.5
    ),
    "int8_over_best_fp32": _Ratio("int8 over the fastest fp32 engine, the same", "at least", 1.3),
    "int8_metric_loss_percent": _Ratio(
        "what int8 costs, relative, on frames it was not calibrated with", "at most", 1
    ),
    "node_over_engine_throughput": _Ratio(
        "node on one CPU over the engine alone on it, images a second", "at least", 0.9
    ),
    "p95_overhead_ms": _Ratio(
        "p95 from image to segmentation and depth at 10 Hz beyond the engine's own p95, ms",
        "at most",
        8,
    ),
    "multi_over_three_single_fps": _Ratio(
        "one node over three single-task nodes, frames a second", "at least", 2.3
    ),
    "multi_over_three_single_memory": _Ratio("the same, memory", "at most", 0.45),
    "lost_frames": _Ratio("results published by the node that did not arrive", "at most", 0),
}


def ratios(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that sum it up; None for those that were not measured."""
    found: dict[str, Any] = dict.fromkeys(_RATIOS)
    engine, compare = parts.get("engine", {"rows": ()}), parts.get("compare", {})
    usual = [
        (row["backend"] == "torch", row["precision"], row["ms_p50"])
        for row in engine["rows"]
        if "error" not in row
        and (row["batch"], row["threads"], row["size"]) == (1, 2, engine["input_size"])
    ]
    eager = min((ms for torch, _, ms in usual if torch), default=None)
    best = min((ms for torch, kind, ms in usual if kind == "fp32" and not torch), default=None)
    int8 = min((ms for _, kind, ms in usual if kind == "int8"), default=None)
    if eager and best:
        found["best_fp32_over_eager"] = eager / best
    if best and int8:
        found["int8_over_best_fp32"] = best / int8
    found["int8_metric_loss_percent"] = engine.get("int8_metric_loss_percent")
    loads = parts.get("node", {"rows": ()})["rows"]
    rate = [row for row in loads if row["case"]["name"] == "rate"]
    found["node_over_engine_throughput"] = max(
        (r["rate"] / r["engine"]["images_per_second"] for r in rate if r["loss"] > MOST_LOSS),
        default=None,
    )
    slow = [row for row in rate if row["rate_offered"] == 10.0 and row["latency_ms"]]
    if slow:
        found["p95_overhead_ms"] = statistics.median(
            row["latency_ms"]["p95"] - row["engine"]["ms_p95"] for row in slow
        )
    for name in ("multi_over_three_single_fps", "multi_over_three_single_memory"):
        found[name] = compare.get(name)
    lost: Counter[str] = Counter()
    for row in loads:
        lost[f"{row['case']['width']}x{row['case']['height']}"] += row["lost_out"]
    found["lost_frames"] = dict(lost) or None
    return found


def ratio_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a table: meaning, name, value, what is wanted, whether it is reached."""
    return [
        [
            _RATIOS[name].meaning,
            f"`{name}`",
            _said(value),
            f"{_RATIOS[name].wanted} {_RATIOS[name].limit:g}",
            _RATIOS[name].verdict(value),
        ]
        for name, value in values.items()
    ]


def _said(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
