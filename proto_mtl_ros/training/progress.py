# SPDX-License-Identifier: Apache-2.0
"""What a training says of itself: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from tqdm import tqdm

from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.module import MultiTaskModule

_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{postfix}]"


class Progress(L.Callback):
    """Epoch, rate, time left of the whole run, loss, held-out figures.

    Args:
        steps: per epoch.
        epochs: after which this training stops.
    """

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

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any
    ) -> None:
        assert isinstance(pl_module, MultiTaskModule)
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
    """Return the first figure of each task, such as ``segmentation miou 0.412``.

    A task that no held-out frame has a label of has none.
    """
    found = []
    for name in tasks:
        figure = named_task(name).metrics[0]
        value = metrics.get(f"held_out/{name}/{figure}")
        if value is not None and not math.isnan(value):
            found.append(f"{name} {figure} {float(value):.3f}")
    return found


def duration(seconds: float) -> str:
    """Return a time for people: ``48 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
