# SPDX-License-Identifier: Apache-2.0
"""The rows of a benchmark as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.table import (
    BASELINES,
    FIGURES,
    MULTI_TASK,
    Spread,
)

Row = Mapping[str, Any]

DELTA = (
    "delta = 100 x mean over the tasks of (+/-)(M - B) / B: how much better (positive) or worse a"
    " row M is than the baseline row B **with the same labels and the same seed**; the head of a"
    " column says which row B is. Values are means over seeds +/- one standard deviation of a"
    " sample; without +/- there is one seed and no spread is known."
)


def value_with_spread(value: Spread | None, decimals: int, signed: bool = False) -> str:
    """Return "mean +/- std", "-" without a value."""
    if value is None or value["mean"] is None:
        return "-"
    sign = "+" if signed else ""
    text = f"{value['mean']:{sign}.{decimals}f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.{decimals}f}"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


def baseline_label(name: str) -> str:
    """Return how tables write a baseline."""
    return name.replace("_", "-")


def main_table(rows: Sequence[Row]) -> str:
    """Return the figures and deltas of rows that share protocol, manifest and split."""
    heads = ["method", "seeds", *(figure.head for figure in FIGURES)]
    heads += [f"delta vs {baseline_label(name)}, %" for name in BASELINES]
    heads += ["parameters, M", "minutes"]
    lines = []
    for row in rows:
        cells = [row["label"], ", ".join(map(str, row["seeds"]))]
        cells += [value_with_spread(row[figure.key], figure.decimals) for figure in FIGURES]
        cells += [value_with_spread(row[f"delta_vs_{n}_percent"], 2, True) for n in BASELINES]
        cells += [f"{row['parameters_million']:.2f}", f"{row['train_minutes']:.1f}"]
        lines.append(cells)
    return table(heads, lines)


def task_table(rows: Sequence[Row]) -> str:
    """Return the deltas task by task, against each baseline."""
    heads, lines = ["method"], []
    for name in BASELINES:
        heads += [f"{figure.task} vs {baseline_label(name)}, %" for figure in FIGURES]
    for row in rows:
        cells = [row["label"]]
        for name in BASELINES:
            by_task = row[f"delta_by_task_vs_{name}_percent"]
            cells += [value_with_spread(by_task[figure.task], 2, True) for figure in FIGURES]
        lines.append(cells)
    return table(heads, lines)


def ablation_table(rows: Sequence[Row]) -> str:
    """Return figures, deltas by task and the affinity's entropy of ablation rows."""
    heads = ["row", *(figure.head for figure in FIGURES)]
    heads += [f"delta vs {baseline_label(name)}, %" for name in reversed(BASELINES)]
    heads += [f"{figure.task} vs {baseline_label(MULTI_TASK)}, %" for figure in FIGURES]
    heads += ["entropy of A, nats", "parameters, M", "minutes"]
    lines = []
    for row in rows:
        by_task = row[f"delta_by_task_vs_{MULTI_TASK}_percent"]
        cells = [row["label"]]
        cells += [value_with_spread(row[figure.key], figure.decimals) for figure in FIGURES]
        cells += [
            value_with_spread(row[f"delta_vs_{name}_percent"], 2, True)
            for name in reversed(BASELINES)
        ]
        cells += [value_with_spread(by_task[figure.task], 2, True) for figure in FIGURES]
        cells += [value_with_spread(row["affinity_entropy"], 3)]
        cells += [f"{row['parameters_million']:.2f}", f"{row['train_minutes']:.1f}"]
        lines.append(cells)
    return table(heads, lines)


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
    seeds = sorted({len(row["seeds"]) for row in several})
    counts = " or ".join(map(str, seeds))
    typical = math.sqrt(sum(s * s for s in stds) / len(stds))
    return (
        f"Noise: on the same frames the methods of the main table, with {counts} seeds each, have a"
        f" standard deviation of delta vs {baseline_label(MULTI_TASK)} between seeds of"
        f" {typical:.2f} points (root mean square over {len(stds)} methods; the largest is"
        f" {max(stds):.2f}). Differences of this size between rows of one seed mean nothing."
    )


def share_table(some: Sequence[Row], every: Sequence[Row]) -> str:
    """Return how much of the quality of the multi-task network with all labels (in ``every``) rows
    of fewer labels reach.

    Quality is the figure itself where more is better, its inverse where less is. "" without that
    network, or without figures of all tasks.
    """
    full = next((row for row in every if row["method"] == MULTI_TASK), None)
    lines = []
    for row in some if full is not None else ():
        shares = []
        for figure in FIGURES:
            a, b = _mean(row[figure.key]), _mean(full[figure.key])  # type: ignore[index]
            if a and b:
                shares.append(100 * (a / b if figure.sign > 0 else b / a))
        if len(shares) < len(FIGURES):
            continue
        mean = sum(shares) / len(shares)
        lines.append([row["label"], *(f"{share:.1f}" for share in shares), f"{mean:.1f}"])
    if not lines:
        return ""
    return table(["method", *(f"{figure.task}, %" for figure in FIGURES), "mean, %"], lines)


def _mean(value: Spread | None) -> float | None:
    return None if value is None else value["mean"]


def environment_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return on what the runs were made, one line for each kind of machine."""
    lines = []
    for result in results:
        on = result["gpu"] or result["processor"]
        line = f"{on}; torch {result['torch']}; {result['threads']} threads a run"
        if line not in lines:
            lines.append(line)
    return lines
