# SPDX-License-Identifier: Apache-2.0
"""Predictions of single-task teachers on the training frames, made once before the training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model import ProtoMTL
from ..tasks import UnitVector
from .checkpoint import network_from_checkpoint
from .config import TrainConfig
from .frames import WholeFrames
from .store import TEACHER, FrameStore
from .terms.distillation import teacher_maps

_BATCH = 8


@torch.no_grad()
def attach_teachers(store: FrameStore, config: TrainConfig) -> None:
    """Let every teacher predict the frames that have no label for its task.

    A teacher sees whole frames at the configured input size, and their mirror images.

    Raises:
        ConfigError: a checkpoint is missing or was trained with another network.
    """
    for name, path in config.distillation.teachers.items():
        if name not in config.tasks:
            continue
        column = config.tasks.index(name)
        frames = torch.nonzero(~store.labelled[:, column]).flatten().tolist()
        if not frames:
            continue
        network = _teacher(Path(path), name, config).to(store.device)
        whole = WholeFrames(store, config)
        maps, factors = [], []
        for start in range(0, len(frames), _BATCH):
            batch = whole(frames[start : start + _BATCH])
            maps.append(_predict(network, batch["image"]).half())
            factors.append(batch["depth_factor"])
        prediction = torch.cat(maps)
        if name == "depth":
            # metres: the store makes them canonical for each crop, as it does with labels
            metres = prediction[..., 0].float() * torch.cat(factors)[:, None, None]
            prediction[..., 0] = metres.half()
        size = (config.input_height, config.input_width)
        store.attach(f"{TEACHER}{name}", frames, prediction, size)


def _teacher(path: Path, task: str, config: TrainConfig) -> ProtoMTL:
    """Return the network of a checkpoint; its own configuration lies beside it."""
    own = path.parent / "config.json"
    if not own.is_file():
        raise ConfigError(f"distillation.teachers.{task}: {own} not found; train the teacher first")
    teacher = TrainConfig.model_validate_json(own.read_text())
    if teacher.tasks != (task,):
        raise ConfigError(f"distillation.teachers.{task}: {path} was not trained on {task} alone")
    if teacher.canonical_fx != config.canonical_fx:
        raise ConfigError(
            f"distillation.teachers.{task}: canonical_fx is {teacher.canonical_fx} there and "
            f"{config.canonical_fx} here; train it with the same"
        )
    return network_from_checkpoint(path, teacher)[0]


def _predict(network: ProtoMTL, images: Tensor) -> Tensor:
    """Return prediction and confidence, [B, h, w, C + 1], for uint8 [B, H, W, 3]."""
    task = network.tasks[0]
    raw = network(network.normalise(images)).raw[task.name]
    mirrored = network(network.normalise(images.flip(2))).raw[task.name].flip(3)
    if isinstance(task, UnitVector):
        mirrored = mirrored * mirrored.new_tensor([-1, 1, 1])[:, None, None]
    return teacher_maps(task, raw, mirrored).permute(0, 2, 3, 1)
