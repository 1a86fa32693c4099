# SPDX-License-Identifier: Apache-2.0
"""The Lightning module: one training step, validation on held-out frames, the optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from ..evaluation.metrics import Metric, metric_for
from ..model.decoder import upsample
from ..model.deploy import decode_depth, decode_normals
from ..model.network import RAW_STRIDE
from ..model.prototypes import entropy
from ..tasks import NYU13, LabelSet, tasks_over
from .checkpoint import LABEL_SET
from .config import TrainConfig
from .losses import logit_offset, supervised
from .start import starting_network
from .terms import TERMS


class MultiTaskModule(L.LightningModule):
    """Trains ``ProtoMTL`` on partially annotated batches.

    Args:
        config: the run.
        steps: optimiser steps of the whole run, for the schedule.
        label_set: the classes that segmentation labels count in.
        class_counts: labelled pixels of each class [C], for the logit adjustment.
    """

    _offset: Tensor

    def __init__(
        self,
        config: TrainConfig,
        steps: int,
        label_set: LabelSet = NYU13,
        class_counts: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config, self.steps, self.label_set = config, steps, label_set
        self.tasks = tasks_over(config.tasks, label_set)
        self.network = starting_network(config, self.tasks)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights = config.loss.model_dump()
        self.terms = nn.ModuleDict(
            {
                name: term(self.tasks, self.network, config)
                for name, term in TERMS.items()
                if self.weights[name] > 0
            }
        )
        offset = torch.zeros(0)
        if config.loss.logit_adjustment and class_counts is not None:
            offset = logit_offset(class_counts, config.loss.logit_adjustment)
        self.register_buffer("_offset", offset.view(1, -1, 1, 1), persistent=False)
        self.metrics: dict[str, Metric] = {}
        if config.optimiser.frozen_blocks:
            for part in self.network.backbone.parts()[: 1 + config.optimiser.frozen_blocks]:  # type: ignore[operator]
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> MultiTaskModule:
        """Set the mode; the backbone's batch norms stay as ImageNet left them if so configured."""
        super().train(mode)
        if mode and self.config.optimiser.freeze_backbone_norm:
            for module in self.network.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the class ids mean: a bundle is made from the checkpoint alone."""
        checkpoint[LABEL_SET] = asdict(self.label_set)

    def training_step(self, batch: dict[str, Any], _index: int) -> Tensor:
        out = self.network(self.network.normalise(batch["image"]))
        raw = dict(out.raw)
        if self._offset.numel() and "segmentation" in raw:
            raw["segmentation"] = raw["segmentation"] + self._offset
        losses, means = supervised(raw, batch, batch["labelled"], self.tasks, self.weights)
        # a batch without any label still has a gradient: zero
        loss = sum(losses.values(), start=out.raw[self.tasks[0].name].sum() * 0.0)
        for name, term in self.terms.items():
            value = term(batch, out)
            loss = loss + self.weights[name] * value
            means[name] = value.detach()
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"loss is {float(loss)} at frames {batch['frame_id']}")
        self.log("loss", loss, prog_bar=True)
        self.log_dict({f"loss/{name}": value for name, value in means.items()})
        if self.global_step % 20 == 0 and out.affinity is not None:
            self._log_affinity(out.pooled.detach(), out.affinity.detach())
        return loss

    def _log_affinity(self, pooled: Tensor, affinity: Tensor) -> None:
        """Log the entropy of the affinity and the T x T association (collapse shows in both)."""
        self.log("affinity/entropy", entropy(affinity).mean())
        association = affinity.mean((0, 2))
        for row, of in enumerate(self.config.tasks):
            for column, to in enumerate(self.config.tasks):
                self.log(f"association/{of}/{to}", association[row, column])
        assert self.network.prototypes is not None
        similarity = self.network.prototypes.similarity(pooled)
        self.log("affinity/slots_used", _slots_used(similarity))

    def on_validation_epoch_start(self) -> None:
        self.metrics = {task.name: metric_for(task) for task in self.tasks}

    def validation_step(self, batch: dict[str, Any], _index: int) -> None:
        raw = self.network(self.network.normalise(batch["image"])).raw
        factor = batch["depth_factor"].cpu().numpy()[:, None, None]
        predictions: dict[str, np.ndarray] = {}
        if "segmentation" in raw:
            logits = upsample(raw["segmentation"], RAW_STRIDE)
            predictions["segmentation"] = logits.argmax(1).byte().cpu().numpy()
        if "depth" in raw:
            predictions["depth"] = decode_depth(raw["depth"], RAW_STRIDE).cpu().numpy() * factor
        if "normals" in raw:
            vectors = decode_normals(raw["normals"], RAW_STRIDE).permute(0, 2, 3, 1)
            predictions["normals"] = vectors.cpu().numpy()
        for task in self.tasks:
            labels = batch[task.name].cpu().numpy()
            if task.name == "depth":
                labels = labels * factor
            for frame in np.flatnonzero(batch["labelled"][:, self.tasks.index(task)].cpu()):
                self.metrics[task.name].update(predictions[task.name][frame], labels[frame])

    def on_validation_epoch_end(self) -> None:
        for name, metric in self.metrics.items():
            for figure, value in metric.compute().items():
                self.log(f"held_out/{name}/{figure}", value)

    def configure_optimizers(self) -> Any:
        options = self.config.optimiser
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            # norms, biases and prototypes are not decayed
            decay = parameter.ndim > 1 and "prototypes" not in name
            groups.setdefault((name.startswith("network.backbone."), decay), []).append(parameter)
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": options.lr * (options.backbone_lr_factor if backbone else 1.0),
                    "weight_decay": options.weight_decay if decay else 0.0,
                }
                for (backbone, decay), parameters in groups.items()
            ],
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._learning_rate_factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(  # type: ignore[override]
        self, optimizer: Any, gradient_clip_val: float | None = None, **_: Any
    ) -> None:
        """Clip the network and each term by its own norm.

        An auto-encoder that starts with large gradients must not take the network's share.
        """
        if gradient_clip_val:
            for part in (self.network, *self.terms.values()):
                parameters = [p for p in part.parameters() if p.grad is not None]
                if parameters:
                    nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then 1, then half a cosine to zero over the last epochs."""
        options = self.config.optimiser
        rise = min(1.0, (step + 1) / max(1, options.warmup_steps))
        decay = self.steps * min(1.0, options.decay_epochs / self.config.epochs)
        progress = max(0.0, min(1.0, (step - (self.steps - decay)) / decay))
        return rise * 0.5 * (1 + math.cos(math.pi * progress))


def _slots_used(similarity: Tensor) -> Tensor:
    """Return how many slots are the best one for at least one token, of all T x M."""
    best = similarity.argmax(-1)
    slots = similarity.shape[-1]
    used = torch.zeros(similarity.shape[-2] * slots, device=similarity.device)
    offset = torch.arange(similarity.shape[-2], device=similarity.device) * slots
    used[(best + offset).flatten()] = 1
    return used.sum()
