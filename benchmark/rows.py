# SPDX-License-Identifier: Apache-2.0
"""From the result files of benchmark runs to the rows of its tables.

    delta = 100 * mean over tasks of s * (M - B) / B,    s = 1 where more is better, else -1

M is the row, B the baseline row with the same labels and the same seed (the mean signed relative
change of Maninis, Radosavovic, Kokkinos: "Attentive Single-Tasking of Multiple Tasks", CVPR 2019).
Means and standard deviations (of a sample: n - 1) are over seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_json
from proto_mtl_ros.tasks import named_task


class Figure(NamedTuple):
    """The figure that stands for a task: where it is in a result, its name in rows and tables."""

    task: str
    metric: str
    key: str
    head: str
    decimals: int

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if named_task(self.task).higher_is_better else -1


FIGURES = (
    Figure("segmentation", "miou", "segmentation_miou", "mIoU (up)", 4),
    Figure("depth", "abs_err", "depth_abs_err", "depth abs error, m (down)", 4),
    Figure("normals", "mean_deg", "normals_mean_deg", "normals mean, deg (down)", 2),
)

SINGLE_TASK, MULTI_TASK = "single_task", "multi_task"
BASELINES = (SINGLE_TASK, MULTI_TASK)
"""Methods that deltas are taken against."""

VAL, HELD_OUT = "val", "held_out"

_DIGITS = 6
"""Decimals in rows; more would differ from machine to machine."""

Result = Mapping[str, Any]
"""The content of a result file."""

Row = dict[str, Any]
Spread = dict[str, float | None]
"""``mean`` and ``std``; the latter is None for a single seed."""


class SeedFigures(NamedTuple):
    """What a method reached with one seed; of a network per task all together.

    ``parameters`` and ``minutes`` are sums over the networks, ``entropy`` is the affinity's in
    nats."""

    values: dict[str, float]
    parameters: float
    minutes: float
    entropy: float | None


def read_results(folder: Path) -> list[Result]:
    """Return the content of every result file below ``folder``, in the order of their paths."""
    results = []
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("."):
            continue  # is being written
        try:
            content = read_json(path, DataError)
            content["figures"], content["method"], content["seed"]
        except (DataError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is no result of a benchmark ({one_line(error)}); delete it"
            ) from None
        results.append(content)
    return results


def relative_changes(
    values: Mapping[str, float], baseline: Mapping[str, float]
) -> dict[str, float]:
    """Return s * (M - B) / B in per cent for every task, positive where ``values`` are better."""
    return {
        f.task: 100.0 * f.sign * (values[f.task] - baseline[f.task]) / baseline[f.task]
        for f in FIGURES
        if f.task in values and baseline.get(f.task)
    }


def by_seed(results: Iterable[Result], split: str, tasks: Sequence[str]) -> dict[int, SeedFigures]:
    """Join the runs of one method: seed to figures; a seed that lacks a task is left out."""
    joined: dict[int, list[Result]] = {}
    for result in results:
        joined.setdefault(int(result["seed"]), []).append(result)
    seeds = {}
    for seed, runs in sorted(joined.items()):
        values = {}
        for figure in FIGURES:
            for run in runs:
                value = run["figures"].get(split, {}).get(figure.task, {}).get(figure.metric)
                if value is not None:
                    values[figure.task] = float(value)
        if set(tasks) <= set(values):
            entropies = [r["affinity_entropy"] for r in runs if r["affinity_entropy"] is not None]
            seeds[seed] = SeedFigures(
                values,
                sum(run["parameters"] for run in runs),
                sum(run["train_minutes"] for run in runs),
                statistics.fmean(entropies) if entropies else None,
            )
    return seeds


def spread(values: Iterable[float]) -> Spread | None:
    """Return mean and standard deviation, None without a value."""
    values = list(values)
    if not values:
        return None
    std = round(statistics.stdev(values), _DIGITS) if len(values) > 1 else None
    return {"mean": round(statistics.fmean(values), _DIGITS), "std": std}


def _row(
    identity: Mapping[str, Any],
    seeds: Mapping[int, SeedFigures],
    baselines: Mapping[str, Mapping[int, SeedFigures]],
    tasks: Sequence[str],
) -> Row:
    found: Row = {**identity, "seeds": list(seeds)}
    for f in FIGURES:
        found[f.key] = spread(s.values[f.task] for s in seeds.values() if f.task in s.values)
    for name in BASELINES:
        against = baselines.get(name, {})
        changes = [
            relative_changes(figures.values, against[seed].values)
            for seed, figures in seeds.items()
            if seed in against
        ]
        # a mean over some of the tasks would pass for one over all
        whole = [statistics.fmean(c.values()) for c in changes if len(c) == len(tasks)]
        found[f"delta_vs_{name}_percent"] = spread(whole)
        found[f"delta_by_task_vs_{name}_percent"] = {
            f.task: spread(change[f.task] for change in changes if f.task in change)
            for f in FIGURES
        }
    found["affinity_entropy"] = spread(s.entropy for s in seeds.values() if s.entropy is not None)
    first = next(iter(seeds.values()))
    found["parameters_million"] = round(first.parameters / 1e6, 3)
    found["train_minutes"] = round(statistics.fmean(s.minutes for s in seeds.values()), 2)
    return found


def rows_of(
    identity: Mapping[str, Any],
    methods: Mapping[str, tuple[str, Sequence[Result]]],
    baselines: Mapping[str, Sequence[Result]],
    split: str,
    tasks: Sequence[str],
) -> list[Row]:
    """Return the rows of one table; a method without a finished seed of all ``tasks`` has none.

    ``identity`` is protocol and manifest; ``methods`` are name to label and results."""
    against = {name: by_seed(results, split, tasks) for name, results in baselines.items()}
    rows = []
    for method, (label, results) in methods.items():
        seeds = by_seed(results, split, tasks)
        if seeds:
            named = {**identity, "method": method, "label": label, "split": split}
            rows.append(_row(named, seeds, against, tasks))
    return rows
