# SPDX-License-Identifier: Apache-2.0
"""Predictions of teachers on the training frames, made once before the training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import read_json
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import FEATURE_STRIDE
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.torch import network_of
from proto_mtl_ros.tasks import Task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER, TEACHER_FEATURES
from proto_mtl_ros.training.checkpoint import network_from_checkpoint
from proto_mtl_ros.training.config import CONFIG, TrainConfig
from proto_mtl_ros.training.frames import whole_frames
from proto_mtl_ros.training.keys import checked
from proto_mtl_ros.training.store import FrameStore
from proto_mtl_ros.training.upgrade import upgraded

_BATCH = 8


@torch.no_grad()
def attach_teachers(store: FrameStore, config: TrainConfig) -> None:
    """Let every teacher predict the frames that have no label for its task, and keep the features
    that it sees in all frames; both as far as the losses ask for them.

    A teacher sees whole frames at the configured input size, and their mirror images. ConfigError
    where one is missing, or does not fit.
    """
    predict, see = config.loss.wants(TEACHER), config.loss.wants(TEACHER_FEATURES)
    for column, task in enumerate(store.tasks):
        where = config.distillation.teachers.get(task.name)
        if where is None or not (predict or see):
            continue
        network, canonical_fx = _teacher(where, task)
        if see and network.width != config.model.width:
            raise ConfigError(
                f"distillation.teachers.{task.name} has features of width {network.width}; set "
                "model.width to it, or loss.feature_distillation: 0"
            )
        _attach(store, config, column, network.to(store.device), canonical_fx)


def _attach(
    store: FrameStore, config: TrainConfig, column: int, network: ProtoMTL, canonical_fx: float
) -> None:
    task = store.tasks[column]
    kind, name = torch_task(task), task.name
    predict, see = config.loss.wants(TEACHER), config.loss.wants(TEACHER_FEATURES)
    lacking = torch.nonzero(~store.labelled[:, column]).flatten().tolist()
    frames = list(range(len(store))) if see else lacking
    maps, plain, turned = [], [], []
    for start in range(0, len(frames), _BATCH):
        chosen = frames[start : start + _BATCH]
        batch = whole_frames(store, config, chosen)
        out = network(network.normalise(batch["image"]))
        mirrored = network(network.normalise(batch["image"].flip(2)))
        if see:
            plain.append(out.features[name].permute(0, 2, 3, 1).half())
            turned.append(mirrored.features[name].flip(3).permute(0, 2, 3, 1).half())
        lacks = [place for place, frame in enumerate(chosen) if not store.labelled[frame, column]]
        if predict and lacks:
            taught = kind.teach(out.raw[name], kind.mirror(mirrored.raw[name]))
            taught = taught.permute(0, 2, 3, 1)
            if task.canonical:
                # metres: the store makes them canonical for each crop, as it does with labels
                taught[..., 0] *= (batch["camera"][:, 0] / canonical_fx)[:, None, None]
            maps.append(taught[lacks].half())
    if maps:
        store.attach(f"{TEACHER}{name}", lacking, torch.cat(maps), vectors=kind.vectors)
    if plain:
        kept, flipped = _standardised(torch.cat(plain), torch.cat(turned))
        store.attach(f"{TEACHER_FEATURES}{name}", frames, kept, FEATURE_STRIDE, mirrored=flipped)


def _standardised(maps: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """Return both [n, h, w, C] with each channel of mean 0 and variance 1 over the first."""
    flat = maps.flatten(0, 2).float()
    mean, deviation = flat.mean(0), flat.std(0).clamp_min(1e-3)
    return (maps.float() - mean) / deviation, (mirrored.float() - mean) / deviation


def _teacher(where: str, task: Task) -> tuple[ProtoMTL, float]:
    """Return the network of a checkpoint (its configuration lies beside it) or of a bundle, and the
    focal length that its depth is canonical for."""
    key = f"distillation.teachers.{task.name}"
    if where.endswith(".ckpt"):
        own = Path(where).parent / CONFIG
        if not own.is_file():
            raise ConfigError(f"{key}: {own} not found; train the teacher first")
        content = upgraded(read_json(own, ConfigError))
        teacher = checked(TrainConfig, content, f"{key}: {own} is no configuration")
        network, _ = network_from_checkpoint(Path(where), teacher)
        canonical_fx = teacher.canonical_fx
    else:
        bundle = Bundle.load(where)
        network = network_of(bundle).eval()
        canonical_fx = bundle.manifest.canonical_fx
    known = {known.name: known for known in network.tasks}.get(task.name)
    if known is None:
        raise ConfigError(f"{key}: {where} was not trained on {task.name}")
    if getattr(known, "classes", ()) != getattr(task, "classes", ()):
        raise ConfigError(f"{key}: {where} knows other classes than the data set has")
    return network, canonical_fx
