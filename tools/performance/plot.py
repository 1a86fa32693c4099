# SPDX-License-Identifier: Apache-2.0
"""Cost against input size and against cameras, as a picture."""

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
from tools.performance.node_suite import MOST_LOSS

Row = Mapping[str, Any]
Series = tuple[str, Sequence[int], Sequence[tuple[float, float]]]

_PANEL, _HEIGHT, _LEFT, _GAP, _TOP, _BOTTOM = 340, 220, 56, 40, 56, 46


def cost_plot(rows: Sequence[Row]) -> bytes | None:
    """Return a PNG of the node's cost, None where neither sizes nor cameras were measured.

    Left: milliseconds of an image against the pixels of the network's input, of the engine alone
    and of the node (the time between two results when there is always an image waiting). Right:
    images a second of all cameras together against their number.
    """
    panels = [_sizes(rows), _cameras(rows)]
    shown = [panel for panel in panels if any(points for *_, points in panel[1])]
    if not shown:
        return None
    width = len(shown) * (_LEFT + _PANEL + _GAP)
    canvas = ChartCanvas(width, _TOP + _HEIGHT + _BOTTOM)
    for number, (title, series, unit) in enumerate(shown):
        _panel(canvas, number * (_LEFT + _PANEL + _GAP) + _LEFT, title, series, unit)
    return canvas.png()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares through points (x, y)."""
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def size_series(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Return "engine" and "node" -> (thousands of pixels, milliseconds) by input size, sorted."""
    found: dict[str, list[tuple[float, float]]] = {"engine": [], "node": []}
    for row in rows:
        if row["case"]["name"] != "input size" or row["loss"] <= MOST_LOSS:
            continue
        height, width = row["engine"]["size"]
        pixels = height * width / 1e3
        found["engine"].append((pixels, row["engine"]["ms_p50"]))
        found["node"].append((pixels, 1e3 / row["rate"]))
    return {name: sorted(points) for name, points in found.items()}


def camera_series(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Return "one at a time" and "in batches" -> (cameras, images a second), sorted."""
    found: dict[str, list[tuple[float, float]]] = {"one at a time": [], "in batches": []}
    for row in rows:
        case = row["case"]
        if case["name"] != "cameras" or row["loss"] <= MOST_LOSS:
            continue
        name = "one at a time" if case["max_batch"] == 1 else "in batches"
        found[name].append((case["cameras"], row["rate"]))
    return {name: sorted(points) for name, points in found.items()}


def _sizes(rows: Sequence[Row]) -> tuple[str, list[Series], str]:
    points = size_series(rows)
    series = [("engine alone", OTHER, points["engine"]), ("node", STRONG, points["node"])]
    return "ms per image", series, "thousand pixels of input"  # type: ignore[return-value]


def _cameras(rows: Sequence[Row]) -> tuple[str, list[Series], str]:
    points = camera_series(rows)
    series = [
        ("one at a time", STRONG, points["one at a time"]),
        ("in batches", OTHER, points["in batches"]),
    ]
    return "images a second, all cameras", series, "cameras"  # type: ignore[return-value]


def _panel(
    canvas: ChartCanvas, left: float, title: str, series: Sequence[Series], unit: str
) -> None:
    every = [point for *_, points in series for point in points]
    most_x, most_y = (max(point[axis] for point in every) * 1.05 for axis in (0, 1))

    def x(value: float) -> float:
        return left + _PANEL * value / most_x

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - value / most_y)

    canvas.write(title, left, 18, INK, 0.46)
    place = left
    for name, colour, points in series:
        if points:
            canvas.rectangle(place, 30, 12, 4, colour)
            canvas.write(name, place + 18, 36, SOFT, 0.38)
            place += 140
    for value in np.arange(0, most_y, tick_step(most_y, 5)):
        canvas.rectangle(left, y(value), _PANEL, 1, GRID)
        canvas.write(f"{value:g}", left - 26, y(value) + 4, SOFT, 0.36, centre=True)
    for value in np.arange(0, most_x, tick_step(most_x, 6)):
        canvas.write(f"{value:g}", x(value), _TOP + _HEIGHT + 16, SOFT, 0.36, centre=True)
    canvas.write(unit, left + _PANEL / 2, _TOP + _HEIGHT + 34, SOFT, 0.38, centre=True)
    canvas.rectangle(left, y(0), _PANEL, 1, SOFT)
    for _, colour, points in series:
        canvas.course([(x(a), y(b)) for a, b in points], colour)
