# SPDX-License-Identifier: Apache-2.0
"""The recipe's training as a plain loop: same batches, losses, optimiser and schedule."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.experiments import losses as own
from benchmark.experiments.data import KEPT, attach, frames_of, recipe
from benchmark.experiments.networks import Candidate, ClassMemory, RepairedRetrieval
from benchmark.experiments.rows import ROWS, Row
from proto_mtl_ros.tasks import NYU13, tasks_over
from proto_mtl_ros.training.auxiliary import Setup
from proto_mtl_ros.training.checkpoint import network_from_checkpoint
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import EpochBatches, training_batch
from proto_mtl_ros.training.losses import logit_offset, supervised
from proto_mtl_ros.training.module import CLIP_NORM
from proto_mtl_ros.training.trainer import EMA_EVERY

_SHAPES = ((24, 24, 32), (40, 12, 16), (112, 6, 8), (320, 3, 4))
"""Of the backbone's features at strides 4 to 32."""

_TEACHER_WIDTH = 192

STEPS = 695 // 8
"""Steps of an epoch: every row takes as many, whatever labels it learns from."""


def folder(name: str, seed: int) -> Path:
    """Return where the network of a row is kept."""
    return KEPT / "runs" / f"{name}-seed{seed}"


def build(row: Row, config: TrainConfig, pretrained: bool) -> Candidate:
    """Return the network of a row before its first step."""
    tasks = tasks_over(config.tasks, NYU13)
    options = config.model.model_dump(exclude={"retrieval"})
    network = Candidate(tasks, row, **options, pretrained=pretrained)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def trained(name: str, task: str, seed: int) -> Any:
    """Return a trained network: of the teachers ``name`` for ``task``, or of the row ``name``."""
    if name == "plain":
        path = KEPT / "teachers" / "plain" / f"{task}-seed{seed}" / "last.ckpt"
        row = replace(ROWS["off"], tasks=(task,), teachers="")
        return network_from_checkpoint(path, recipe(row, seed))[0]
    full = name if name in ROWS else f"teacher_{name}_{task}"
    row = ROWS[full]
    network = build(row, recipe(row, seed), pretrained=False)
    state = torch.load(folder(full, seed) / "network.pt")
    network.load_state_dict(state)
    return network.eval()


