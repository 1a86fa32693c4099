# SPDX-License-Identifier: Apache-2.0
"""A training that plans itself: from what is labelled follow its length and who teaches the rest.

What a configuration says stays as it says it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proto_mtl_ros.data.registry import kind_of
from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER
from proto_mtl_ros.training.config import DistillationConfig, LossConfig, TrainConfig
from proto_mtl_ros.training.held_out import chosen_frames
from proto_mtl_ros.training.module import MultiTaskModule
from proto_mtl_ros.training.monitor import duration
from proto_mtl_ros.training.sources import manifest_of, open_split, split_frames

STEPS, MOST_STEPS, PASSES = 600, 4000, 10
"""A run has so many steps, or as many as go through the frames ten times, up to a limit."""

WARM_UP = 1 / 12
KEPT = 0.2
"""Part of the starting weights that stays: what a few frames teach is not all true elsewhere."""

_FEW = STEPS * 4 // PASSES
"""Frames that teach depth without touching what the classes depend on: on an eight-second recording
that gained as much, and classes that are told apart elsewhere stay exactly as they are."""

_MOST_MASKS = 500
"""Masks that are looked through for classes."""

Shown = Mapping[str, frozenset[int]]
"""Frame to the classes in its mask."""

LABELS = {"segmentation": "masks", "depth": "depth maps", "normals": "normal maps"}


@dataclass(frozen=True)
class Plan:
    """A configuration without gaps, what it comes to in a sentence, and what to beware of."""

    config: TrainConfig
    sentence: str
    warnings: tuple[str, ...] = ()


def planned(config: TrainConfig, data: Path) -> Plan:
    """Return the plan of a run on a data set; DataError where that cannot be used."""
    if "kind" not in config.data.model_fields_set:
        config = _changed(config, data={"kind": kind_of(data)})
    source = open_split(config, data, "train", manifest=manifest_of(config, data))
    ids = source.frame_ids[: config.data.limit]
    labels = {frame: [t for t in source.has(frame) if t in config.tasks] for frame in ids}
    shown = _classes_shown(source, labels)
    counts = Counter(task for tasks in labels.values() for task in tasks)
    config = _with_held_out(config, labels, counts, shown)
    start = None if config.start_from is None else Bundle.load(config.start_from).manifest
    new = start is not None and start.classes != source.label_set.classes
    new = new and counts["segmentation"] > 0
    config = _taught(config, counts, () if start is None else start.tasks)
    if "epochs" not in config.model_fields_set:
        config = _with_length(config, len(ids) - len(config.data.held_out), new)
    said, warnings = _labels_said(config, data, source, shown)
    steps = config.steps or config.epochs * (len(ids) // config.optimiser.batch)
    if 3 * config.optimiser.warmup_steps > steps:
        warnings.append(
            f"{steps} steps are fewer than three warm-ups of {config.optimiser.warmup_steps}"
            " (optimiser.warmup_steps): most of the run would be its beginning"
        )
    if new and config.start_from is not None:
        said.append(f"the classes are not those of {Path(config.start_from).name}: learnt anew")
    left = duration(steps * _seconds_of_a_step(config, source))
    return Plan(config, "; ".join([*said, f"{steps} steps, about {left}"]), tuple(warnings))


def _changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """Return the configuration with changes, section by section."""
    update = {
        name: getattr(config, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return config.model_copy(update=update)


def _classes_shown(source: FrameSource, labels: Mapping[str, list[str]]) -> Shown:
    places = [i for i, frame in enumerate(labels) if "segmentation" in labels[frame]]
    if len(places) > _MOST_MASKS:
        return {}
    known = range(len(source.label_set.classes))
    return {
        source.frame_ids[place]: frozenset(
            {*np.unique(source[place].labels["segmentation"]).tolist()} & {*known}
        )
        for place in places
    }


def _with_held_out(
    config: TrainConfig, labels: Mapping[str, list[str]], counts: Counter[str], shown: Shown
) -> TrainConfig:
    data = config.data
    if data.model_fields_set & {"held_out", "held_out_blocks", "held_out_length"}:
        return config
    most = data.held_out_blocks * data.held_out_length
    if "epochs" in config.model_fields_set and 5 * most <= min(counts.values(), default=0):
        return config
    return _changed(config, data={"held_out": tuple(chosen_frames(labels, shown))})


def _taught(config: TrainConfig, counts: Counter[str], known: tuple[str, ...]) -> TrainConfig:
    """Let the starting model teach what it knows and the data has no label of."""
    if "teachers" in config.distillation.model_fields_set or config.start_from is None:
        return config
    options = config.optimiser
    if (
        {"segmentation"} & {*config.tasks} & {*known} - {*counts}
        and max(counts.values(), default=0) <= _FEW
        and options.freeze_norm
        and "frozen_tasks" not in options.model_fields_set
    ):
        config = _changed(config, optimiser={"frozen_tasks": ("segmentation",)})
    teachers = {
        task: config.start_from
        for task in config.tasks
        if task in known and not counts[task] and task not in config.optimiser.frozen_tasks
    }
    if not teachers:
        return config
    loss = LossConfig.model_validate({"distillation": 1.0, **config.loss.model_dump()})
    update = {"loss": loss, "distillation": DistillationConfig(teachers=teachers)}
    return config.model_copy(update=update)


def _with_length(config: TrainConfig, frames: int, new_classes: bool) -> TrainConfig:
    options = config.optimiser
    batch = min(options.batch, max(frames, 1))
    steps = config.steps or min(MOST_STEPS, max(STEPS, PASSES * frames // batch))
    changes = {"warmup_steps": round(WARM_UP * steps), "decay_epochs": max(1, config.epochs // 2)}
    new = {name: value for name, value in changes.items() if name not in options.model_fields_set}
    share = KEPT if config.start_from is not None and not new_classes else 0.0
    if "start_share" in config.model_fields_set:
        share = config.start_share
    epochs, optimiser = min(config.epochs, steps), {"batch": batch, **new}
    return _changed(config, steps=steps, epochs=epochs, start_share=share, optimiser=optimiser)


def _labels_said(
    config: TrainConfig, data: Path, source: FrameSource, shown: Shown
) -> tuple[list[str], list[str]]:
    """Return who teaches what, and what to beware of."""
    parts = split_frames(config, data)
    learnt, judged = (Counter(t for f in part.frame_ids for t in part.has(f)) for part in parts)
    said, warnings = [], []
    taught: dict[str, list[str]] = {}
    for task in config.tasks:
        word = LABELS.get(task, f"labels of {task}")
        teacher = config.distillation.teachers.get(task) if config.loss.wants(TEACHER) else None
        if learnt[task]:
            said.append(f"{learnt[task]} {word} to learn from, {judged[task]} to judge by")
            if not judged[task]:
                warnings.append(f"too few {word} to hold one out: nothing judges {task}")
        elif teacher is not None:
            taught.setdefault(Path(teacher).name, []).append(task)
        elif task in config.optimiser.frozen_tasks:
            said.append(f"{task} stays exactly as it is")
        else:
            warnings.append(
                f"{task} has no label and nobody teaches it: it will be lost"
                " (name one in distillation.teachers, or leave it out of tasks)"
            )
    said += [f"{teacher} teaches {' and '.join(tasks)}" for teacher, tasks in taught.items()]
    for place, name in enumerate(source.label_set.classes if shown else ()):
        sides = [any(place in shown.get(f, ()) for f in part.frame_ids) for part in parts]
        if not sides[0]:
            warnings.append(f"class {name} has no pixel to learn from")
        elif not sides[1] and judged["segmentation"]:
            warnings.append(f"class {name} is in no mask to judge by")
    return said, warnings


def _seconds_of_a_step(config: TrainConfig, source: FrameSource) -> float:
    """Return about how long a step takes here, losses and validation included."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = MultiTaskModule(config, 1, source.label_set).to(device)
    images = torch.zeros(config.optimiser.batch, *config.size, 3, dtype=torch.uint8, device=device)
    seconds = 0.0
    for _ in range(2):  # the first one is slower
        started = time.perf_counter()
        out = module.forward(images)
        torch.stack([raw.float().mean() for raw in out.raw.values()]).sum().backward()
        seconds = time.perf_counter() - started
    return 1.3 * seconds
