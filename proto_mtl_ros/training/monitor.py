# SPDX-License-Identifier: Apache-2.0
"""What a training says of itself: progress, and numbers that broke."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

from proto_mtl_ros.errors import TrainingError
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.processes import world_size

TOTAL = "total"
"""The part that is the sum of all; named only where every other part is finite."""

_PATIENCE = 20
"""Steps in a row that a gradient scaler may skip: it halves its factor each time."""


class FiniteGuard:
    """Stops a training whose numbers broke, and says where.

    It looks at the norm of the gradient, which all processes share; the parts of the losses are
    looked at only where that is not finite, which spares a device a stop in every step. While a
    gradient scaler is at work (``scaled``), overflows are its business for a while.
    """

    def __init__(self, scaled: bool = False) -> None:
        self._patience = _PATIENCE if scaled else 0
        self._skipped = 0
        self._seen: list[tuple[Sequence[str], dict[str, Tensor]]] = []

    def watch(self, frame_ids: Sequence[str], parts: Mapping[str, Tensor]) -> None:
        self._seen.append((frame_ids, {name: value.detach() for name, value in parts.items()}))

    def check(self, norm: Tensor, module: nn.Module, where: str, advice: str) -> None:
        """Let a finite step pass; TrainingError, in every process alike, for another.

        ``norm`` is that of all gradients before clipping, ``advice`` the end of the sentence.
        """
        seen, self._seen = self._seen, []
        if bool(torch.isfinite(norm)):
            self._skipped = 0
            return
        own = [(list(ids), {n: float(v) for n, v in parts.items()}) for ids, parts in seen]
        everywhere = [own]
        if world_size() > 1:
            everywhere = [own] * world_size()
            distributed.all_gather_object(everywhere, own)
        batches = [batch for one in everywhere for batch in one]
        broken: dict[str, None] = {}
        frames: dict[str, None] = {}
        for ids, parts in batches:
            bad = {n: v for n, v in parts.items() if not abs(v) < float("inf")}
            for name in [n for n in bad if n != TOTAL] or bad:
                broken[f"{name} is {bad[name]}"] = None
                frames |= dict.fromkeys(ids)
        if not broken:
            self._skipped += 1
            if self._skipped <= self._patience:
                return
        if broken:
            what = f"the loss of {', '.join(broken)}"
        else:
            frames = dict.fromkeys(frame for ids, _ in batches for frame in ids)
            gradients = ((n, p.grad) for n, p in module.named_parameters() if p.grad is not None)
            of = next((n for n, g in gradients if not bool(torch.isfinite(g).all())), "?")
            what = f"every loss is finite, but the gradient of {of} is not"
        raise TrainingError(f"{where}: {what}; frames of the batch: {', '.join(frames)}; {advice}")


_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{postfix}]"


class Progress(L.Callback):
    """A bar on a terminal, a line per epoch elsewhere: rate, time left of the whole run,
    figures."""

    def __init__(self, config: TrainConfig, steps: int, epochs: int) -> None:
        self.config, self.steps, self.epochs = config, steps, epochs
        self._bar: Any = None
        self._started, self._first, self._shown = 0.0, 0, 0.0
        self._losses: list[torch.Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started, self._first = time.monotonic(), trainer.global_step
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=self.steps * self.epochs, initial=self._first, bar_format=_BAR, leave=True
            )

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any, **__: Any) -> None:
        self._losses.append(pl_module.loss)
        now = time.monotonic()
        if self._bar is not None and now - self._shown > 0.5:
            self._shown = now
            self._bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{self.epochs}", False)
            done = trainer.global_step - self._first
            rate = f"{done / max(now - self._started, 1e-9):.2f} it/s" if done else "first step"
            left = self._left(trainer.global_step)
            self._bar.postfix = f"{rate}, {left}, loss {float(pl_module.loss):.3f}"
            self._bar.n = trainer.global_step
            self._bar.refresh()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # each process has the loss of its own frames; the line says that of all
        loss = float(trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean"))
        self._losses = []
        if not trainer.is_global_zero:
            return
        parts = [f"epoch {trainer.current_epoch + 1}/{self.epochs}", f"loss {loss:.4f}"]
        if trainer.fit_loop.epoch_loop._should_check_val_epoch():
            parts += held_out_figures(self.config.tasks, trainer.callback_metrics)
        seconds = max(time.monotonic() - self._started, 1e-9)
        frames = (trainer.global_step - self._first) * self.config.optimiser.batch
        parts += [f"{frames / seconds:.1f} frames/s", self._left(trainer.global_step)]
        line = "  ".join(parts)
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line, file=sys.stderr)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _left(self, step: int) -> str:
        """Return the time left of the whole run, validations included, at the rate so far."""
        done, left = step - self._first, self.steps * self.epochs - step
        if done <= 0:
            return "? left"
        return f"{duration((time.monotonic() - self._started) / done * left)} left"


def held_out_figures(tasks: tuple[str, ...], metrics: Mapping[str, Any]) -> list[str]:
    """Return the first figure of each task that there is one of, as ``segmentation miou 0.412``."""
    found = []
    for name in tasks:
        figure = named_task(name).metrics[0]
        value = metrics.get(f"held_out/{name}/{figure}")
        if value is not None:
            found.append(f"{name} {figure} {float(value):.3f}")
    return found


def duration(seconds: float) -> str:
    """Return a time for people: ``48 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
