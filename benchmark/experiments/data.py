# SPDX-License-Identifier: Apache-2.0
"""Frames, held-out frames and teachers' maps, each read once and kept outside of the repository."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.experiments import answers
from benchmark.experiments.answers import AnswerHead
from benchmark.experiments.rows import TASKS, Row
from benchmark.protocol import Protocol
from benchmark.runs import runs_of
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.model.network import FEATURE_STRIDE
from proto_mtl_ros.model.torch_tasks import RAW_STRIDE, torch_task
from proto_mtl_ros.tasks import Task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER, TEACHER_FEATURES
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import whole_frames
from proto_mtl_ros.training.sources import split_frames
from proto_mtl_ros.training.store import FrameStore
from proto_mtl_ros.training.trainer import training_store

KEPT = Path(os.environ.get("PROTO_MTL_EXPERIMENTS", "build/experiments"))
DATA = Path(os.environ.get("PROTO_MTL_NYUV2", "shared/data/nyuv2"))
PROTOCOL = Path(__file__).parents[1] / "protocols" / "cpu.yaml"

WEIGHTS = "teacher_answers_"
"""Prefix of the answer weights that a teacher gives."""


def recipe(row: Row, seed: int) -> TrainConfig:
    """Return the training configuration of a row: that of `ours`, or of a single task."""
    protocol = Protocol.read(PROTOCOL)
    method = "ours" if row.teachers else "single_task"
    task = "all" if row.teachers else (row.tasks or TASKS)[0]
    run = next(
        r
        for r in runs_of(protocol)
        if (r.manifest, r.method, r.seed, r.task, r.ablation)
        == ("one_label", method, seed, task, False)
    )
    settings = run.config().model_dump()
    settings["tasks"] = row.tasks or TASKS
    settings["threads"] = 1
    settings["model"] |= {"retrieval": row.retrieval, "blocks": row.blocks, **row.model}
    settings["loss"] |= {"tke": 0.0, "tc": 0.0, "entropy": 0.0, **row.loss}
    if row.teachers:
        # named so that the adapters are built; the maps come from here
        settings["distillation"]["teachers"] = dict.fromkeys(TASKS, row.teachers)
    return TrainConfig.model_validate(settings)


def frames_of(config: TrainConfig) -> FrameStore:
    """Return the 695 training frames with their labels and derived normals."""
    path = KEPT / "frames_0.2.pkl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = config.model_dump()
        plain["tasks"] = TASKS
        plain["loss"] |= {"distillation": 0.0, "feature_distillation": 0.0, "geometry": 1.0}
        plain = TrainConfig.model_validate(plain)
        store = training_store(plain, split_frames(plain, DATA)[0])
        path.write_bytes(pickle.dumps(store))
    store = pickle.loads(path.read_bytes())
    return store


def held_out(config: TrainConfig) -> list[Sample]:
    """Return the 100 frames held out of train, with every label."""
    path = KEPT / "held_out_0.2.pkl"
    if not path.is_file():
        source = split_frames(config, DATA)[1]
        path.write_bytes(pickle.dumps([source[i] for i in range(len(source))]))
    return pickle.loads(path.read_bytes())


class HeldOut:
    """The held-out frames as a ``FrameSource`` that is in memory."""

    def __init__(self, samples: Sequence[Sample], label_set: Any) -> None:
        self.samples, self.label_set = samples, label_set

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@torch.no_grad()
def attach(
    store: FrameStore,
    config: TrainConfig,
    row: Row,
    seed: int,
    trained: Callable[[str, str, int], Any],
) -> None:
    """Let the teachers of a row say what they see; kept in a file for the next row.

    ``trained`` gives the network of a set of teachers, a task and a seed.
    """
    for column, task in enumerate(store.tasks):
        # classes have a posterior anyway: their teacher is the same for every row
        kind = "plain" if task.name == "segmentation" else row.teachers
        path = KEPT / "maps" / f"{kind}-{task.name}-seed{seed}.pt"
        if not path.is_file():
            network = trained(kind, task.name, seed)
            parts: dict[str, list[Tensor]] = {}
            for start in range(0, len(store), 8):
                indices = range(start, min(start + 8, len(store)))
                _see(network, task, whole_frames(store, config, indices), parts)
            path.parent.mkdir(exist_ok=True)
            torch.save({name: torch.cat(values) for name, values in parts.items()}, path)
        kept = torch.load(path)
        name = task.name
        lacking = torch.nonzero(~store.labelled[:, column]).flatten().tolist()
        every = list(range(len(store)))
        maps = kept["maps"].clone()
        if name == "depth":
            whole_cameras = torch.cat(
                [whole_frames(store, config, every[i : i + 8])["camera"] for i in every[::8]]
            )
            maps[..., 0] *= (whole_cameras[:, 0] / config.canonical_fx)[:, None, None].to(maps)
        store.attach(f"{TEACHER}{name}", lacking, maps[lacking], vectors=torch_task(task).vectors)
        if "weights" in kept:
            weights = kept["weights"][lacking]
            turned = answers.mirrored(task, weights.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            store.attach(f"{WEIGHTS}{name}", lacking, weights, RAW_STRIDE, mirrored=turned)
        plain, turned = kept["plain"].float(), kept["turned"].float()
        mean, deviation = plain.flatten(0, 2).mean(0), plain.flatten(0, 2).std(0).clamp_min(1e-3)
        store.attach(
            f"{TEACHER_FEATURES}{name}",
            every,
            (plain - mean) / deviation,
            FEATURE_STRIDE,
            mirrored=(turned - mean) / deviation,
        )


def _see(network: Any, task: Task, batch: dict[str, Any], parts: dict[str, list[Tensor]]) -> None:
    def keep(name: str, values: Tensor) -> None:
        parts.setdefault(name, []).append(values.half())

    name, images = task.name, batch["image"]
    index = network.names.index(name)
    out = network(network.normalise(images))
    head = network.heads[index]
    weights = head.logits.softmax(1) if isinstance(head, AnswerHead) else None
    other = network(network.normalise(images.flip(2)))
    keep("plain", out.features[name].permute(0, 2, 3, 1))
    keep("turned", other.features[name].flip(3).permute(0, 2, 3, 1))
    kind = torch_task(task)
    keep("maps", kind.teach(out.raw[name], kind.mirror(other.raw[name])).permute(0, 2, 3, 1))
    if weights is not None and name != "segmentation":
        turned = answers.mirrored(task, head.logits.softmax(1).flip(3))
        keep("weights", ((weights + turned) / 2).permute(0, 2, 3, 1))
