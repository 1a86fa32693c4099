# SPDX-License-Identifier: Apache-2.0
"""The figures that sum up the benches, and what is wanted of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.performance.node_suite import MOST_LOSS

Row = Mapping[str, Any]


def ratios(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that sum it up; None for those that were not measured."""
    found: dict[str, Any] = {}
    rows = [row for row in parts.get("engine", {}).get("rows", ()) if "error" not in row]
    usual = [
        row
        for row in rows
        if row["batch"] == 1
        and row["size"] == parts["engine"]["input_size"]
        and row["threads"] == 2
    ]
    eager = _best(row for row in usual if row["backend"] == "torch")
    best = _best(r for r in usual if r["precision"] == "fp32" and r["backend"] != "torch")
    int8 = _best(row for row in usual if row["precision"] == "int8")
    found["best_fp32_over_eager"] = _ratio(eager, best)
    found["int8_over_best_fp32"] = _ratio(best, int8)
    found["int8_metric_loss_percent"] = parts.get("engine", {}).get("int8_metric_loss_percent")
    loads = parts.get("node", {}).get("rows", ())
    rate = [row for row in loads if row["case"]["name"] == "rate"]
    full = [row for row in rate if row["loss"] > MOST_LOSS]
    found["node_over_engine_throughput"] = max(
        (row["rate"] / row["engine"]["images_per_second"] for row in full), default=None
    )
    slow = [row for row in rate if row["rate_offered"] == 10.0 and row["latency_ms"]]
    found["p95_overhead_ms"] = (
        statistics.median(row["latency_ms"]["p95"] - row["engine"]["ms_p95"] for row in slow)
        if slow
        else None
    )
    compare = parts.get("compare", {})
    for name in ("multi_over_three_single_fps", "multi_over_three_single_memory"):
        found[name] = compare.get(name)
    lost: dict[str, int] = {}
    for row in loads:
        size = f"{row['case']['width']}x{row['case']['height']}"
        lost[size] = lost.get(size, 0) + row["lost_out"]
    found["lost_frames"] = lost or None
    return found


def _best(rows: Iterable[Row]) -> float | None:
    return min((row["ms_p50"] for row in rows), default=None)


def _ratio(slow: float | None, fast: float | None) -> float | None:
    return None if slow is None or fast is None else slow / fast


@dataclass(frozen=True)
class _Ratio:
    """What a ratio says, and what is wanted of it: at least so much, or at most."""

    meaning: str
    least: float | None = None
    most: float | None = None

    def wanted(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}"

    def verdict(self, value: Any) -> str:
        """Return "yes" or "no", or nothing where nothing was measured."""
        values = list(value.values()) if isinstance(value, dict) else [value]
        if not values or any(one is None for one in values):
            return ""
        if self.least is not None:
            return "yes" if min(values) >= self.least else "no"
        assert self.most is not None
        return "yes" if max(values) <= self.most else "no"


_RATIOS = {
    "best_fp32_over_eager": _Ratio(
        "fastest fp32 engine over torch eager, model's input, two threads", least=2.5
    ),
    "int8_over_best_fp32": _Ratio("int8 over the fastest fp32 engine, the same", least=1.3),
    "int8_metric_loss_percent": _Ratio(
        "what int8 costs, relative, on frames it was not calibrated with", most=1
    ),
    "node_over_engine_throughput": _Ratio(
        "node on one CPU over the engine alone on it, images a second", least=0.9
    ),
    "p95_overhead_ms": _Ratio(
        "p95 from image to segmentation and depth at 10 Hz beyond the engine's own p95, ms", most=8
    ),
    "multi_over_three_single_fps": _Ratio(
        "one node over three single-task nodes, frames a second", least=2.3
    ),
    "multi_over_three_single_memory": _Ratio("the same, memory", most=0.45),
    "lost_frames": _Ratio("results published by the node that did not arrive", most=0),
}


RATIO_HEADS = ("what", "in `ratios`", "value", "wanted", "reached")


def ratio_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """Return what a table says of ``ratios``: see ``RATIO_HEADS``."""
    rows = []
    for name, value in values.items():
        ratio = _RATIOS[name]
        verdict = ratio.verdict(value)
        rows.append([ratio.meaning, f"`{name}`", _said(value), ratio.wanted(), verdict])
    return rows


def _said(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
