# SPDX-License-Identifier: Apache-2.0
"""What ``model.json`` says about a model, and the rules that it must keep."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from proto_mtl_ros.errors import BundleError, one_line
from proto_mtl_ros.files import parse_json
from proto_mtl_ros.tasks import Task, named_task

SCHEMA_VERSION = 1
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
    """The content of ``model.json``.

    Attributes:
        schema_version: version of this structure.
        name: of the model; also the name of its folder under ``models``.
        architecture: read by ``model.build_from_manifest`` and by nothing else.
        tasks: names of the tasks whose decoded maps the graph gives.
        classes: names of the segmentation ids 0..C-1; empty without a segmentation task.
        palette: an RGB colour for every class.
        input_size: (height, width) the model was trained for, the default of the node.
        size_multiple: heights and widths must be multiples of it.
        normalisation: recorded for readers; the deployed graph does it itself.
        canonical_fx: focal length, in pixels at the network's input, that raw depth is meant for.
        training: data, licence, command and seed.
        metrics: figures on the validation split, free-form.
        temperature: that the segmentation logits were divided by before the softmax (confidence).
        files: sha256, in lower-case hexadecimal, of every file of the bundle but this one.
    """

    schema_version: int = SCHEMA_VERSION
    name: str = Field(pattern=FILE_NAME)
    architecture: dict[str, Any] = Field(default_factory=dict)
    tasks: tuple[str, ...] = Field(min_length=1)
    classes: tuple[str, ...] = Field(default=(), max_length=MAX_CLASSES)
    palette: tuple[tuple[Byte, Byte, Byte], ...] = ()
    input_size: tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]]
    size_multiple: int = Field(default=32, ge=1, le=256)
    normalisation: Normalisation
    canonical_fx: Positive
    training: TrainingRecord
    metrics: dict[str, Any] = Field(default_factory=dict)
    temperature: Positive = 1.0
    files: dict[
        Annotated[str, Field(pattern=FILE_NAME)],
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
    ] = Field(default_factory=dict, max_length=64)

    @field_validator("schema_version")
    @classmethod
    def _known_schema(cls, value: int) -> int:
        if value != SCHEMA_VERSION:
            raise ValueError(f"{value} is not {SCHEMA_VERSION}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ModelManifest:
        if len(set(self.tasks)) != len(self.tasks) or not all(self.tasks):
            raise ValueError("tasks must be different and not empty")
        if len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError("classes must be different and not empty")
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
        """Return the tasks, the segmentation over the bundle's classes.

        Raises:
            BundleError: a task that is not known here.
        """
        try:
            return tuple(named_task(name, self.classes) for name in self.tasks)
        except ValueError as error:
            raise BundleError(
                f"{self.name}: {error}; install the plug-in that the model was trained with"
            ) from None

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> ModelManifest:
        """Parse and validate ``text``.

        Args:
            text: content of a ``model.json``.
            origin: how error messages name it.

        Raises:
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