class Training:
    """One run of a row with a seed; continued from where it was ended.

    Args:
        name, row, seed: of the run.
        teacher_seed: of the teachers, and of the backbone of a screening row.
    """

    def __init__(self, name: str, row: Row, seed: int, teacher_seed: int | None = None) -> None:
        self.name, self.row, self.seed = name, row, seed
        self.teacher_seed = seed if teacher_seed is None else teacher_seed
        self.config = config = recipe(row, seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self.network = build(row, config, pretrained=True)
        if row.screen:
            state = torch.load(folder(row.start, self.teacher_seed) / "network.pt")
            prefix = "backbone."
            own_part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self.network.backbone.load_state_dict(own_part)
        elif row.start:
            self._start_from(row.start)
        store = frames_of(config)
        self.indices = list(range(len(store)))
        self.columns = [[t.name for t in store.tasks].index(t) for t in config.tasks]
        if row.tasks:
            self.indices = torch.nonzero(store.labelled[:, self.columns[0]]).flatten().tolist()
        if row.teachers:
            attach(store, config, row, self.teacher_seed, trained)
        self.store = store
        self.weights = {name: config.loss.weight(name) for name in config.tasks}
        active = config.loss.active
        self.term_weights = {name: options.weight for name, (_, options) in active.items()}
        taught = frozenset(config.distillation.teachers)
        self.terms = nn.ModuleDict(
            {
                key: term(Setup(self.network.tasks, self.network, options, self.weights, taught))
                for key, (term, options) in active.items()
                if not (key == "tke" and row.added == "repaired")
                and not (key == "distillation" and row.transfer == "instead")
            }
        )
        if "feature_distillation" in self.terms and self.network.width != _TEACHER_WIDTH:
            adapters = self.terms["feature_distillation"].adapters
            for task in adapters:  # type: ignore[union-attr]
                adapters[task] = nn.Conv2d(self.network.width, _TEACHER_WIDTH, 1)  # type: ignore[index]
        self.offset = torch.zeros(0)
        if config.loss.logit_adjustment:
            counts = store.class_counts("segmentation", 13)
            self.offset = logit_offset(counts, config.loss.logit_adjustment).view(1, -1, 1, 1)
        for part in self.network.backbone.parts()[: 1 + config.optimiser.frozen_blocks]:  # type: ignore[operator]
            part.requires_grad_(False)
        for part in row.frozen:
            getattr(self.network, part).requires_grad_(False)
        self.epochs = row.epochs or config.epochs
        self.steps = STEPS * self.epochs
        self.optimiser, self.schedule = self._optimiser()
        self.averaged: dict[str, Tensor] = {}
        self.step, self.seconds = 0, 0.0

    def _start_from(self, start: str) -> None:
        teacher = trained(start, self.config.tasks[0], self.seed).state_dict()
        mine = self.network.state_dict()
        fit = {k: v for k, v in teacher.items() if k in mine and mine[k].shape == v.shape}
        new = self.network.state_dict() | fit
        self.network.load_state_dict(
            {k: v for k, v in new.items() if ".predict." not in k}
            | {k: v for k, v in mine.items() if ".predict." in k}
        )

    def _optimiser(self) -> tuple[Any, Any]:
        options = self.config.optimiser
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        named = [
            *((f"network.{n}", p) for n, p in self.network.named_parameters()),
            *((f"terms.{n}", p) for n, p in self.terms.named_parameters()),
        ]
        for name, p in named:
            if p.requires_grad:
                decay = p.ndim > 1 and "prototypes" not in name and "vectors" not in name
                groups.setdefault((name.startswith("network.backbone."), decay), []).append(p)
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": ps,
                    "lr": options.lr * (options.backbone_lr_factor if backbone else 1.0),
                    "weight_decay": options.weight_decay if decay else 0.0,
                }
                for (backbone, decay), ps in groups.items()
            ],
            fused=True,
        )

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / options.warmup_steps)
            decay = self.steps * min(1.0, options.decay_epochs / self.config.epochs)
            progress = max(0.0, min(1.0, (step - (self.steps - decay)) / decay))
            return rise * 0.5 * (1 + math.cos(math.pi * progress))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)

    def batches(self, epoch: int) -> Any:
        """Yield the batches of an epoch."""
        config = self.config
        sampler = EpochBatches(len(self.indices), STEPS, config.optimiser.batch, config.seed)
        sampler.set_epoch(epoch)
        for keys in sampler:
            batch = training_batch(self.store, config, [(n, self.indices[i]) for n, i in keys])
            batch["labelled"] = batch["labelled"][:, self.columns]
            yield batch

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and its parts."""
        network, row = self.network, self.row
        out = network(
            self.taps(batch["image"]) if row.screen else network.normalise(batch["image"])
        )
        adjusted = out
        if self.offset.numel() and "segmentation" in out.raw:
            logits = out.raw["segmentation"] + self.offset
            adjusted = replace(out, raw={**out.raw, "segmentation": logits})
        parts, values = supervised(
            adjusted.raw, batch, batch["labelled"], network.tasks, self.weights
        )
        extra: dict[str, Tensor] = {}
        for key, term in self.terms.items():
            extra[key] = self.term_weights[key] * term(batch, adjusted if term.adjusted else out)
        if row.answers:
            for key, value in own.knowledge(network, batch).items():
                extra[f"answers_{key}"] = row.knowledge * value
            if row.transfer:
                scale = self.term_weights["distillation"]
                w = self.weights if row.transfer == "instead" else {"segmentation": 0.0}
                extra["transfer"] = scale * own.transfer(network, batch, adjusted.raw, w)
        if isinstance(network.added, ClassMemory):
            place = network.names.index("segmentation")
            extra["memory"] = 0.3 * network.added.learn(
                network.tokens["segmentation"], batch["segmentation"], batch["labelled"][:, place]
            )
        if isinstance(network.added, RepairedRetrieval):
            extra["tke"] = self.term_weights["tke"] * network.added.knowledge_loss()
        every = {**parts, **extra}
        total = torch.stack(list(every.values())).sum()
        return total, {key: float(v.detach()) for key, v in every.items()}

    @torch.no_grad()
    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the frozen backbone's features of this step's batch, computed by the first row."""
        if not hasattr(self, "known"):
            place = KEPT / "taps"
            place.mkdir(exist_ok=True)
            rows, length = STEPS * 16, 8 * sum(c * h * w for c, h, w in _SHAPES)
            path = place / f"{self.row.start}-seed{self.teacher_seed}-batches{self.seed}"
            made = path.is_file()
            self.known = np.memmap(path, np.float16, "r+" if made else "w+", shape=(rows, length))
        line = self.known[self.step]
        if not line[:64].any():
            with torch.inference_mode():
                seen = self.network.backbone(self.network.normalise(image))
            line[:] = torch.cat([x.contiguous().flatten() for x in seen[1:]]).half().numpy()
        flat = torch.from_numpy(line.astype(np.float32))
        sizes = [8 * c * h * w for c, h, w in _SHAPES]
        parts = [
            x.view(8, *shape).contiguous(memory_format=torch.channels_last)
            for x, shape in zip(flat.split(sizes), _SHAPES)
        ]
        return (parts[0].new_zeros(()), *parts)

    def go(self, say: Any = print) -> None:
        """Train to the end."""
        place = folder(self.name, self.seed)
        place.mkdir(parents=True, exist_ok=True)
        kept = place / "state.pt"
        if kept.is_file():
            self._continue(torch.load(kept))
        sums: dict[str, float] = {}
        while self.step < self.steps:
            epoch = self.step // STEPS
            begun = time.monotonic()
            self.network.train()
            if self.row.frozen:
                for part in self.row.frozen:
                    getattr(self.network, part).eval()
            sums = {}
            for batch in self.batches(epoch):
                loss, values = self.loss(batch)
                if not math.isfinite(float(loss.detach())):
                    raise RuntimeError(f"loss is {loss} in step {self.step}: {values}")
                self.optimiser.zero_grad()
                loss.backward()
                for part in (self.network, *self.terms.values()):
                    nn.utils.clip_grad_norm_(part.parameters(), CLIP_NORM)
                self.optimiser.step()
                self.schedule.step()
                self.step += 1
                if self.step % EMA_EVERY == 0:
                    self._average()
                for key, value in values.items():
                    sums[key] = sums.get(key, 0.0) + value / STEPS
            spent = time.monotonic() - begun
            self.seconds += spent
            said = " ".join(f"{key} {value:.3f}" for key, value in sums.items())
            say(f"{self.name} {self.seed} epoch {epoch + 1} {STEPS * 8 / spent:.1f}/s {said}")
            if self.step < self.steps:
                torch.save(self._state(), kept)
        self.network.load_state_dict(self.network.state_dict() | self.averaged)
        torch.save(self.network.state_dict(), place / "network.pt")
        (place / "seconds.txt").write_text(str(self.seconds))
        kept.unlink(missing_ok=True)

    def _average(self) -> None:
        decay = self.config.optimiser.ema_decay**EMA_EVERY
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                if not value.is_floating_point():
                    continue
                if key in self.averaged:
                    self.averaged[key].lerp_(value, 1 - decay)
                else:
                    self.averaged[key] = value.clone()

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "terms": self.terms.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self.seconds,
        }

    def _continue(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.terms.load_state_dict(state["terms"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.averaged = state["averaged"]
        self.step, self.seconds = state["step"], state["seconds"]
