# SPDX-License-Identifier: Apache-2.0
"""Predictions of teachers on the training frames, made once before the training."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import ConfigError
from ..model import ProtoMTL, build_from_manifest
from ..runtime.bundle import Bundle
from ..tasks import Categorical, Task, UnitVector
from .checkpoint import network_from_checkpoint
from .config import CONFIG, TrainConfig
from .frames import WholeFrames
from .store import TEACHER, FrameStore
from .terms.distillation import teacher_maps

_BATCH = 8


@torch.no_grad()
def attach_teachers(store: FrameStore, config: TrainConfig) -> None:
    """Let every teacher predict the frames that have no label for its task.

    A teacher sees whole frames at the configured input size, and their mirror images.

    Raises:
        ConfigError: a teacher is missing, does not know the task, or knows other classes.
        BundleError: a bundle is damaged.
    """
    for column, task in enumerate(store.tasks):
        name = task.name
        if name not in config.distillation.teachers:
            continue
        frames = torch.nonzero(~store.labelled[:, column]).flatten().tolist()
        if not frames:
            continue
        network, canonical_fx = _teacher(config.distillation.teachers[name], task)
        network = network.to(store.device)
        whole = WholeFrames(store, config)
        maps = []
        for start in range(0, len(frames), _BATCH):
            batch = whole(frames[start : start + _BATCH])
            prediction = _predict(network, task, batch["image"])
            if name == "depth":
                # metres: the store makes them canonical for each crop, as it does with labels
                prediction[..., 0] *= (batch["camera"][:, 0] / canonical_fx)[:, None, None]
            maps.append(prediction.half())
        size = (config.input_height, config.input_width)
        store.attach(f"{TEACHER}{name}", frames, torch.cat(maps), size)


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
        teacher = TrainConfig.model_validate_json(own.read_text())
        network, _ = network_from_checkpoint(Path(where), teacher)
        canonical_fx = teacher.canonical_fx
    else:
        bundle = Bundle.load(where)
        network = build_from_manifest(bundle.manifest.architecture).eval()
        state = safetensors.torch.load_file(bundle.weights_path)
        network.load_state_dict({name: value.float() for name, value in state.items()})
        canonical_fx = bundle.manifest.canonical_fx
    known = {known.name: known for known in network.tasks}.get(task.name)
    if known is None:
        raise ConfigError(f"{key}: {where} was not trained on {task.name}")
    if isinstance(task, Categorical) and known.classes != task.classes:  # type: ignore[attr-defined]
        raise ConfigError(f"{key}: {where} knows other classes than the data set has")
    return network, canonical_fx


def _predict(network: ProtoMTL, task: Task, images: Tensor) -> Tensor:
    """Return prediction and confidence, [B, h, w, C + 1], for uint8 [B, H, W, 3]."""
    raw = network(network.normalise(images)).raw[task.name]
    mirrored = network(network.normalise(images.flip(2))).raw[task.name].flip(3)
    if isinstance(task, UnitVector):
        mirrored = mirrored * mirrored.new_tensor([-1, 1, 1])[:, None, None]
    return teacher_maps(task, raw, mirrored).permute(0, 2, 3, 1)
