# SPDX-License-Identifier: Apache-2.0
"""The Lightning module: one training step, validation on held-out frames, the optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from proto_mtl_ros.model.deploy import decode
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.retrieval import entropy
from proto_mtl_ros.tasks import NYU13, LabelSet, Metric, tasks_over
from proto_mtl_ros.training.auxiliary import Setup
from proto_mtl_ros.training.checkpoint import LABEL_SET
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.losses import WEIGHTINGS, logit_offset, supervised
from proto_mtl_ros.training.monitor import TOTAL, FiniteGuard
from proto_mtl_ros.training.processes import averaged
from proto_mtl_ros.training.start import starting_network

CLIP_NORM = 1.0


class MultiTaskModule(L.LightningModule):
    """Trains a ``ProtoMTL`` on partially annotated batches.

    ``steps`` are those of the whole run; ``class_counts`` [C] are for the logit adjustment.
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
        self.weights = {name: config.loss.weight(name) for name in config.tasks}
        taught = frozenset(config.distillation.teachers)
        active = config.loss.active
        self.auxiliary = nn.ModuleDict(
            {
                name: kind(Setup(self.tasks, self.network, options, self.weights, taught))
                for name, (kind, options) in active.items()
            }
        )
        self.auxiliary_weights = {name: options.weight for name, (_, options) in active.items()}
        offset = torch.zeros(0)
        if config.loss.logit_adjustment and class_counts is not None:
            offset = logit_offset(class_counts, config.loss.logit_adjustment)
        self.register_buffer("_offset", offset.view(1, -1, 1, 1), persistent=False)
        self.weighting = WEIGHTINGS[config.loss.weighting](config.tasks, config.seed)
        self.guard = FiniteGuard(scaled=config.hardware.precision == "fp16")
        self.parts = [*config.tasks, *self.auxiliary, TOTAL]
        self.loss = torch.zeros(())
        self._separate: tuple[dict[str, Tensor], Tensor] = {}, self.loss
        self.metrics: dict[str, Metric] = {}
        self._freeze()
        # Lightning leaves the modes of modules as they are when a training starts
        self.train()

    def _freeze(self) -> None:
        network, options = self.network, self.config.optimiser
        frozen: list[Any] = []
        if options.frozen_blocks:
            frozen += network.backbone.parts()[: 1 + options.frozen_blocks]  # type: ignore[operator]
        if options.frozen_tasks:
            frozen += [network.backbone, *filter(None, [network.prototypes])]
        for name in options.frozen_tasks:
            place = network.names.index(name)
            frozen += [parts[place] for parts in (network.decoders, network.krt, network.heads)]
        for part in frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> MultiTaskModule:
        """Set the mode; batch norms keep the statistics they have where so configured."""
        super().train(mode)
        if mode and self.config.optimiser.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the class ids mean: a bundle is made from the checkpoint alone."""
        checkpoint[LABEL_SET] = asdict(self.label_set)

    @property
    def _logs_this_step(self) -> bool:
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def training_step(self, batch: dict[str, Any], _index: int) -> Tensor:
        out = self.forward(batch["image"])
        losses, extra, values = self.losses(batch, out)
        loss = self.weighting(losses, self.global_step) + extra
        values[TOTAL] = self.loss = loss.detach()
        self._separate = (losses, extra)
        self.guard.watch(batch["frame_id"], values)
        if self._logs_this_step:
            for name, value in averaged(values, self.parts).items():
                self._note("loss" if name == TOTAL else f"loss/{name}", value)
            if out.affinity is not None:
                self._log_affinity(out.affinity.detach())
        return loss

    def forward(self, images: Tensor) -> NetworkOutput:
        """Return the network's output on uint8 [B, H, W, 3], in float32 whatever it computes in."""
        out = self.network(self.network.normalise(images))
        if self.config.hardware.precision == "fp32":
            return out
        return NetworkOutput(
            {name: raw.float() for name, raw in out.raw.items()},
            out.pooled.float(),
            None if out.affinity is None else out.affinity.float(),
            tuple(level.float() for level in out.pyramid),
            {name: features.float() for name, features in out.features.items()},
        )

    def losses(
        self, batch: dict[str, Any], out: NetworkOutput
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Return the supervised loss of each task that the batch has labels of, the weighted sum of
        the auxiliary losses, and the plain value of each part for the log.
        """
        with torch.autocast(self.device.type, enabled=False):
            adjusted = out
            if self._offset.numel() and "segmentation" in out.raw:
                logits = out.raw["segmentation"] + self._offset
                adjusted = replace(out, raw={**out.raw, "segmentation": logits})
            losses, values = supervised(
                adjusted.raw, batch, batch["labelled"], self.tasks, self.weights
            )
            # every parameter has a gradient in every step, if a zero one: processes wait for it
            touched = (*out.raw.values(), out.pooled, *self.weighting.parameters())
            extra = torch.stack([tensor.sum() for tensor in touched]).sum() * 0.0
            for name, part in self.auxiliary.items():
                value = part(batch, adjusted if part.adjusted else out)
                extra = extra + self.auxiliary_weights[name] * value
                values[name] = value.detach()
        return losses, extra, values

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        if self.weighting.separates:
            self.weighting.backward(*self._separate, self, self.global_step)
        else:
            super().backward(loss, *arguments, **options)

    def configure_gradient_clipping(  # type: ignore[override]
        self, optimizer: Any, gradient_clip_val: float | None = None, **_: Any
    ) -> None:
        """Clip the network and each auxiliary loss by its own norm; stop where one is not finite.

        An auto-encoder that starts with large gradients must not take the network's share.
        """
        norms = []
        for part in (self.network, self.weighting, *self.auxiliary.values()):
            parameters = [p for p in part.parameters() if p.grad is not None]
            if parameters:
                norms.append(nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
        self.guard.check(
            torch.stack(norms).max() if norms else torch.zeros(()),
            self,
            f"epoch {self.current_epoch + 1}, step {self.global_step + 1}",
            "look at their labels, or lower optimiser.lr; the last epoch's checkpoint is as it was",
        )
        if norms and self._logs_this_step:
            self._note("gradient_norm", norms[0])

    def on_train_epoch_end(self) -> None:
        self.weighting.epoch_ended()

    def _note(self, name: str, value: Any) -> None:
        # all processes have the same value
        self.log(name, value, rank_zero_only=True)

    def _log_affinity(self, affinity: Tensor) -> None:
        """Log the entropy of the affinity and the T x T association (collapse shows in both)."""
        self._note("affinity/entropy", entropy(affinity).mean())
        association = affinity.mean((0, 2))
        for row, of in enumerate(self.config.tasks):
            for column, to in enumerate(self.config.tasks):
                self._note(f"association/{of}/{to}", association[row, column])

    def on_validation_epoch_start(self) -> None:
        self.metrics = {task.name: task.metric() for task in self.tasks}

    def validation_step(self, batch: dict[str, Any], _index: int) -> None:
        out = self.forward(batch["image"])
        predictions = {n: m.cpu().numpy() for n, m in decode(out.raw, self.tasks).items()}
        factor = batch["depth_factor"].cpu().numpy()[:, None, None]
        labelled = batch["labelled"].cpu().numpy()
        for index, task in enumerate(self.tasks):
            both = predictions[task.name], batch[task.name].cpu().numpy()
            found, labels = (task.from_canonical(maps, factor) for maps in both)
            for frame in np.flatnonzero(labelled[:, index]):
                self.metrics[task.name].update(found[frame], labels[frame])

    def on_validation_epoch_end(self) -> None:
        for name, metric in self.metrics.items():
            for figure, value in metric.compute().items():
                if not math.isnan(value):  # no held-out frame has such a label
                    self._note(f"held_out/{name}/{figure}", value)

    def configure_optimizers(self) -> Any:
        options = self.config.optimiser
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                # norms, biases and prototypes are not decayed
                decay = parameter.ndim > 1 and "prototypes" not in name
                backbone = name.startswith("network.backbone.")
                groups.setdefault((backbone, decay), []).append(parameter)
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": options.lr * (options.backbone_lr_factor if backbone else 1.0),
                    "weight_decay": options.weight_decay if decay else 0.0,
                }
                for (backbone, decay), parameters in groups.items()
            ],
            # a fused step would unscale fp16 gradients itself, after they were clipped
            fused=self.config.hardware.precision != "fp16",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._learning_rate_factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then 1, then half a cosine to zero over the last epochs."""
        options = self.config.optimiser
        rise = min(1.0, (step + 1) / max(1, options.warmup_steps))
        decay = self.steps * min(1.0, options.decay_epochs / self.config.epochs)
        progress = max(0.0, min(1.0, (step - (self.steps - decay)) / decay))
        return rise * 0.5 * (1 + math.cos(math.pi * progress))
