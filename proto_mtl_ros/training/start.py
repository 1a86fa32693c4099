# SPDX-License-Identifier: Apache-2.0
"""What a training starts from: ImageNet's backbone, or the weights of a bundle."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from proto_mtl_ros.errors import BundleError, ConfigError
from proto_mtl_ros.files.tensors import read_safetensors
from proto_mtl_ros.model import ProtoMTL, build_network
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.tasks import Task
from proto_mtl_ros.training.config import DistillationConfig, ModelConfig, TrainConfig

_LOG = logging.getLogger(__name__)

_OF_A_TASK = re.compile(r"(decoders|heads)\.(\d+)\.(.*)")


def starting_network(config: TrainConfig, tasks: Sequence[Task]) -> ProtoMTL:
    """Return the network as it is before the first step; ConfigError or BundleError where there is
    none."""
    options = config.model.arguments
    options["backbone_weights"] = config.backbone_weights
    try:
        network = build_network(tasks, pretrained=config.start_from is None, **options)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    if config.start_from is not None:
        _take_over(network, Bundle.load(config.start_from))
    return network


def continued_from(config: TrainConfig, where: str) -> TrainConfig:
    """Return the same run, started from another bundle.

    The network's parts, its input size and its canonical camera are the bundle's; and it teaches
    what the bundle before it was to teach.
    """
    manifest = Bundle.load(where).manifest
    own = {k: v for k, v in manifest.architecture.items() if k in ModelConfig.model_fields}
    if "slots" in manifest.architecture:  # a network of before 0.3: today's takes its place
        del own["retrieval"]
    height, width = manifest.input_size
    teachers = {
        task: where if teacher == config.start_from else teacher
        for task, teacher in config.distillation.teachers.items()
    }
    return config.model_copy(
        update={
            "start_from": where,
            "input_height": height,
            "input_width": width,
            "canonical_fx": manifest.canonical_fx,
            "model": ModelConfig.model_validate(own),
            **({"distillation": DistillationConfig(teachers=teachers)} if teachers else {}),
        }
    )


def _take_over(network: ProtoMTL, bundle: Bundle) -> None:
    """Copy the weights of a bundle that fit; a task keeps its own whatever its place is."""
    stored = read_safetensors(bundle.weights_path, BundleError, "export the model again")
    found = _by_task(stored, bundle.manifest.tasks)
    wanted = _by_task(network.state_dict(), network.names)
    taken = {k: v for k, v in found.items() if k in wanted and wanted[k].shape == v.shape}
    if not any(key.startswith("backbone.") for key in taken):
        raise ConfigError(
            f"start_from: {bundle.name} has another backbone than this network; set model.backbone"
        )
    with torch.no_grad():
        for key, value in taken.items():
            wanted[key].copy_(value)
    fresh = sorted({".".join(key.split(".")[:3]) for key in wanted if key not in taken})
    if fresh:
        _LOG.info("start_from %s: learnt anew: %s", bundle.name, ", ".join(fresh))


def _by_task(state: Mapping[str, Tensor], tasks: Sequence[str]) -> dict[str, Tensor]:
    """Return tensors (views, where a task has a part of one) under names with tasks, not places."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        match = _OF_A_TASK.fullmatch(key)
        if match:
            part, place, rest = match.groups()
            named[f"{part}.{tasks[int(place)]}.{rest}"] = value
        else:
            named[key] = value
    return named
