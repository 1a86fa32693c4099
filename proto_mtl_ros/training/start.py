# SPDX-License-Identifier: Apache-2.0
"""What a training starts from: ImageNet's backbone, or the weights of a bundle."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model import ProtoMTL
from ..runtime.bundle import Bundle
from ..tasks import Task
from .config import TrainConfig

_LOG = logging.getLogger(__name__)

_OF_A_TASK = re.compile(r"(decoders|krt|heads)\.(\d+)\.(.*)")
_PROTOTYPES = "prototypes.vectors"


def starting_network(config: TrainConfig, tasks: Sequence[Task]) -> ProtoMTL:
    """Return the network as it is before the first step.

    Raises:
        ConfigError: an option of the model is not possible, weights are missing, or the bundle
            that ``config.start_from`` names has another backbone.
        BundleError: there is no such bundle, or it is damaged.
    """
    options = config.model.model_dump()
    try:
        network = ProtoMTL(
            tasks,
            pretrained=config.start_from is None,
            backbone_weights=config.backbone_weights,
            **options,
        )
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    if config.start_from is not None:
        _take_over(network, Bundle.load(config.start_from))
    return network


def _take_over(network: ProtoMTL, bundle: Bundle) -> None:
    """Copy the weights of a bundle that fit; a task keeps its own whatever its place is."""
    import safetensors.torch

    stored = safetensors.torch.load_file(bundle.weights_path)
    found = _by_task(stored, bundle.manifest.tasks)
    state = network.state_dict()
    wanted = _by_task(state, network.names)
    taken = {key: value for key, value in found.items() if _fits(wanted.get(key), value)}
    if not any(key.startswith("backbone.") for key in taken):
        raise ConfigError(
            f"start_from: {bundle.name} has another backbone than this network; set model.backbone"
        )
    with torch.no_grad():
        for key, value in taken.items():
            wanted[key].copy_(value)
    fresh = sorted({".".join(key.split(".")[:3]) for key in wanted if key not in taken})
    if fresh:
        _LOG.warning("start_from %s: learnt anew: %s", bundle.name, ", ".join(fresh))


def _fits(mine: Tensor | None, other: Tensor) -> bool:
    return mine is not None and mine.shape == other.shape


def _by_task(state: Mapping[str, Tensor], tasks: Sequence[str]) -> dict[str, Tensor]:
    """Return tensors (views, where a task has a part of one) under names with tasks, not places."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        match = _OF_A_TASK.fullmatch(key)
        if match:
            part, place, rest = match.groups()
            named[f"{part}.{tasks[int(place)]}.{rest}"] = value
        elif key == _PROTOTYPES:
            named |= {f"prototypes.{task}": value[row] for row, task in enumerate(tasks)}
        else:
            named[key] = value
    return named
