# SPDX-License-Identifier: Apache-2.0
"""Small charts as inline SVG; their colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 560, 150
_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 24, 8, 8


def histogram(counts: Sequence[int], edges: Sequence[float], unit: str, label: str) -> str:
    """Return a bar chart of how often values fall between edges; "" without values."""
    if not counts:
        return ""
    plot_width, plot_height = _plot_size()
    step = plot_width / len(counts)
    highest = max(counts) or 1
    bars = []
    for index, count in enumerate(counts):
        height = plot_height * count / highest
        x, y = _LEFT + index * step, _TOP + plot_height - height
        title = f"{edges[index]:.4g} to {edges[index + 1]:.4g} {unit}: {count}"
        bars.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{max(step - 1.5, 1):.1f}" '
            f'height="{height:.1f}"><title>{escape(title)}</title></rect>'
        )
    return _frame("".join(bars), edges[0], edges[-1], 0, highest, unit, label)


def course(x: Sequence[float], y: Sequence[float], unit: str, label: str) -> str:
    """Return a line chart from zero upwards; "" for fewer than two points."""
    if len(x) < 2:
        return ""
    plot_width, plot_height = _plot_size()
    highest = max(max(y), 1e-9) * 1.05
    span = (max(x) - min(x)) or 1.0
    points = " ".join(
        f"{_LEFT + plot_width * (a - min(x)) / span:.1f},"
        f"{_TOP + plot_height * (1 - b / highest):.1f}"
        for a, b in zip(x, y)
    )
    line = f'<polyline class="line" points="{points}"/>'
    return _frame(line, min(x), max(x), 0.0, highest, unit, label)


def _plot_size() -> tuple[float, float]:
    return _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM


def _frame(
    content: str, left: float, right: float, low: float, high: float, unit: str, label: str
) -> str:
    """Put axes with three ticks each around the content."""
    plot_width, plot_height = _plot_size()
    marks = []
    for part in (0.0, 0.5, 1.0):
        x = _LEFT + part * plot_width
        anchor = ("start", "middle", "end")[round(part * 2)]
        text = f"{_number(left + part * (right - left))} {unit}"
        marks.append(f'<text x="{x:.0f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{text}</text>')
        y = _TOP + (1 - part) * plot_height
        marks.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_number(low + part * (high - low))}</text>"
        )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(marks)}{content}</svg>'
    )


def _number(value: float) -> str:
    if value == 0:
        return "0"
    decimals = int(np.clip(2 - np.floor(np.log10(abs(value))), 0, 3))
    return f"{value:.{decimals}f}"


def shares(parts: Sequence[tuple[str, int, str]]) -> str:
    """Return a stacked bar: (name, count, CSS class) of each part; parts of 0 are left out."""
    total = sum(count for _, count, _ in parts) or 1
    segments = "".join(
        f'<span class="{kind}" style="flex:{count}" title="{escape(name)}: {count}">'
        f"{escape(name) + ' ' + str(count) if count / total > 0.12 else ''}</span>"
        for name, count, kind in parts
        if count
    )
    return f'<div class="shares">{segments}</div>'
