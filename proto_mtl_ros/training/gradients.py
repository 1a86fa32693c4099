# SPDX-License-Identifier: Apache-2.0
"""Gradient methods: the tasks' gradients on shared parameters are made to agree before they add up.

The aggregation itself is ``torchjd``'s, an optional dependency (extra ``gradients``):

- PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020
- CAGrad: Liu et al., "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS 2021
- UPGrad: Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", 2024

Shared are the backbone, the prototypes, and everything else that belongs to no task. Decoders, KRT
blocks and heads get the plain gradient of the sum, and so does everything from the extra terms.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from proto_mtl_ros.errors import ConfigError

METHODS = ("sum", "pcgrad", "cagrad", "upgrad")
"""The values of ``config.loss.gradients``; "sum" is the plain gradient."""

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


class GradientAggregation:
    """Backward pass that aggregates the gradients of several losses.

    Args:
        method: one of ``METHODS``.
        seed: PCGrad visits the other tasks in an order drawn from (seed, step).

    Raises:
        ConfigError: the method is unknown, a library that it needs is missing, or the training is
            distributed, where each process would aggregate its own gradients.
    """

    def __init__(self, method: str, seed: int = 0) -> None:
        if method not in METHODS:
            raise ConfigError(f"loss.gradients: unknown {method!r}; there are {', '.join(METHODS)}")
        self.method, self.seed = method, seed
        self._aggregator = None if method == "sum" else _aggregator(method)
        if self._aggregator is not None and _distributed():
            raise ConfigError(
                f"loss.gradients: {method} works in one process; train on one device, or choose sum"
            )

    def backward(
        self,
        losses: dict[str, Tensor],
        extra: Tensor | None,
        shared: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        step: int,
    ) -> None:
        """Add to ``grad`` of the parameters, like ``Tensor.backward``; the graph is freed.

        All methods are scaled so that gradients without a conflict add up as in the plain sum
        (CAGrad with radius 0), and are linear in a common factor of the losses: those that a
        gradient scaler of mixed precision has scaled may be given.

        Args:
            losses: per present task, a scalar. Absent tasks have no row in the Jacobian.
            extra: what else is minimised, a scalar; its gradient is added as it is.
            shared: parameters on which the tasks' gradients are aggregated.
            others: parameters that get the gradient of the sum.
            step: optimiser steps so far.
        """
        shared = [parameter for parameter in shared if parameter.requires_grad]
        others = [parameter for parameter in others if parameter.requires_grad]
        wanted = [loss for loss in losses.values() if loss.requires_grad]
        if self._aggregator is None or len(wanted) < 2:
            total = [*wanted, *([extra] if extra is not None and extra.requires_grad else [])]
            if total:
                torch.autograd.backward(total, inputs=[*shared, *others])
            return
        if extra is not None and extra.requires_grad:
            torch.autograd.backward([extra], inputs=[*shared, *others], retain_graph=True)
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
        _accumulate(shared, _split(shared, self._aggregated(torch.stack(rows), step)))

    def _aggregated(self, jacobian: Tensor, step: int) -> Tensor:
        """Return [P] from the Jacobian [n, P]."""
        assert self._aggregator is not None
        norms = jacobian.norm(dim=1)
        # a loss without a valid pixel has no gradient and no say; where gradients overflowed in
        # mixed precision the sum says so, and the scaler skips the step
        jacobian = jacobian[norms != 0]
        if len(jacobian) < 2 or not bool(torch.isfinite(norms).all()):
            return jacobian.sum(0)
        factor = 1.0 if self.method == "pcgrad" else float(len(jacobian))
        with torch.random.fork_rng(devices=[]):
            # this generator alone: torch.manual_seed would reseed the devices' as well
            torch.default_generator.manual_seed(self.seed * 1_000_003 + step)
            return factor * self._aggregator(jacobian)


def _aggregator(method: str) -> nn.Module:
    try:
        from torchjd import aggregation

        if method == "pcgrad":
            return aggregation.PCGrad()
        if method == "cagrad":
            return aggregation.CAGrad(c=_CAGRAD_RADIUS)
        return aggregation.UPGrad()
    except ImportError as error:
        raise ConfigError(
            f"loss.gradients: {method} needs libraries that are not installed"
            f" ({str(error).splitlines()[0]}); pip install 'proto_mtl_ros[gradients]'"
        ) from None


def _distributed() -> bool:
    distributed = torch.distributed
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def _flat(parameters: list[nn.Parameter], gradients: Iterable[Tensor | None]) -> Tensor:
    """Return the gradients as one vector, zeros where there is none."""
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
            for parameter, gradient in zip(parameters, gradients)
        ]
    )


def _split(parameters: list[nn.Parameter], vector: Tensor) -> list[Tensor]:
    """Return the vector in the shapes of the parameters."""
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
