# SPDX-License-Identifier: Apache-2.0
"""Configurations whose keys are right one by one and cannot work together: refused at once."""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.model.backbones import BACKBONES
from proto_mtl_ros.training.config import TrainConfig


def check_combinations(config: TrainConfig) -> None:
    """Refuse what could only fail after the data set was read.

    Raises:
        ConfigError: names the key and what to do.
    """
    model, loss, hardware = config.model, config.loss, config.hardware
    if model.backbone not in BACKBONES:
        raise ConfigError(
            f"model.backbone: unknown {model.backbone!r}; there are {', '.join(BACKBONES)}"
        )
    if model.width % model.heads:
        raise ConfigError(f"model.heads: {model.heads} does not divide model.width {model.width}")
    if model.retrieval == "none":
        for name in ("tke", "tc", "entropy"):
            if getattr(loss, name) > 0:
                raise ConfigError(
                    f"loss.{name} needs model.retrieval: prototypes; set it to 0, or the retrieval"
                )
    if loss.geometry and not {"depth", "normals"} <= set(config.tasks):
        raise ConfigError("loss.geometry needs the tasks depth and normals; set it to 0")
    if model.class_chain and "segmentation" not in config.tasks:
        raise ConfigError("model.class_chain needs the task segmentation; set it to false")
    if len(config.tasks) < 2:
        for name in ("cross_task", "joint_task"):
            if getattr(loss, name) > 0:
                raise ConfigError(f"loss.{name} needs two tasks or more; set it to 0")
    for name in ("distillation", "feature_distillation"):
        if getattr(loss, name) > 0:
            _check_teachers(config, name)
    if loss.gradients != "sum":
        if loss.weighting != "equal":
            raise ConfigError(
                f"loss.gradients: {loss.gradients} weighs the tasks itself; set loss.weighting: "
                "equal, or loss.gradients: sum"
            )
        if config.optimiser.accumulate > 1 or hardware.precision == "fp16":
            raise ConfigError(
                f"loss.gradients: {loss.gradients} works neither in parts nor in fp16; set "
                "optimiser.accumulate: 1 and hardware.precision: fp32 or bf16"
            )
        if hardware.devices not in (1, "auto"):
            raise ConfigError(
                f"loss.gradients: {loss.gradients} works on one device; set hardware.devices: 1"
            )


def _check_teachers(config: TrainConfig, loss: str) -> None:
    teachers = config.distillation.teachers
    if not set(teachers) & set(config.tasks):
        raise ConfigError(
            f"loss.{loss} needs distillation.teachers: task to a checkpoint or a bundle"
        )
    for name, where in teachers.items():
        if name in config.tasks and where.endswith(".ckpt") and not Path(where).is_file():
            raise ConfigError(
                f"distillation.teachers.{name}: {where} not found; train the teacher first, with "
                f"tasks: [{name}]"
            )


def check_division(config: TrainConfig, world: int) -> None:
    """Refuse a batch that cannot be shared evenly.

    Raises:
        ConfigError: the batch is no multiple of processes times parts.
    """
    options = config.optimiser
    if options.batch % (options.accumulate * world):
        raise ConfigError(
            f"optimiser.batch: {options.batch} frames cannot be divided into "
            f"{options.accumulate} parts (optimiser.accumulate) on {world} devices; make it a "
            f"multiple of {options.accumulate * world}"
        )
