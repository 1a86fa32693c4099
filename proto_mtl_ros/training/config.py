# SPDX-License-Identifier: Apache-2.0
"""The training configuration: one YAML file, checked before anything else happens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from proto_mtl_ros.bounded import read_yaml
from proto_mtl_ros.errors import (
    ConfigError,
    one_line,
)
from proto_mtl_ros.tasks import TASKS

LAST = "last.ckpt"
"""Name of the checkpoint that a run resumes from."""

CONFIG = "config.json"
"""Name of the configuration beside it."""


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


class _Section(BaseModel):
    # an unknown key is a typing error, not an option to ignore
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """Arguments of ``model.ProtoMTL``."""

    backbone: str = "efficientnet_lite0"
    width: int = Field(192, ge=16, le=2048)
    slots: int = Field(4, ge=1, le=64)
    temperature: float = Field(0.5, gt=0)
    retrieval: Literal["prototypes", "one_hot", "none"] = "prototypes"
    attention: Literal["softmax", "linear"] = "softmax"
    class_chain: bool = False
    blocks: int = Field(1, ge=0, le=8)
    heads: int = Field(4, ge=1)
    ffn_expansion: int = Field(4, ge=1, le=8)
    head_width: int = Field(48, ge=8, le=512)


class DataConfig(_Section):
    """Which frames, which labels, which augmentation."""

    kind: str = "nyuv2"
    """Kind of the data set, see ``data.registry``; its path is not part of the configuration."""

    options: dict[str, Any] = {}
    """What this kind of data set takes beside the path."""

    name: str = ""
    """What the model card calls the data set."""

    licence: str = ""
    """Terms of the data, for the model card."""

    train_split: str = "train"
    val_split: str = "val"
    held_out_blocks: int = Field(5, ge=1)
    held_out_length: int = Field(8, ge=1)
    label_set: str | None = None
    """Name of the classes that labels are wanted in, such as nyu13; None: the data set's own."""

    class_map: dict[str, str] | None = None
    """Class of the data set to class of ``label_set``; those left out become unlabelled."""

    manifest: str | None = None
    """Label manifest; a relative path starts at the data set. None: every label may be used."""

    smallest_crop: float = Field(0.5, gt=0, le=1)
    largest_crop: float = Field(1.0, ge=1, le=4)
    """Above 1 frames are also seen from farther away, with padding around them: depth beyond that
    of the frames themselves."""

    colour: float = Field(1.0, ge=0, le=1)
    limit: int | None = Field(None, ge=1)
    store: Literal["auto", "host", "device"] = "auto"
    """Where decoded frames lie; auto: on the device that trains if they take less than half of it.
    """


class StageConfig(_Section):
    """A stretch of the training at one input size."""

    epochs: int = Field(ge=1)
    height: int = Field(multiple_of=32, ge=64)
    width: int = Field(multiple_of=32, ge=64)


class LossConfig(_Section):
    """Weights of the losses. A term (``training.terms``) of weight 0 is not built at all."""

    segmentation: float = Field(1.0, ge=0)
    depth: float = Field(1.0, ge=0)
    normals: float = Field(2.0, ge=0)
    weighting: Literal["equal", "uncertainty", "dwa", "rlw", "gls"] = "equal"
    gradients: Literal["sum", "pcgrad", "cagrad", "upgrad"] = "sum"
    logit_adjustment: float = Field(0.0, ge=0, le=2)
    """Power of the class shares added to the logits in training (rare classes)."""

    tke: float = Field(0.1, ge=0)
    tc: float = Field(0.1, ge=0)
    margin: float = Field(0.3, ge=0)
    entropy: float = Field(0.0, ge=0)
    entropy_floor: float = Field(0.7, ge=0, le=1)
    """The affinity's entropy is pushed up below this share of log T."""

    geometry: float = Field(0.0, ge=0)
    distillation: float = Field(0.0, ge=0)
    feature_distillation: float = Field(0.0, ge=0)
    cross_task: float = Field(0.0, ge=0)
    joint_task: float = Field(0.0, ge=0)
    reconstruction: float = Field(0.0, ge=0)
    codebook_size: int = Field(512, ge=2)
    codebook_width: int = Field(128, ge=8)


class DistillationConfig(_Section):
    """Where the knowledge for labels that a frame does not have comes from."""

    teachers: dict[str, str] = {}
    """Task to the checkpoint of a network that was trained on it, or to a bundle's name or folder.

    Single-task networks of the same partial labels, or the model that a robot runs today, so that
    it does not forget what its own recordings have no label for.
    """


