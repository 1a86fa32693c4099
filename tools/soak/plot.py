# SPDX-License-Identifier: Apache-2.0
"""A soak along its time: memory, rates, latency, and the faults below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proto_mtl_ros.drawing.chart_canvas import (
    GRID,
    OTHER,
    SOFT,
    STRONG,
    ChartCanvas,
)
from proto_mtl_ros.drawing.legend import (
    INK,
    tick_step,
)
from tools.soak.schedule import KINDS

_LEFT, _WIDTH, _RIGHT = 130, 820, 20
_PANEL, _HEAD, _GAP, _LANE, _FOOT = 110, 26, 16, 15, 44
_BAND = (255, 236, 214)
_FAULT = (214, 112, 36)

Lines = Sequence[tuple[str, Sequence[int], str]]
_PANELS: tuple[tuple[str, Lines], ...] = (
    (
        "memory of the node, MiB",
        (("resident", OTHER, "rss_mib"), ("proportional", STRONG, "pss_mib")),
    ),
    ("images a second", (("in", OTHER, "rate_in_hz"), ("out", STRONG, "rate_out_hz"))),
    (
        "latency in the node, ms",
        (("p95", OTHER, "latency_ms.total.p95"), ("p50", STRONG, "latency_ms.total.p50")),
    ),
    ("threads and open files", (("files", OTHER, "fds"), ("threads", STRONG, "threads"))),
)


def soak_plot(figures: Mapping[str, Any]) -> bytes:
    """Return a PNG of a soak's figures."""
    series = figures["series"]
    minutes = np.array(series["t"], float) / 60
    names = [name for name in KINDS if any(f["name"] == name for f in figures["schedule"])]
    panel = _HEAD + _PANEL + _GAP
    lanes = len(_PANELS) * panel + _HEAD
    canvas = ChartCanvas(_LEFT + _WIDTH + _RIGHT, lanes + _LANE * len(names) + _FOOT)
    most = max(float(minutes[-1]), 1e-3)

    def x(value: float) -> float:
        return _LEFT + _WIDTH * min(max(value / most, 0.0), 1.0)

    for number, (title, lines) in enumerate(_PANELS):
        _panel(canvas, number * panel, title, lines, series, minutes, x, figures["warm_up_minutes"])
    canvas.write("faults", _LEFT, lanes - 10, INK, 0.42)
    for number, name in enumerate(names):
        top = lanes + number * _LANE
        canvas.write(name.replace("_", " "), 6, top + 10, SOFT, 0.34)
        canvas.rectangle(_LEFT, top + _LANE / 2, _WIDTH, 1, GRID)
        for fault in figures["schedule"]:
            if fault["name"] == name:
                start = x(fault["start"] / 60)
                width = max(x((fault["start"] + fault["seconds"]) / 60) - start, 2)
                canvas.rectangle(start, top + 2, width, _LANE - 4, _FAULT)
    bottom = lanes + _LANE * len(names)
    for value in np.arange(0, most + 1e-9, tick_step(most, 10)):
        canvas.write(f"{value:g}", x(value), bottom + 14, SOFT, 0.36, centre=True)
    canvas.write("minutes", _LEFT + _WIDTH / 2, bottom + 32, SOFT, 0.38, centre=True)
    return canvas.png()


def _panel(
    canvas: ChartCanvas,
    top: float,
    title: str,
    lines: Lines,
    series: Mapping[str, Sequence[float | None]],
    minutes: np.ndarray,
    x: Any,
    warm_up: float,
) -> None:
    values = [np.array(series.get(key, []), float) for _, _, key in lines]  # None becomes NaN
    every = np.concatenate(values)
    most = float(np.nanmax(every)) * 1.1 if np.isfinite(every).any() else 1.0
    top += _HEAD

    def y(value: float) -> float:
        return top + _PANEL * (1 - value / most)

    canvas.rectangle(x(0), top, x(warm_up) - x(0), _PANEL, _BAND)
    canvas.write(title, _LEFT, top - 8, INK, 0.42)
    place = _LEFT + 260.0
    for name, colour, _ in lines:
        canvas.rectangle(place, top - 14, 12, 4, colour)
        canvas.write(name, place + 18, top - 8, SOFT, 0.36)
        place += 120
    canvas.rectangle(place, top - 17, 12, 10, _BAND)
    canvas.write("warm-up", place + 18, top - 8, SOFT, 0.36)
    for value in np.arange(0, most, tick_step(most, 4)):
        canvas.rectangle(_LEFT, y(value), _WIDTH, 1, GRID)
        canvas.write(f"{value:g}", _LEFT - 26, y(value) + 4, SOFT, 0.36, centre=True)
    for (_, colour, _), drawn in zip(lines, values, strict=True):
        known = np.isfinite(drawn)
        canvas.line(
            [(x(a), y(b)) for a, b in zip(minutes[: len(drawn)][known], drawn[known])], colour
        )
