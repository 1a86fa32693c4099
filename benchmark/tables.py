# SPDX-License-Identifier: Apache-2.0
"""The rows of a benchmark as Markdown, and their deltas as a chart."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

from benchmark.rows import BASELINES, FIGURES, MULTI_TASK, SINGLE_TASK, Result, Row, Spread

DELTA = (
    "delta = 100 x mean over the tasks of (+/-)(M - B) / B: how much better (positive) or worse a"
    " row M is than the baseline row B **with the same labels and the same seed**; the head of a"
    " column says which row B is. Values are means over seeds +/- one standard deviation of a"
    " sample; without +/- there is one seed and no spread is known."
)

Column = tuple[str, Callable[[Row], str]]
"""Head, and the text of a row's cell."""


def value_with_spread(value: Spread | None, decimals: int, signed: bool = False) -> str:
    """Return "mean ± std", "-" without a value."""
    if value is None or value["mean"] is None:
        return "-"
    text = f"{value['mean']:{'+' if signed else ''}.{decimals}f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.{decimals}f}"


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    heads = [head for head, _ in columns]
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [heads, rule, *([cell(row) for _, cell in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(baseline: str) -> str:
    return baseline.replace("_", "-")


def _label(head: str) -> Column:
    return head, lambda row: row["label"]


_VALUES: list[Column] = [
    (f.head, lambda row, f=f: value_with_spread(row[f.key], f.decimals))  # type: ignore[misc]
    for f in FIGURES
]
_COST: list[Column] = [
    ("parameters, M", lambda row: f"{row['parameters_million']:.2f}"),
    ("minutes", lambda row: f"{row['train_minutes']:.1f}"),
]
_ENTROPY: Column = (
    "entropy of A, nats",
    lambda row: value_with_spread(row["affinity_entropy"], 3),
)


def _delta(baseline: str) -> Column:
    key = f"delta_vs_{baseline}_percent"
    head = f"delta vs {_name(baseline)}, %"
    return head, lambda row: value_with_spread(row[key], 2, True)


def _by_task(baseline: str) -> list[Column]:
    key = f"delta_by_task_vs_{baseline}_percent"
    return [
        (
            f"{f.task} vs {_name(baseline)}, %",
            lambda row, f=f: value_with_spread(row[key][f.task], 2, True),  # type: ignore[misc]
        )
        for f in FIGURES
    ]


def main_table(rows: Sequence[Row]) -> str:
    """Return the figures and deltas of rows that share protocol, manifest and split."""
    seeds: Column = ("seeds", lambda row: ", ".join(map(str, row["seeds"])))
    return table([_label("method"), seeds, *_VALUES, *map(_delta, BASELINES), *_COST], rows)


def task_table(rows: Sequence[Row]) -> str:
    return table([_label("method"), *(c for name in BASELINES for c in _by_task(name))], rows)


def ablation_table(rows: Sequence[Row]) -> str:
    deltas = [*map(_delta, reversed(BASELINES)), *_by_task(MULTI_TASK)]
    return table([_label("row"), *_VALUES, *deltas, _ENTROPY, *_COST], rows)


def noise_line(rows: Sequence[Row]) -> str:
    """Return what is known of the noise of deltas, from rows with several seeds."""
    several = [row for row in rows if len(row["seeds"]) > 1 and row["method"] != MULTI_TASK]
    spreads = [row[f"delta_vs_{MULTI_TASK}_percent"] for row in several]
    stds = [s["std"] for s in spreads if s is not None and s["std"] is not None]
    if not stds:
        return (
            "How much such a delta varies from seed to seed is not known yet: no method of the main"
            " table has figures of two seeds."
        )
    counts = " or ".join(map(str, sorted({len(row["seeds"]) for row in several})))
    typical = math.sqrt(sum(s * s for s in stds) / len(stds))
    return (
        f"Noise: on the same frames the methods of the main table, with {counts} seeds each, have a"
        f" standard deviation of delta vs {_name(MULTI_TASK)} between seeds of"
        f" {typical:.2f} points (root mean square over {len(stds)} methods; the largest is"
        f" {max(stds):.2f}). Differences of this size between rows of one seed mean nothing."
    )


def share_table(some: Sequence[Row], every: Sequence[Row]) -> str:
    """Return how much of the quality of the multi-task network with all labels (in ``every``) rows
    of fewer labels reach; "" without it.

    Quality is the figure itself where more is better, its inverse where less is."""
    full = next((row for row in every if row["method"] == MULTI_TASK), None)
    kept = []
    for row in some if full is not None else ():
        pairs = [((row[f.key] or {}).get("mean"), (full[f.key] or {}).get("mean")) for f in FIGURES]  # type: ignore[index]
        if all(a and b for a, b in pairs):
            shares = [100 * (a / b if f.sign > 0 else b / a) for f, (a, b) in zip(FIGURES, pairs)]
            kept.append({**row, "shares": [*shares, sum(shares) / len(shares)]})
    heads = [*(f"{f.task}, %" for f in FIGURES), "mean, %"]
    columns: list[Column] = [
        (head, lambda row, i=i: f"{row['shares'][i]:.1f}")  # type: ignore[misc]
        for i, head in enumerate(heads)
    ]
    return table([_label("method"), *columns], kept) if kept else ""


def environment_lines(results: Sequence[Result]) -> list[str]:
    """Return on what the runs were made, one line for each kind of machine."""
    lines = (
        f"{r['gpu'] or r['processor']}; torch {r['torch']}; {r['threads']} threads a run"
        for r in results
    )
    return list(dict.fromkeys(lines))


OURS, OTHER = "#0b7a75", "#9aa5b1"


def delta_chart(rows: Sequence[Row]) -> bytes | None:
    """Return a PNG of the deltas against single-task, one line of panels per protocol and labels.

    Bars are means over seeds, the lines on them one standard deviation. All panels have the same
    scale. None where there is no such delta.
    """
    from matplotlib.figure import Figure as Chart

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
