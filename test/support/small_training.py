# SPDX-License-Identifier: Apache-2.0
"""A training small enough for tests, and the batches and outputs that losses are tested on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch.nn import functional as F

import benchmark.methods  # noqa: F401  configurations may name them
from benchmark.methods.krt import PaperMTL, PaperOutput
from proto_mtl_ros.model.answers import answers_of
from proto_mtl_ros.tasks import NYU13, TASKS
from proto_mtl_ros.training.auxiliary import AUXILIARY_LOSSES, AuxiliaryLoss, Setup
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    DERIVED_NORMALS,
    TEACHER,
    TEACHER_FEATURES,
)
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import whole_frames
from proto_mtl_ros.training.module import MultiTaskModule
from proto_mtl_ros.training.store import FrameStore

ALL = list(TASKS.values())
SIZE, COARSE, FINE, WIDTH = 32, 8, 2, 16
WALL = F.normalize(torch.tensor([0.1, -0.2, -0.9]), dim=0)
CHANNELS = (16, 24, 40, 112, 320)

CONFIG: dict[str, Any] = {
    "name": "smallest",
    "canonical_fx": 100.0,
    "input_height": 64,
    "input_width": 96,
    "epochs": 3,
    "threads": 1,
    "model": {"width": 16},
    "data": {"held_out_blocks": 1, "held_out_length": 2, "manifest": "manifests/one_label.csv"},
    "optimiser": {"batch": 4, "warmup_steps": 2, "decay_epochs": 1},
}


def settings(**changes: Any) -> dict[str, Any]:
    """Return ``CONFIG`` with changes, laid over it section by section."""
    found = dict(CONFIG)
    for key, value in changes.items():
        found[key] = {**CONFIG.get(key, {}), **value} if isinstance(value, Mapping) else value
    return found


def train_config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings(**changes))


def config_file(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings(**changes)))
    return path


def learn_by_heart(
    config: TrainConfig, store: FrameStore, frames: range
) -> tuple[MultiTaskModule, dict[str, Any], list[float]]:
    """Return a module after 60 steps on the same frames, their batch, and the losses on the way."""
    torch.manual_seed(0)
    batch = whole_frames(store, config, frames)
    module = MultiTaskModule(config, 60, NYU13).train()
    optimiser = module.configure_optimizers()["optimizer"]
    supervised = []
    for _ in range(60):
        losses, extra, _ = module.losses(batch, module(batch["image"]))
        supervised.append(float(sum(losses.values())))
        (sum(losses.values()) + extra).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return module, batch, supervised


def small_network(**options: Any) -> PaperMTL:
    torch.manual_seed(0)
    return PaperMTL(ALL, **{"width": WIDTH, "slots": 2, "heads": 2, "head_width": 8, **options})


def made(name: str, network: Any = None, weights: Any = None, **options: Any) -> AuxiliaryLoss:
    """Return an auxiliary loss for ``network``, or for one of which it asks the sizes alone."""
    network = network or SimpleNamespace(width=WIDTH, channels=(WIDTH,) * 5)
    kind = AUXILIARY_LOSSES[name]
    weights = weights or dict.fromkeys(TASKS, 1.0)
    section = kind.Options.model_validate({"weight": 1.0, **options})
    return kind(Setup(ALL, network, section, weights, frozenset(TASKS)))


def output(frames: int, dtype: torch.dtype = torch.float32) -> PaperOutput:
    """Return an output that a network could give, whose parts need a gradient."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    raw = {
        "segmentation": randn(frames, 13, COARSE, COARSE),
        "depth": 2 + 0.1 * randn(frames, 1, COARSE, COARSE),
        "normals": randn(frames, 3, COARSE, COARSE),
    }
    pyramid = tuple(
        randn(frames, c, SIZE // s, SIZE // s) for c, s in zip(CHANNELS, (2, 4, 8, 16, 32))
    )
    affinity = randn(frames, 3, 4, 3).softmax(-1)
    pooled = randn(frames, 3, WIDTH)
    features = {task.name: randn(frames, WIDTH, FINE, FINE) for task in ALL}
    logits = {
        task.name: randn(frames, len(answers), COARSE, COARSE)
        for task in ALL
        if (answers := answers_of(task)) is not None
    }
    for tensor in (*raw.values(), *features.values(), *logits.values(), pooled, affinity):
        tensor.requires_grad_(True)
    return PaperOutput(raw, pyramid, features, logits, {}, pooled, affinity)


def batch(
    labelled: list[list[bool]], empty: bool = False, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Return a batch with labels where ``labelled``; ``empty``: without a single valid pixel."""
    frames = len(labelled)
    generator = torch.Generator().manual_seed(2)
    found: dict[str, Any] = {
        "image": torch.randint(0, 256, (frames, SIZE, SIZE, 3), generator=generator).byte(),
        "labelled": torch.tensor(labelled),
        "camera": torch.tensor([[30.0, 30.0, 15.5, 15.5]] * frames),
        "depth_factor": torch.ones(frames),
        "frame_id": [str(index) for index in range(frames)],
        "segmentation": torch.randint(0, 13, (frames, SIZE, SIZE), generator=generator).byte(),
        "depth": 1 + torch.rand(frames, SIZE, SIZE, generator=generator),
        "normals": WALL.expand(frames, SIZE, SIZE, 3),
    }
    found[DERIVED_NORMALS] = found["normals"].clone()
    for index, task in enumerate(ALL):
        missing = ~found["labelled"][:, index] | empty
        found[task.name] = found[task.name].clone()
        found[task.name][missing] = torch.from_numpy(task.empty_label(SIZE, SIZE))
        teacher = torch.rand(frames, COARSE, COARSE, task.channels + 1, generator=generator)
        found[f"{TEACHER}{task.name}"] = teacher.to(dtype) * (0 if empty else 1)
        features = torch.randn(frames, FINE, FINE, WIDTH, generator=generator)
        found[f"{TEACHER_FEATURES}{task.name}"] = features.to(dtype)
    if empty:
        found[DERIVED_NORMALS].zero_()
    for name in ("depth", "normals", DERIVED_NORMALS, "camera"):
        found[name] = found[name].to(dtype)
    return found
