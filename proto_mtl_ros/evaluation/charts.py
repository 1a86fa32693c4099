# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a small chart lie; the template ``macros.html`` draws it as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from proto_mtl_ros.drawing.legend import tick_step

WIDTH, HEIGHT = 480.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 8.0, 38.0
"""Of the drawing, and of what lies around the axes; the template uses the same units."""


@dataclass(frozen=True)
class Chart:
    """A chart in SVG units: title and label name the units of y and x, ticks are place and text.

    ``line`` has the points of a polyline, ``bars`` (left, top, width, height, text) of a histogram.
    """

    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    line: str = ""
    bars: list[tuple[float, float, float, float, str]] = field(default_factory=list)


def time_series(
    points: Sequence[tuple[float, float | None]], title: str, x_label: str = "time in s"
) -> Chart | None:
    """Return values as a line from zero upwards; None for fewer than two values."""
    known = [(x, y) for x, y in points if y is not None]
    if len(known) < 2:
        return None
    x, y = _Axis.over(min(x for x, _ in known), max(x for x, _ in known)), _Axis.upwards(known)
    line = " ".join(f"{x.place(a, across=True):.1f},{y.place(b):.1f}" for a, b in known)
    return Chart(title, x_label, x.ticks(across=True), y.ticks(), line)


def histogram(
    counts: Sequence[float], edges: Sequence[float], title: str, x_label: str
) -> Chart | None:
    """Return how often values fall between edges; None without values."""
    if not counts:
        return None
    x, y = _Axis.over(edges[0], edges[-1]), _Axis.upwards(list(enumerate(counts)))
    bars = []
    for count, left, right in zip(counts, edges, edges[1:]):
        start, end = x.place(left, across=True), x.place(right, across=True)
        top, bottom = y.place(count), y.place(0)
        text = f"{left:.4g} to {right:.4g}: {count:g}"
        bars.append((start, top, max(end - start - 1.5, 1), bottom - top, text))
    return Chart(title, x_label, x.ticks(across=True), y.ticks(), bars=bars)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    step: float

    @classmethod
    def over(cls, low: float, high: float) -> _Axis:
        high = high if high > low else low + 1
        return cls(low, high, tick_step(high - low, 6))

    @classmethod
    def upwards(cls, points: Sequence[tuple[float, float]]) -> _Axis:
        """Return an axis from zero to the tick above the highest value."""
        most = max(max(y for _, y in points), 1e-9)
        step = tick_step(most, 4)
        return cls(0.0, step * math.ceil(most / step - 1e-6), step)

    def place(self, value: float, across: bool = False) -> float:
        part = (value - self.low) / (self.high - self.low)
        if across:
            return LEFT + part * (WIDTH - LEFT - RIGHT)
        return TOP + (1 - part) * (HEIGHT - TOP - BOTTOM)

    def ticks(self, across: bool = False) -> list[tuple[float, str]]:
        first = math.ceil(self.low / self.step - 1e-6)
        last = math.floor(self.high / self.step + 1e-6)
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-6))
        values = [number * self.step for number in range(first, last + 1)]
        return [(self.place(value, across), f"{value:.{decimals}f}") for value in values]
