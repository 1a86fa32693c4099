# SPDX-License-Identifier: Apache-2.0
"""The training runs that a protocol asks for, and what is written down of their configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmark.protocol import MethodConfig, Protocol, merged
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.checkpoint import differences
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.upgrade import upgraded

ALL = "all"
"""Stands for the task in the name of a run that trains every task."""

ABLATION = "ablation"
"""Folder of the runs of the ablation table, beside those of the main table."""


@dataclass(frozen=True)
class Run:
    """One training and its evaluation: ``task`` is the only one that is trained, or ``ALL``.

    Of an ablation the test split stays unseen. ``settings`` are without teachers; those are runs,
    by task."""

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
        return results / self.protocol / f"{self.key}.json"

    def folder(self, work: Path) -> Path:
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
    """Return the runs that a pattern names, in their order, and the teachers that they need.

    Patterns are of rows (``one_label/ours``, ``*/ablation/*``) or of single runs
    (``one_label/ours-all-seed0``). ConfigError where one names nothing."""
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


TRAINED = "trained.json"
"""Written beside the checkpoint when the training is complete."""

_OF_NO_ACCOUNT = {"name", "notes", "threads"}
"""Keys of a configuration that change neither the network nor its figures."""


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as files hold it: without paths of this machine."""
    content = config.model_dump(mode="json")
    content["distillation"].pop("teachers", None)
    return content


def difference(before: Mapping[str, Any], config: TrainConfig) -> str | None:
    """Return how a recorded configuration differs from ``config``, None where it does not.

    A key that is younger than the record counts with its default, which is how it was then.
    """
    try:
        old = recorded(TrainConfig.model_validate(upgraded(_renamed(before))))
    except ValueError as error:
        return f"a configuration of another version ({type(error).__name__})"
    for key, was, now in differences(old, recorded(config)):
        if key not in _OF_NO_ACCOUNT:
            return f"{key} = {was}, not {now}"
    return None


def _renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of the first release with today's names of the networks."""
    model = dict(record.get("model", {}))
    if "slots" in model:
        model["retrieval"] = {"none": "self_attention"}.get(model["retrieval"], model["retrieval"])
        model["options"] = {"slots": model.pop("slots")}
        for name, usual in (("blocks", 1), ("heads", 4)):
            if (value := model.pop(name, usual)) != usual:
                model["options"][name] = value
    if model.pop("class_chain", False):
        model["retrieval"] = "class_chain"
    if model.pop("attention", "softmax") == "linear":
        model["retrieval"] = "linear_attention"
    return {**record, "model": model}


def check_results(runs: Sequence[Run], results: Path) -> None:
    """Raise ConfigError for figures that were made with another configuration than is asked for."""
    for run in runs:
        path = run.result(results)
        if path.is_file():
            differs = difference(json.loads(path.read_text())["config"], run.config())
            if differs is not None:
                raise ConfigError(f"{path} was made with {differs}; delete it to run again")


def is_trained(folder: Path, config: TrainConfig) -> bool:
    path = folder / TRAINED
    return path.is_file() and difference(json.loads(path.read_text())["config"], config) is None
