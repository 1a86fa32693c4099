# SPDX-License-Identifier: Apache-2.0
"""What ``model.json`` says about a model, and the rules that it must keep."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from proto_mtl_ros.errors import BundleError, one_line
from proto_mtl_ros.files import parse_json
from proto_mtl_ros.tasks import Task, named_task

SCHEMA_VERSION: Final = 1
"""The only version of ``model.json`` that this release reads and writes."""

MAX_CLASSES = 255
"""Ids are uint8 and 255 means unlabelled."""

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""A file of a bundle lies directly in its folder, so its name has no separator."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    """An unknown key is a typing error or a newer writer: both must be told, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Normalisation(_Strict):
    """The network sees (rgb - mean) / std per channel, rgb in 0..255. The graph does it itself."""

    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _same_for_all_channels(cls, value: Any) -> Any:
        return (value, value, value) if isinstance(value, (int, float)) else value


class TrainingRecord(BaseModel):
    """Where the weights come from. More keys (epochs, versions ...) are welcome."""

    model_config = ConfigDict(extra="allow", frozen=True)

    data: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    command: str = ""
    seed: int | None = None


class ModelManifest(_Strict):
    """The content of ``model.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=FILE_NAME)
    # read by ``model.build_from_manifest`` alone
    architecture: dict[str, Any] = Field(default_factory=dict)
    tasks: tuple[str, ...] = Field(min_length=1)
    classes: tuple[str, ...] = Field(default=(), max_length=MAX_CLASSES)
    palette: tuple[tuple[Byte, Byte, Byte], ...] = ()
    # (height, width) that the model was trained for
    input_size: tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]]
    size_multiple: int = Field(default=32, ge=1, le=256)
    normalisation: Normalisation
    # focal length, in pixels at the network's input, that raw depth is meant for
    canonical_fx: Positive
    training: TrainingRecord
    metrics: dict[str, Any] = Field(default_factory=dict)
    # the segmentation's logits were divided by it before the softmax (confidence)
    temperature: Positive = 1.0
    # regression -> (a, b): it is right with the probability sigmoid(a + b log spread), see
    # ``model.answers``
    confidence: dict[str, tuple[Finite, Finite]] = Field(default_factory=dict)
    # name -> sha256
    files: dict[
        Annotated[str, Field(pattern=FILE_NAME)],
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
    ] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _consistent(self) -> ModelManifest:
        for what, names in (("tasks", self.tasks), ("classes", self.classes)):
            if len(set(names)) != len(names) or not all(names):
                raise ValueError(f"{what} must be different and not empty")
        if "segmentation" in self.tasks and not self.classes:
            raise ValueError("a segmentation task needs classes")
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"palette has {len(self.palette)} colours for {len(self.classes)} classes"
            )
        if any(size % self.size_multiple for size in self.input_size):
            raise ValueError(
                f"input_size {list(self.input_size)} is not a multiple of {self.size_multiple}"
            )
        return self

    def task_objects(self) -> tuple[Task, ...]:
        """Return the tasks, the segmentation over the bundle's classes; BundleError: unknown."""
        try:
            return tuple(
                replace(task, confident=True) if task.name in self.confidence else task
                for task in (named_task(name, self.classes) for name in self.tasks)
            )
        except ValueError as error:
            raise BundleError(
                f"{self.name}: {error}; install the plug-in that the model was trained with"
            ) from None

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> ModelManifest:
        """Parse and validate a ``model.json`` that error messages call ``origin``.

        BundleError: not JSON, an unknown schema version, or a value that breaks a rule.
        """
        content = parse_json(text, origin, BundleError)
        if not isinstance(content, dict):
            raise BundleError(f"{origin} holds no JSON object: fetch or export the model again")
        version = content.get("schema_version")
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise BundleError(
                f"{origin} has schema version {one_line(version)}, this release reads"
                f" {SCHEMA_VERSION}: update proto_mtl_ros or export the model again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = one_line(".".join(str(part) for part in first["loc"]))
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            reason = one_line(first["msg"]).removeprefix("Value error, ")
            raise BundleError(
                f"{origin} is refused: {where + ': ' if where else ''}{reason}{more};"
                " correct it or export the model again"
            ) from None

    def to_json(self) -> str:
        """Return the text of ``model.json``; a metric that is NaN becomes null."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