class OptimiserConfig(_Section):
    """AdamW; linear warm-up, a constant rate, and a cosine decay over the last epochs.

    The constant stretch lets a run be lengthened without changing what was trained so far;
    ``decay_epochs`` as large as the run gives the usual cosine schedule.
    """

    batch: int = Field(4, ge=1)
    """Frames of a step, of all processes and all accumulated parts together."""

    accumulate: int = Field(1, ge=1)
    """Parts that a batch is computed in, one after the other, where memory is short."""

    lr: float = Field(7e-4, gt=0)
    backbone_lr_factor: float = Field(0.3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(200, ge=0)
    decay_epochs: int = Field(10, ge=1)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    """Of the averaged weights, per step; 0 keeps the last weights."""

    freeze_backbone_norm: bool = False
    """The backbone's batch norms keep ImageNet's statistics."""

    freeze_norm: bool = False
    """Every batch norm keeps the statistics that it starts with, so that a frame's loss does not
    depend on the others in its batch, nor on how a batch is divided."""

    frozen_blocks: int = Field(0, ge=0)
    """The stem and this many blocks of the backbone keep their weights (0: nothing is frozen)."""

    frozen_tasks: tuple[str, ...] = ()
    """Tasks whose results stay exactly what they are at the start.

    Their decoders, retrieval and heads keep their weights, and so do the backbone and the
    prototypes, which they share with the others; needs ``freeze_norm``.
    """


class HardwareConfig(_Section):
    """What the training runs on; a continued run may change ``devices``."""

    devices: Literal["auto"] | int = 1
    """GPUs, or processes where there is no GPU; auto: all GPUs there are."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network's forward and backward pass; losses and weights are fp32 in any case."""

    @field_validator("devices")
    @classmethod
    def _positive(cls, devices: int | str) -> int | str:
        if isinstance(devices, int) and devices < 1:
            raise ValueError("must be 1 or more, or auto")
        return devices


class TrainConfig(_Section):
    """Everything that defines a training run, apart from where the data and the output are."""

    name: str
    notes: str = ""
    """What else the model card should say of the run."""
    tasks: tuple[str, ...] = tuple(TASKS)
    canonical_fx: float = Field(gt=0)
    input_height: int = Field(multiple_of=32)
    input_width: int = Field(multiple_of=32)
    seed: int = 0
    validations: int = Field(8, ge=1)
    """How often the held-out frames are looked at in the whole run, about."""

    threads: int = Field(0, ge=0)
    start_from: str | None = None
    """Name or folder of a bundle whose weights the network starts from, where they fit."""

    start_share: float = Field(0.0, ge=0, lt=1)
    """Part of the starting weights in the exported ones; the rest is learnt.

    From a few frames of one place a network learns things that do not hold elsewhere. The mean of
    its weights before and after keeps most of the gain and loses most of that (Wortsman et al.,
    Robust fine-tuning of zero-shot models, arXiv 2109.01903).
    """

    backbone_weights: str | None = None
    """File of ImageNet weights, for a backbone that brings none (ResNet-18: torchvision's)."""

    stages: tuple[StageConfig, ...]
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _known(self) -> TrainConfig:
        unknown = [name for name in self.tasks if name not in TASKS]
        if unknown:
            raise ValueError(f"unknown task {unknown[0]!r}; there are {', '.join(TASKS)}")
        if not self.stages:
            raise ValueError("stages: at least one is needed")
        unknown = [name for name in self.optimiser.frozen_tasks if name not in self.tasks]
        if unknown:
            raise ValueError(f"optimiser.frozen_tasks: {unknown[0]!r} is no task of this run")
        if self.optimiser.frozen_tasks and not self.optimiser.freeze_norm:
            raise ValueError("optimiser.frozen_tasks needs optimiser.freeze_norm: true")
        if self.start_share and self.start_from is None:
            raise ValueError("start_share: there is nothing to share without start_from")
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def stage(self, epoch: int) -> StageConfig:
        """Return the stage that ``epoch`` (from 0, below ``epochs``) belongs to."""
        ends = accumulate(stage.epochs for stage in self.stages)
        return next(stage for stage, end in zip(self.stages, ends) if epoch < end)

    def with_tasks(self, names: Sequence[str]) -> TrainConfig:
        """Return the same run for some of its tasks.

        Raises:
            ConfigError: one is not among them, or none is named.
        """
        unknown = [name for name in names if name not in self.tasks]
        if unknown or not names:
            raise ConfigError(
                f"task {(unknown or [''])[0]!r} is not in the configuration: use some of"
                f" {', '.join(self.tasks)}"
            )
        chosen = tuple(name for name in self.tasks if name in names)
        return self.model_copy(update={"tasks": chosen})

    @classmethod
    def read(cls, path: Path | str) -> TrainConfig:
        """Read a YAML file.

        Raises:
            ConfigError: the file is missing or not YAML, or a key or value is wrong (the first
                offending key is named).
        """
        content = read_yaml(Path(path), ConfigError)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(f"{path}: {key}: {one_line(first['msg'])}") from error
