# SPDX-License-Identifier: Apache-2.0
"""Metrics as Markdown."""

from __future__ import annotations

import math

from proto_mtl_ros.evaluation.dataset import Evaluation


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def _table(heads: list[str], cells: list[str]) -> str:
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, cells))


def markdown(result: Evaluation, title: str) -> str:
    """Return a table per task and one with the IoU of every class."""
    parts = [f"{title}: {result.frames} frames"]
    for task, figures in result.metrics.items():
        heads = [f"{task} {name}" for name in figures]
        parts.append(_table(heads, [_figure(value) for value in figures.values()]))
    if result.per_class:
        parts.append(
            _table([*result.per_class], [_figure(value) for value in result.per_class.values()])
        )
    return "\n\n".join(parts)
