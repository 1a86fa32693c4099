# SPDX-License-Identifier: Apache-2.0
"""The deltas of a benchmark as a chart: a bar per method, for the mean and for every task."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure as Chart

from benchmark.rows import FIGURES, SINGLE_TASK, Row

OURS, OTHER = "#0b7a75", "#9aa5b1"


def delta_chart(rows: Sequence[Row]) -> bytes | None:
    """Return a PNG of the deltas against single-task, one line of panels per protocol and labels.

    Bars are means over seeds, the lines on them one standard deviation. All panels have the same
    scale. None where there is no such delta.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["method"] != SINGLE_TASK and row[f"delta_vs_{SINGLE_TASK}_percent"] is not None:
            groups.setdefault(f"{row['protocol']}, {row['manifest']}", []).append(row)
    if not groups:
        return None
    heights = [1 + 0.3 * len(group) for group in groups.values()]
    chart = Chart(figsize=(10, sum(heights)), layout="constrained")
    axes = chart.subplots(
        len(groups), 1 + len(FIGURES), sharex=True, squeeze=False, height_ratios=heights
    )
    for line, (name, group) in zip(axes, groups.items(), strict=True):
        by_task = [row[f"delta_by_task_vs_{SINGLE_TASK}_percent"] for row in group]
        columns = [("mean of tasks", [row[f"delta_vs_{SINGLE_TASK}_percent"] for row in group])]
        columns += [(f.task, [tasks[f.task] for tasks in by_task]) for f in FIGURES]
        for panel, (head, spreads) in zip(line, columns, strict=True):
            panel.barh(
                [row["label"] for row in group],
                [spread["mean"] if spread else 0.0 for spread in spreads],
                xerr=[(spread and spread["std"]) or 0.0 for spread in spreads],
                color=[OURS if row["method"] == "ours" else OTHER for row in group],
            )
            panel.invert_yaxis()
            panel.axvline(0, color="black", linewidth=0.8)
            panel.set_title(head, fontsize=10)
            panel.label_outer()
        line[0].set_ylabel(name)
    chart.suptitle("change against single-task in %, right is better", fontsize=11)
    content = io.BytesIO()
    chart.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return content.getvalue()
