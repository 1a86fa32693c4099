# SPDX-License-Identifier: Apache-2.0
"""Gradient methods: the tasks' gradients on shared parameters are made to agree before they add up.

The aggregation itself is ``torchjd``'s, an optional dependency (extra ``gradients``):

- PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020
- CAGrad: Liu et al., "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS 2021
- UPGrad: Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", 2024

Shared are the backbone, the prototypes, and everything else that belongs to no task. Decoders, KRT
blocks and heads get the plain gradient of the sum, and so does everything from the auxiliary
losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.losses import Weighting, weighting
from proto_mtl_ros.training.processes import world_size

_OF_A_TASK = ("decoders.", "krt.", "heads.")
_CAGRAD_RADIUS = 0.4
"""c of CAGrad: the value of its authors for NYUv2."""


def shared_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters of a ``ProtoMTL`` that all tasks use."""
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not name.startswith(_OF_A_TASK)
    ]


class GradientAggregation(Weighting):
    """Backward pass that aggregates the gradients of several losses.

    All methods are scaled so that gradients without a conflict add up as in the plain sum (CAGrad
    with radius 0), and are linear in a common factor of the losses. ConfigError without the
    library, or in a distributed training, where each process would aggregate its own gradients."""

    separates = True
    aggregator = ""
    options: dict[str, Any] = {}
    scaled = True
    """Whether the aggregation is a mean, which is multiplied by the number of losses."""

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__(names, seed)
        if world_size() > 1:
            raise ConfigError("gradient methods work in one process: train on one device")
        try:
            from torchjd import aggregation

            # in a tuple: it is no part of what is trained
            self._aggregator = (getattr(aggregation, self.aggregator)(**self.options),)
        except ImportError as error:
            raise ConfigError(
                f"loss.weighting: {self.aggregator} needs libraries that are not installed"
                f" ({str(error).splitlines()[0]}); pip install 'proto_mtl_ros[gradients]'"
            ) from None

    def backward(
        self, losses: dict[str, Tensor], extra: Tensor, trained: nn.Module, step: int
    ) -> None:
        shared = shared_parameters(trained.network)  # type: ignore[arg-type]
        known = {id(parameter) for parameter in shared}
        others = [p for p in trained.parameters() if p.requires_grad and id(p) not in known]
        wanted = [loss for loss in losses.values() if loss.requires_grad]
        if extra.requires_grad:
            inputs = [*shared, *others]
            torch.autograd.backward([extra], inputs=inputs, retain_graph=bool(wanted))
        rows = []
        for index, loss in enumerate(wanted):
            gradients = torch.autograd.grad(
                loss,
                [*shared, *others],
                retain_graph=index < len(wanted) - 1,
                allow_unused=True,
                materialize_grads=False,
            )
            rows.append(_flat(shared, gradients[: len(shared)]))
            _accumulate(others, gradients[len(shared) :])
        if rows:
            _accumulate(shared, _split(shared, self._aggregated(torch.stack(rows), step)))

    def _aggregated(self, jacobian: Tensor, step: int) -> Tensor:
        """Return [P] from the Jacobian [n, P]."""
        # a loss without a valid pixel has no gradient and no say
        norms = jacobian.norm(dim=1)
        jacobian = jacobian[norms != 0]
        if len(jacobian) < 2 or not bool(torch.isfinite(norms).all()):
            return jacobian.sum(0)
        with torch.random.fork_rng(devices=[]):
            # PCGrad visits the other tasks in an order drawn from (seed, step), by this generator
            # alone: torch.manual_seed would reseed the devices' as well
            torch.default_generator.manual_seed(self.seed * 1_000_003 + step)
            return (float(len(jacobian)) if self.scaled else 1.0) * self._aggregator[0](jacobian)


@weighting("pcgrad")
class PCGrad(GradientAggregation):
    aggregator, scaled = "PCGrad", False


@weighting("cagrad")
class CAGrad(GradientAggregation):
    aggregator, options = "CAGrad", {"c": _CAGRAD_RADIUS}


@weighting("upgrad")
class UPGrad(GradientAggregation):
    aggregator = "UPGrad"


def _flat(parameters: list[nn.Parameter], gradients: Iterable[Tensor | None]) -> Tensor:
    """Return the gradients as one vector, zeros where there is none."""
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
            for parameter, gradient in zip(parameters, gradients)
        ]
    )


def _split(parameters: list[nn.Parameter], vector: Tensor) -> list[Tensor]:
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape) for part, parameter in zip(parts, parameters)]


def _accumulate(parameters: list[nn.Parameter], gradients: Iterable[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        else:
            parameter.grad += gradient
