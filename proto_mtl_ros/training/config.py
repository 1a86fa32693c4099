# SPDX-License-Identifier: Apache-2.0
"""The training configuration: one YAML file, checked before anything else happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import read_yaml
from proto_mtl_ros.model.backbones import BACKBONES
from proto_mtl_ros.model.network import NETWORKS
from proto_mtl_ros.tasks import known_tasks
from proto_mtl_ros.training.auxiliary import (
    AUXILIARY_LOSSES,
    AuxiliaryLoss,
    Options,
    auxiliary_losses,
)
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER, TEACHER_FEATURES
from proto_mtl_ros.training.keys import checked, first_error, meant
from proto_mtl_ros.training.losses import WEIGHTINGS
from proto_mtl_ros.training.upgrade import refuse_removed

LAST = "last.ckpt"
"""Name of the checkpoint that a run resumes from."""

CONFIG = "config.json"
"""Name of the configuration beside it."""

Weight = Annotated[float, Field(ge=0)]
Size = Annotated[int, Field(multiple_of=32, ge=64)]

_TASK_WEIGHTS = {"segmentation": 1.0, "depth": 1.0, "normals": 2.0}
"""Where a configuration does not name them; 1 for tasks from outside."""


class _Section(BaseModel):
    # an unknown key is a typing error, not an option to ignore
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """The network."""

    backbone: str = "efficientnet_lite0"
    width: int = Field(192, ge=16, le=2048)
    retrieval: str = "answers"
    options: dict[str, Any] = {}
    """What the network of a plug-in takes beside these."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``model.build_network``."""
        return {**self.model_dump(exclude={"options"}), **self.options}


class DataConfig(_Section):
    """Which frames, which labels, which augmentation; the path is not part of it."""

    kind: str = "nyuv2"
    """Kind of the data set, see ``data.registry``."""

    options: dict[str, Any] = {}
    """What this kind of data set takes beside the path."""

    name: str = ""
    licence: str = ""
    """What the model card calls the data set, and its terms."""

    held_out_blocks: int = Field(5, ge=1)
    held_out_length: int = Field(8, ge=1)
    held_out: tuple[str, ...] = ()
    """Frames that are held out, in place of those blocks."""

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


class LossConfig(_Section):
    """Weights of the losses.

    In a file every key but the first two is the name of a task, with the weight of its supervised
    loss, or of an auxiliary loss, with its weight or, where it has options, a section with
    ``weight`` among them. An auxiliary loss of weight 0 is not built at all.
    """

    weighting: str = "equal"
    logit_adjustment: float = Field(0.0, ge=0, le=2)
    """Power of the class shares added to the logits in training (rare classes)."""

    tasks: dict[str, Weight] = _TASK_WEIGHTS
    auxiliary: dict[str, SerializeAsAny[Options]] = {}

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Sort the keys of a file into tasks and auxiliary losses."""
        if not isinstance(value, Mapping):
            return value
        given, tasks_there, losses = dict(value), known_tasks(), auxiliary_losses()
        tasks = {**_TASK_WEIGHTS, **given.pop("tasks", {})}
        auxiliary = dict(given.pop("auxiliary", {}))
        for name in [name for name in given if name not in cls.model_fields]:
            (tasks if name in tasks_there else auxiliary)[name] = given.pop(name)
        for name, kind in losses.items():
            if kind.default:
                auxiliary.setdefault(name, kind.default)
        found = {name: _options(name, content) for name, content in auxiliary.items()}
        kept = {n: o for n, o in found.items() if o.weight or losses[n].default}
        return {**given, "tasks": tasks, "auxiliary": {name: kept[name] for name in sorted(kept)}}

    def weight(self, task: str) -> float:
        return self.tasks.get(task, 1.0)

    @property
    def active(self) -> dict[str, tuple[type[AuxiliaryLoss], Options]]:
        """The auxiliary losses of this run, by name, with their options."""
        return {n: (AUXILIARY_LOSSES[n], o) for n, o in self.auxiliary.items() if o.weight}

    def wants(self, what: str) -> bool:
        """Whether an auxiliary loss wants this in its batches."""
        return any(what in kind.wants for kind, _ in self.active.values())


def _options(name: str, content: Any) -> Options:
    if isinstance(content, Options):
        return content
    if name not in AUXILIARY_LOSSES:
        there = (*LossConfig.model_fields, *known_tasks(), *AUXILIARY_LOSSES)
        raise ValueError(
            f"{name!r} is neither a task nor an auxiliary loss"
            + (meant(name, there) or f"; there are {', '.join(there[2:])}")
        )
    try:
        section = content if isinstance(content, Mapping) else {"weight": content}
        return AUXILIARY_LOSSES[name].Options.model_validate(section)
    except ValidationError as error:
        reason = first_error(error, AUXILIARY_LOSSES[name].Options, f"{name}.")
        raise ValueError(reason) from None


class DistillationConfig(_Section):
    """Where the knowledge for labels that a frame does not have comes from.

    Single-task networks of the same partial labels, or the model that a robot runs today, so that
    it does not forget what its own recordings have no label for.
    """

    teachers: dict[str, str] = {}
    """Task to a checkpoint, or to a bundle's name or folder; where this is not said, the model that
    the training starts from teaches the tasks without a label."""


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
    ema_decay: float = Field(0.998, ge=0, lt=1)
    """Of the averaged weights, per step; 0 keeps the last weights."""

    freeze_norm: bool = False
    """Every batch norm keeps the statistics that it starts with, so that a frame's loss does not
    depend on the others in its batch, nor on how a batch is divided."""

    frozen_blocks: int = Field(0, ge=0)
    """The stem and this many blocks of the backbone keep their weights (0: nothing is frozen)."""

    frozen_tasks: tuple[str, ...] = ()
    """Tasks whose results stay exactly what they are at the start: their decoders and
    heads keep their weights, and so does the backbone; needs ``freeze_norm``."""


class HardwareConfig(_Section):
    """What the training runs on; a continued run may change ``devices``."""

    devices: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """GPUs, or processes where there is no GPU; auto: all GPUs there are."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network's forward and backward pass; losses and weights are fp32 in any case."""


