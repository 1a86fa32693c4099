# SPDX-License-Identifier: Apache-2.0
"""Cost against input size and against cameras, as a chart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Row = Mapping[str, Any]
Series = dict[str, list[tuple[float, float]]]

MOST_LOSS = 0.05
"""Share of images that a rate may lose to count as kept up with."""


def cost_plot(rows: Sequence[Row]) -> bytes | None:
    """Return a PNG of ``size_series`` and ``camera_series``, None where neither was measured."""
    panels = [
        ("ms per image", "thousand pixels of input", size_series(rows)),
        ("images a second, all cameras", "cameras", camera_series(rows)),
    ]
    shown = [panel for panel in panels if any(panel[2].values())]
    if not shown:
        return None
    figure = Figure(figsize=(4.4 * len(shown), 3.2), dpi=100, layout="constrained")
    for axes, (title, unit, series) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
    ):
        for name, points in series.items():
            if points:
                axes.plot(*np.array(points).T, marker="o", label=name)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlabel=unit, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return png(figure)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares through points (x, y)."""
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def size_series(rows: Sequence[Row]) -> Series:
    """Return "engine alone" and "node" -> (thousands of input pixels, ms per image), sorted.

    Of the node: the time between two results when there is always an image waiting.
    """
    found: Series = {"engine alone": [], "node": []}
    for row in rows:
        if row["case"]["name"] == "input size" and row["loss"] > MOST_LOSS:
            pixels = np.prod(row["engine"]["size"]) / 1e3
            found["engine alone"].append((pixels, row["engine"]["ms_p50"]))
            found["node"].append((pixels, 1e3 / row["rate"]))
    return {name: sorted(points) for name, points in found.items()}


def camera_series(rows: Sequence[Row]) -> Series:
    """Return "one at a time" and "in batches" -> (cameras, images a second of all), sorted."""
    found: Series = {"one at a time": [], "in batches": []}
    for row in rows:
        case = row["case"]
        if case["name"] == "cameras" and row["loss"] > MOST_LOSS:
            name = "one at a time" if case["max_batch"] == 1 else "in batches"
            found[name].append((case["cameras"], row["rate"]))
    return {name: sorted(points) for name, points in found.items()}


def png(figure: Figure) -> bytes:
    """Return a figure as a file; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
