# SPDX-License-Identifier: Apache-2.0
"""The protocol file: which methods are trained on which labels with which seeds.

    name: cpu
    base: {...}                       # a training configuration, what all methods share
    manifests:
      one_label: manifests/one_label.csv
      all: {labels: null, seeds: [0], methods: [ours]}
    seeds: [0, 1]
    methods:
      single_task: {label: single-task, per_task: true, model: {retrieval: none}}
      ours: {label: ours, teachers: single_task, loss: {distillation: 1.0}}
    ablations: {manifest: one_label, seeds: [0], rows: {"+tke": {like: ours, loss: {tke: 0.1}}}}

What a method or an ablation row says beside the keys of ``MethodConfig`` is a part of a training
configuration that is laid over ``base``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import benchmark.methods  # noqa: F401  configurations may name them
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import read_yaml
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.keys import checked, first_error

_NAME = r"^[A-Za-z0-9+][A-Za-z0-9_.+-]*$"
"""Of everything that becomes a part of a file's name."""

_SET_BY_THE_RUN = ("name", "seed", "tasks")


class _Section(BaseModel):
    # an unknown key is a typing error, not an option to ignore
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestConfig(_Section):
    """Which labels the train frames may use: ``labels`` is relative to the data set, None for all.

    ``seeds`` and ``methods`` stand in place of the protocol's."""

    labels: str | None = None
    seeds: tuple[int, ...] | None = None
    methods: tuple[str, ...] | None = None


class MethodConfig(BaseModel):
    """One row of a table; further keys are laid over the base configuration.

    ``like``: start from this method's keys rather than from the base alone. An ablation row that
    says nothing more is that method's own row, and nothing is trained for it. ``per_task``: train
    one network for each task and join their figures. ``teachers``: the per-task method whose
    networks of the same labels and seed are the teachers."""

    model_config = ConfigDict(extra="allow", frozen=True)

    like: str | None = None
    per_task: bool = False
    teachers: str | None = None
    label: str = ""

    @property
    def overrides(self) -> dict[str, Any]:
        """The part of a training configuration that this row changes."""
        return dict(self.model_extra or {})

    @property
    def is_alias(self) -> bool:
        """Whether this row is another one under this name."""
        return self.like is not None and self.model_fields_set <= {"like", "label"}


class AblationConfig(_Section):
    """Rows that are compared on held-out train frames and never see the test split."""

    manifest: str
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    split: Literal["held_out"] = "held_out"
    rows: dict[str, MethodConfig]


class Protocol(_Section):
    """The content of a protocol file; rows keep the order of the file."""

    name: str = Field(pattern=_NAME)
    notes: str = ""
    base: dict[str, Any]
    manifests: dict[str, ManifestConfig] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    methods: dict[str, MethodConfig] = Field(min_length=1)
    ablations: AblationConfig | None = None

    @field_validator("manifests", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """A path alone, or null for all labels, stands for a manifest with nothing else to say."""
        if not isinstance(value, dict):
            return value
        return {k: v if isinstance(v, dict) else {"labels": v} for k, v in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        for name in ("name", "seed"):
            if name in self.base:
                raise ValueError(f"base.{name} is set by the benchmark; leave it out")
        rows = self.ablations.rows if self.ablations else {}
        for name in (*self.manifests, *self.methods, *rows):
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"{name!r} cannot be part of a file's name; use a-z 0-9 _ . + -")
        for name, manifest in self.manifests.items():
            self._known(manifest.methods or (), f"manifests.{name}.methods")
        if self.ablations and self.ablations.manifest not in self.manifests:
            raise ValueError(f"ablations.manifest: no manifest {self.ablations.manifest!r}")
        for where, group in (("methods", self.methods), ("ablations.rows", rows)):
            for name, row in group.items():
                self._known((row.like,) if row.like else (), f"{where}.{name}.like")
                self._check_teachers(row, f"{where}.{name}.teachers")
                self._check_config(row, f"{where}.{name}")
        return self

    def _known(self, names: tuple[str, ...], key: str) -> None:
        for name in names:
            if name not in self.methods:
                raise ValueError(f"{key}: no method {name!r}")

    def _check_teachers(self, row: MethodConfig, key: str) -> None:
        teachers = self.resolved(row).teachers
        if teachers is None:
            return
        self._known((teachers,), key)
        resolved = self.resolved(self.methods[teachers])
        if not resolved.per_task or resolved.teachers:
            raise ValueError(f"{key}: {teachers} must be per_task and without teachers of its own")

    def _check_config(self, row: MethodConfig, key: str) -> None:
        overrides = self.resolved(row).overrides
        for name in _SET_BY_THE_RUN:
            if name in row.overrides:
                raise ValueError(f"{key}.{name} is set by the benchmark; leave it out")
        try:
            TrainConfig.model_validate(merged(self.base, {**overrides, "name": "x"}))
        except ValidationError as error:
            owner = key if _has(overrides, error.errors()[0]["loc"]) else "base"
            raise ValueError(first_error(error, TrainConfig, f"{owner}.")) from None

    @property
    def shared(self) -> TrainConfig:
        """The training configuration that every row starts from."""
        return TrainConfig.model_validate(merged(self.base, {"name": self.name}))

    def resolved(self, row: MethodConfig, depth: int = 0) -> MethodConfig:
        """Return ``row`` with the keys of the methods that it is like; its own ones win."""
        if row.like is None or row.like not in self.methods:
            return row
        if depth > len(self.methods):
            raise ValueError(f"like: {row.like!r} is like itself")
        below = self.resolved(self.methods[row.like], depth + 1).model_dump(exclude_unset=True)
        own = row.model_dump(exclude_unset=True, exclude={"like"})
        return MethodConfig.model_validate(merged(below, own))

    @classmethod
    def read(cls, path: Path | str) -> Protocol:
        """Read a YAML file; ConfigError names the first key that is wrong."""
        return checked(cls, read_yaml(Path(path), ConfigError), str(path))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries laid over each other; lists and values of ``above`` replace."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[key] = merged(under, value) if both else value  # type: ignore[arg-type]
    return result


def _has(overrides: Any, location: tuple[int | str, ...]) -> bool:
    """Whether the key at ``location`` is one that ``overrides`` sets."""
    for part in location:
        if not isinstance(overrides, Mapping) or part not in overrides:
            return False
        overrides = overrides[part]
    return True
