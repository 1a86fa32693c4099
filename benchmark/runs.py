# SPDX-License-Identifier: Apache-2.0
"""The training runs that a protocol asks for, in the order in which they are worth having."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmark.protocol import MethodConfig, Protocol, merged
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.config import TrainConfig

ALL = "all"
"""Stands for the task in the name of a run that trains every task."""

ABLATION = "ablation"
"""Folder of the runs of the ablation table, beside those of the main table."""


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        protocol, manifest, method, seed: where its figures belong.
        task: the only task that is trained, or ``ALL``.
        ablation: whether it belongs to the ablation table; then the test split stays unseen.
        settings: the training configuration, without teachers.
        teachers: task to the run whose network teaches it.
    """

    protocol: str
    manifest: str
    method: str
    task: str
    seed: int
    ablation: bool
    settings: Mapping[str, Any] = field(hash=False, compare=False)
    teachers: Mapping[str, Run] = field(hash=False, compare=False, default_factory=dict)

    @property
    def row(self) -> str:
        """Manifest and method, as ``--only`` takes them."""
        return "/".join([self.manifest, *([ABLATION] if self.ablation else []), self.method])

    @property
    def key(self) -> str:
        """Path of this run below the protocol's folder, without an ending."""
        return f"{self.row}-{self.task}-seed{self.seed}"

    def result(self, results: Path) -> Path:
        """Return the file of its figures."""
        return results / self.protocol / f"{self.key}.json"

    def folder(self, work: Path) -> Path:
        """Return the folder of its checkpoint and log."""
        return work / self.protocol / self.key

    def config(self, teachers: Mapping[str, Path] | None = None) -> TrainConfig:
        """Return the training configuration, with the checkpoints of the teachers if given."""
        paths = {task: str(path) for task, path in (teachers or {}).items()}
        settings = merged(self.settings, {"distillation": {"teachers": paths}} if paths else {})
        return TrainConfig.model_validate(settings)


def runs_of(protocol: Protocol) -> list[Run]:
    """Return every run: manifest by manifest, seed by seed, method by method, then ablations.

    Teachers stand before what they teach. A run that two rows share is there once.
    """
    runs: dict[str, Run] = {}
    for name, manifest in protocol.manifests.items():
        for seed in manifest.seeds or protocol.seeds:
            for method in protocol.methods:
                if manifest.methods is None or method in manifest.methods:
                    _add(runs, _method_runs(protocol, name, method, seed))
    if protocol.ablations is not None:
        ablations = protocol.ablations
        for seed in ablations.seeds:
            for name, row in ablations.rows.items():
                if row.is_alias:
                    found = _method_runs(protocol, ablations.manifest, str(row.like), seed)
                else:
                    found = _runs(protocol, ablations.manifest, name, row, seed, ablation=True)
                _add(runs, found)
    return list(runs.values())


def _add(runs: dict[str, Run], found: Sequence[Run]) -> None:
    for run in found:
        for teacher in run.teachers.values():
            runs.setdefault(teacher.key, teacher)
        runs.setdefault(run.key, run)


def _method_runs(protocol: Protocol, manifest: str, method: str, seed: int) -> list[Run]:
    return _runs(protocol, manifest, method, protocol.methods[method], seed, ablation=False)


def _runs(
    protocol: Protocol, manifest: str, name: str, row: MethodConfig, seed: int, ablation: bool
) -> list[Run]:
    """Return the run of a row, or its run for every task."""
    resolved = protocol.resolved(row)
    settings = merged(protocol.base, resolved.overrides)
    labels = {"manifest": protocol.manifests[manifest].labels}
    settings = merged(settings, {"seed": seed, "data": labels, "name": f"{protocol.name}-{name}"})
    tasks = TrainConfig.model_validate(settings).tasks
    teachers = {}
    if resolved.teachers is not None:
        for teacher in _method_runs(protocol, manifest, resolved.teachers, seed):
            teachers[teacher.task] = teacher
    identity = (protocol.name, manifest, name)
    if not resolved.per_task:
        return [Run(*identity, ALL, seed, ablation, settings, teachers)]
    return [
        Run(*identity, task, seed, ablation, merged(settings, {"tasks": [task]}), teachers)
        for task in tasks
    ]


def chosen(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """Return the runs that a pattern names, and the teachers that they need.

    Args:
        runs: in their order, which is kept.
        only: patterns of rows (``one_label/ours``, ``*/ablation/*``) or of single runs
            (``one_label/ours-all-seed0``); empty for everything.

    Raises:
        ConfigError: a pattern names nothing.
    """
    if not only:
        return list(runs)
    kept: set[str] = set()
    for pattern in only:
        found = [r for r in runs if fnmatchcase(r.row, pattern) or fnmatchcase(r.key, pattern)]
        if not found:
            rows = ", ".join(dict.fromkeys(run.row for run in runs))
            raise ConfigError(f"--only {pattern} names no run; there are {rows}")
        for run in found:
            kept |= {run.key, *(teacher.key for teacher in run.teachers.values())}
    return [run for run in runs if run.key in kept]
