# SPDX-License-Identifier: Apache-2.0
"""The deltas of a benchmark as a picture: one bar per method, for the mean and for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.table import (
    FIGURES,
    SINGLE_TASK,
    Spread,
)
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

Row = Mapping[str, Any]

_NAMES, _COLUMN, _GAP, _LINE, _MARGIN = 190, 180, 44, 26, 16
_TITLE, _HEADS, _AXIS = 30, 22, 26
_OURS_NAME = "ours"


def delta_plot(rows: Sequence[Row]) -> bytes | None:
    """Return a PNG of the deltas against single-task, one panel per protocol and labels.

    Bars are means over seeds, the thin lines on them one standard deviation. All bars of the
    picture have the same scale. None where there is no such delta.
    """
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["method"] != SINGLE_TASK and row[f"delta_vs_{SINGLE_TASK}_percent"] is not None:
            panels.setdefault((row["protocol"], row["manifest"]), []).append(row)
    if not panels:
        return None
    step, low, high = _range([value for panel in panels.values() for value in _values(panel)])
    width = 2 * _MARGIN + _NAMES + (1 + len(FIGURES)) * (_COLUMN + _GAP)
    heights = [_TITLE + _HEADS + _LINE * len(panel) + _AXIS for panel in panels.values()]
    canvas = ChartCanvas(width, sum(heights) + 2 * _MARGIN)
    top = _MARGIN
    for (name, panel), height in zip(panels.items(), heights, strict=True):
        title = f"{name[0]}, {name[1]}: change against single-task in %, right is better"
        canvas.write(title, _MARGIN, top + 18, INK, 0.52)
        for index, (head, spreads) in enumerate(_columns(panel)):
            left = _MARGIN + _NAMES + index * (_COLUMN + _GAP)
            _column(canvas, head, panel, spreads, left, top + _TITLE, (low, high, step))
        for line, row in enumerate(panel):
            y = top + _TITLE + _HEADS + _LINE * line + 18
            canvas.write(str(row["label"]), _MARGIN, y, INK, 0.46)
        top += height
    return canvas.png()


def _columns(panel: Sequence[Row]) -> list[tuple[str, list[Spread | None]]]:
    """Return head and values of every column."""
    by_task = [row[f"delta_by_task_vs_{SINGLE_TASK}_percent"] for row in panel]
    means = [row[f"delta_vs_{SINGLE_TASK}_percent"] for row in panel]
    return [
        ("mean of tasks", means),
        *((figure.task, [tasks[figure.task] for tasks in by_task]) for figure in FIGURES),
    ]


def _values(panel: Sequence[Row]) -> list[float]:
    """Return every end of a bar and of a spread."""
    found = []
    for _, spreads in _columns(panel):
        for spread in spreads:
            if spread is not None and spread["mean"] is not None:
                std = spread["std"] or 0.0
                found += [spread["mean"] - std, spread["mean"] + std]
    return found


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Return step, low and high of the axis, in whole steps around zero and all values."""
    low, high = min(0.0, *values), max(0.0, *values)
    span = max(high - low, 1e-6)
    step = tick_step(span, 4)
    return step, float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _column(
    canvas: ChartCanvas,
    head: str,
    panel: Sequence[Row],
    spreads: Sequence[Spread | None],
    left: int,
    top: int,
    axis: tuple[float, float, float],
) -> None:
    """Draw one column of bars with its axis, in place."""
    low, high, step = axis
    first = top + _HEADS
    bottom = first + _LINE * len(panel)

    def x(value: float) -> float:
        return left + _COLUMN * (value - low) / max(high - low, 1e-9)

    canvas.write(head, left, top + 14, SOFT, 0.44)
    for tick in np.arange(round(low / step), round(high / step) + 1) * step:
        zero = abs(tick) < step / 2
        canvas.rectangle(x(tick), top + _HEADS, 1, bottom - top - _HEADS, SOFT if zero else GRID)
        text = f"{tick:g}" if zero else f"{tick:+g}"
        canvas.write(text, x(tick), bottom + 15, SOFT, 0.38, centre=True)
    for line, (row, spread) in enumerate(zip(panel, spreads, strict=True)):
        if spread is None or spread["mean"] is None:
            continue
        y = first + _LINE * line
        colour = STRONG if row["method"] == _OURS_NAME else OTHER
        ends = sorted((x(0.0), x(spread["mean"])))
        canvas.rectangle(ends[0], y + 6, max(ends[1] - ends[0], 1), _LINE - 12, colour)
        if spread["std"]:
            ends = [x(spread["mean"] - spread["std"]), x(spread["mean"] + spread["std"])]
            canvas.rectangle(ends[0], y + _LINE / 2 - 0.5, ends[1] - ends[0], 1, INK)
            for end in ends:
                canvas.rectangle(end - 0.5, y + _LINE / 2 - 3, 1, 6, INK)
