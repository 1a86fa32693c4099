# SPDX-License-Identifier: Apache-2.0
"""A soak along its time: memory, rates, latency, and the faults below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tools.performance.plot import png
from tools.soak.schedule import KINDS

_PANELS = {
    "memory of the node, MiB": {"resident": "rss_mib", "proportional": "pss_mib"},
    "images a second": {"in": "rate_in_hz", "out": "rate_out_hz"},
    "latency in the node, ms": {"p95": "latency_ms.total.p95", "p50": "latency_ms.total.p50"},
    "threads and open files": {"files": "fds", "threads": "threads"},
}


def soak_plot(figures: Mapping[str, Any]) -> bytes:
    """Return a PNG of a soak's figures."""
    series, schedule = figures["series"], figures["schedule"]
    minutes = np.array(series["t"], float) / 60
    names = [name for name in KINDS if any(fault["name"] == name for fault in schedule)]
    figure = Figure(figsize=(9.7, 7 + 0.15 * len(names)), dpi=100, layout="constrained")
    heights = [1.1] * len(_PANELS) + [0.15 * max(len(names), 1)]
    *panels, lanes = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    for axes, (title, lines) in zip(panels, _PANELS.items(), strict=True):
        axes.axvspan(0, figures["warm_up_minutes"], color="#ffecd6", label="warm-up")
        for name, key in lines.items():
            values = np.array(series.get(key, []), float)  # None becomes NaN
            axes.plot(minutes[: len(values)], values, label=name, linewidth=1)
        axes.set_title(title, loc="left", fontsize=9)
        axes.legend(fontsize=7, loc="upper right", ncols=3)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    for row, name in enumerate(names):
        spans = [(f["start"] / 60, f["seconds"] / 60) for f in schedule if f["name"] == name]
        lanes.broken_barh(spans, (row - 0.35, 0.7), color="#d67024")
    lanes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    lanes.invert_yaxis()
    lanes.set_xlabel("minutes")
    return png(figure)
