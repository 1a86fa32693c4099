# SPDX-License-Identifier: Apache-2.0
"""Predictions of teachers on the training frames, made once before the training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from proto_mtl_ros.bounded import read_json
from proto_mtl_ros.errors import (
    ConfigError,
    one_line,
)
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import (
    FEATURE_STRIDE,
    NetworkOutput,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.torch import network_of
from proto_mtl_ros.tasks import (
    Categorical,
    Task,
    UnitVector,
)
from proto_mtl_ros.training.auxiliary.distillation import teacher_maps
from proto_mtl_ros.training.checkpoint import network_from_checkpoint
from proto_mtl_ros.training.config import (
    CONFIG,
    TrainConfig,
)
from proto_mtl_ros.training.frames import WholeFrames
from proto_mtl_ros.training.store import (
    TEACHER,
    TEACHER_FEATURES,
    FrameStore,
)

_BATCH = 8


@torch.no_grad()
def attach_teachers(store: FrameStore, config: TrainConfig) -> None:
    """Let every teacher predict the frames that have no label for its task, and keep the features
    that it sees in all frames; both as far as the losses ask for them.

    A teacher sees whole frames at the configured input size, and their mirror images.

    Raises:
        ConfigError: a teacher is missing, does not know the task, knows other classes, or is of
            another width than the network that shall have its features.
        BundleError: a bundle is damaged.
    """
    size = (config.input_height, config.input_width)
    for column, task in enumerate(store.tasks):
        name = task.name
        if name not in config.distillation.teachers:
            continue
        network, canonical_fx = _teacher(config.distillation.teachers[name], task)
        network = network.to(store.device)
        lacking = torch.nonzero(~store.labelled[:, column]).flatten().tolist()
        predict, see = config.loss.distillation > 0, config.loss.feature_distillation > 0
        if see and network.width != config.model.width:
            raise ConfigError(
                f"distillation.teachers.{name} has features of width {network.width}; set "
                "model.width to it, or loss.feature_distillation: 0"
            )
        frames = list(range(len(store))) if see else lacking if predict else []
        maps, plain, turned = [], [], []
        for batch, lacks, out, mirrored in _seen(network, store, config, frames, set(lacking)):
            if see:
                plain.append(out.features[name].permute(0, 2, 3, 1).half())
                turned.append(mirrored.features[name].flip(3).permute(0, 2, 3, 1).half())
            if predict and lacks:
                prediction = _prediction(task, out, mirrored)
                if name == "depth":
                    # metres: the store makes them canonical for each crop, as it does with labels
                    prediction[..., 0] *= (batch["camera"][:, 0] / canonical_fx)[:, None, None]
                maps.append(prediction[lacks].half())
        if maps:
            store.attach(f"{TEACHER}{name}", lacking, torch.cat(maps), size)
        if plain:
            kept, flipped = _standardised(torch.cat(plain), torch.cat(turned))
            store.attach(f"{TEACHER_FEATURES}{name}", frames, kept, size, FEATURE_STRIDE, flipped)


def _seen(
    network: ProtoMTL,
    store: FrameStore,
    config: TrainConfig,
    frames: list[int],
    lacking: set[int],
) -> Iterator[tuple[dict[str, Any], list[int], NetworkOutput, NetworkOutput]]:
    """Yield batches, which of their frames are ``lacking``, and what the network gives for their
    images and for the mirror images.
    """
    whole = WholeFrames(store, config)
    for start in range(0, len(frames), _BATCH):
        chosen = frames[start : start + _BATCH]
        batch = whole(chosen)
        images = batch["image"]
        yield (
            batch,
            [place for place, frame in enumerate(chosen) if frame in lacking],
            network(network.normalise(images)),
            network(network.normalise(images.flip(2))),
        )


def _standardised(maps: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """Return both [n, h, w, C] with each channel of mean 0 and variance 1 over the first."""
    flat = maps.flatten(0, 2).float()
    mean, deviation = flat.mean(0), flat.std(0).clamp_min(1e-3)
    return (maps.float() - mean) / deviation, (mirrored.float() - mean) / deviation


def _teacher(where: str, task: Task) -> tuple[ProtoMTL, float]:
    """Return the network, and the focal length that its depth is canonical for.

    Args:
        where: a checkpoint (its configuration lies beside it), or name or folder of a bundle.
        task: what it shall teach.
    """
    key = f"distillation.teachers.{task.name}"
    if where.endswith(".ckpt"):
        own = Path(where).parent / CONFIG
        if not own.is_file():
            raise ConfigError(f"{key}: {own} not found; train the teacher first")
        try:
            teacher = TrainConfig.model_validate(read_json(own, ConfigError))
        except ValidationError as error:
            raise ConfigError(f"{key}: {own} is no configuration: {one_line(error)}") from None
        network, _ = network_from_checkpoint(Path(where), teacher)
        canonical_fx = teacher.canonical_fx
    else:
        bundle = Bundle.load(where)
        network = network_of(bundle).eval()
        canonical_fx = bundle.manifest.canonical_fx
    known = {known.name: known for known in network.tasks}.get(task.name)
    if known is None:
        raise ConfigError(f"{key}: {where} was not trained on {task.name}")
    if isinstance(task, Categorical) and known.classes != task.classes:  # type: ignore[attr-defined]
        raise ConfigError(f"{key}: {where} knows other classes than the data set has")
    return network, canonical_fx


def _prediction(task: Task, out: NetworkOutput, mirrored: NetworkOutput) -> Tensor:
    """Return prediction and confidence, [B, h, w, C + 1]."""
    other = mirrored.raw[task.name].flip(3)
    if isinstance(task, UnitVector):
        other = other * other.new_tensor([-1, 1, 1])[:, None, None]
    return teacher_maps(task, out.raw[task.name], other).permute(0, 2, 3, 1)