class TrainConfig(_Section):
    """Everything that defines a training run, apart from where the data and the output are."""

    name: str
    notes: str = ""
    """What else the model card should say of the run."""

    tasks: tuple[str, ...] = tuple(_TASK_WEIGHTS)
    canonical_fx: float = Field(gt=0)
    input_height: Size
    input_width: Size
    epochs: int = Field(12, ge=1)
    steps: int | None = Field(None, ge=1)
    """Of the whole run, shared among the epochs; None: an epoch goes through the frames once."""

    seed: int = 0
    validations: int = Field(8, ge=1)
    """How often the held-out frames are looked at in the whole run, about."""

    threads: int = Field(0, ge=0)
    start_from: str | None = None
    """Name or folder of a bundle whose weights the network starts from, where they fit."""

    start_share: float = Field(0.0, ge=0, lt=1)
    """Part of the starting weights in the exported ones: what a few frames of one place teach that
    does not hold elsewhere is mostly lost by that (Wortsman et al., arXiv 2109.01903)."""

    backbone_weights: str | None = None
    """File of ImageNet weights, for a backbone that brings none (ResNet-18: torchvision's)."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = Field(default_factory=LossConfig)  # after all plug-ins
    distillation: DistillationConfig = DistillationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        _known("tasks", self.tasks, known_tasks())
        _known("model.backbone", [self.model.backbone], BACKBONES)
        _known("model.retrieval", [self.model.retrieval], NETWORKS)
        _known("loss.weighting", [self.loss.weighting], WEIGHTINGS)
        _known("optimiser.frozen_tasks", self.optimiser.frozen_tasks, self.tasks)
        if self.optimiser.frozen_tasks and not self.optimiser.freeze_norm:
            raise ValueError("optimiser.frozen_tasks needs optimiser.freeze_norm: true")
        if self.start_share and self.start_from is None:
            raise ValueError("start_share: there is nothing to share without start_from")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.input_height, self.input_width

    def with_tasks(self, names: Sequence[str]) -> TrainConfig:
        """Return the same run for some of its tasks; ConfigError where one is not among them."""
        unknown = [name for name in names if name not in self.tasks]
        if unknown or not names:
            raise ConfigError(
                f"task {(unknown or [''])[0]!r} is not in the configuration: use some of"
                f" {', '.join(self.tasks)}"
            )
        return self.model_copy(update={"tasks": tuple(t for t in self.tasks if t in names)})

    def check(self) -> None:
        """Raise ConfigError where keys cannot work together, before the data set is read."""
        options = self.optimiser
        for name, (kind, _) in self.loss.active.items():
            missing = kind.needs_tasks - set(self.tasks)
            if missing or len(self.tasks) < kind.least_tasks:
                raise ConfigError(
                    f"loss.{name} needs "
                    + (f"the task {sorted(missing)[0]}" if missing else f"{kind.least_tasks} tasks")
                    + "; set it to 0"
                )
            if kind.wants & {TEACHER, TEACHER_FEATURES}:
                self._check_teachers(name)
        if WEIGHTINGS[self.loss.weighting].separates and (
            options.accumulate > 1
            or self.hardware.precision == "fp16"
            or self.hardware.devices not in (1, "auto")
        ):
            raise ConfigError(
                f"loss.weighting: {self.loss.weighting} takes gradients apart; set"
                " optimiser.accumulate: 1, hardware.devices: 1 and hardware.precision: fp32 or bf16"
            )

    def _check_teachers(self, loss: str) -> None:
        teachers = self.distillation.teachers
        if not set(teachers) & set(self.tasks):
            raise ConfigError(
                f"loss.{loss} needs distillation.teachers: task to a checkpoint or a bundle"
            )
        for name, where in teachers.items():
            if name in self.tasks and where.endswith(".ckpt") and not Path(where).is_file():
                raise ConfigError(
                    f"distillation.teachers.{name}: {where} not found; train the teacher first,"
                    f" with tasks: [{name}]"
                )

    @classmethod
    def read(cls, path: Path | str) -> TrainConfig:
        """Read a YAML file; ConfigError names the first key that is wrong."""
        content = read_yaml(Path(path), ConfigError)
        refuse_removed(content, path, auxiliary_losses())
        return checked(cls, content, str(path))


def _known(key: str, names: Iterable[str], there: Iterable[str]) -> None:
    for name in names:
        if name not in there:
            raise ValueError(f"{key}: unknown {name!r}; there are {', '.join(there)}")
