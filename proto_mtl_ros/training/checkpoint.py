# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill, whether a run may be continued, and the network in one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import read_json, write_bytes
from proto_mtl_ros.files.tensors import read_torch
from proto_mtl_ros.model import ProtoMTL, build_network
from proto_mtl_ros.tasks import NYU13, LabelSet, tasks_over
from proto_mtl_ros.training.config import CONFIG, LAST, TrainConfig
from proto_mtl_ros.training.start import starting_network
from proto_mtl_ros.training.upgrade import upgraded

LABEL_SET = "label_set"
"""Key of a checkpoint: name, classes and palette of the segmentation labels."""

_MAY_CHANGE = {
    "epochs", "optimiser.decay_epochs", "threads", "validations", "notes", "hardware.devices",
}  # fmt: skip
"""What a continued run may have changed: its length, and what does not touch the training."""

_ADVICE = "choose another --out, or delete it to start again"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so a kill leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):  # type: ignore[no-untyped-def]
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = True) -> Any:
        return read_torch(Path(path), ConfigError, _ADVICE)


def check_resumable(config: TrainConfig, output: Path) -> None:
    """Raise ConfigError for a run that was started with another configuration.

    A key that is younger than the run counts with its default, which is how it was then.
    """
    started, last = output / CONFIG, output / LAST
    if not last.is_file():
        return
    read_torch(last, ConfigError, _ADVICE)
    if not started.is_file():
        return
    written = upgraded(read_json(started, ConfigError))
    if not isinstance(written, dict):
        raise ConfigError(f"{started} is no configuration; {_ADVICE}")
    with contextlib.suppress(ValueError):  # of another version: compared as it is
        written = TrainConfig.model_validate(written).model_dump(mode="json")
    for key, before, now in differences(written, config.model_dump(mode="json")):
        if key not in _MAY_CHANGE:
            raise ConfigError(f"{output} was trained with {key} = {before}, not {now}; {_ADVICE}")


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, before, now) of what differs between two configurations, sorted."""
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append((prefix + key, old, new))
    return found


def network_from_checkpoint(path: Path, config: TrainConfig) -> tuple[ProtoMTL, int]:
    """Return the network with the averaged (EMA) weights and the epochs it was trained for.

    Of the weights that it started from, ``config.start_share`` is mixed in. Matrices and kernels
    are rounded to fp16, as a bundle stores them, so that what is measured holds for the bundle.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {path} not found; `proto-mtl train` writes it")
    checkpoint = read_torch(path, ConfigError, "train again")
    try:
        # Lightning's averaging callback stores the averaged weights as the state of the model
        state = {
            key.removeprefix("network."): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith("network.")
        }
        epochs = int(checkpoint["epoch"]) + 1
        tasks = tasks_over(config.tasks, _label_set(checkpoint))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); train again"
        ) from None
    if config.start_share:
        state = _mixed(state, starting_network(config, tasks).state_dict(), config.start_share)
    network = build_network(tasks, **config.model.arguments)
    try:
        network.load_state_dict(
            {k: v.half().float() if is_half(v) else v for k, v in state.items()}
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{path} was trained with another configuration: {line}") from None
    return network.eval(), epochs


def _label_set(checkpoint: dict[str, Any]) -> LabelSet:
    """Return the label set of a checkpoint; those of earlier versions are NYUv2's."""
    if LABEL_SET not in checkpoint:
        return NYU13
    stored = checkpoint[LABEL_SET]
    palette = tuple(tuple(colour) for colour in stored["palette"])
    return LabelSet(stored["name"], tuple(stored["classes"]), palette)


def _mixed(learnt: dict[str, Tensor], start: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the learnt weights with so much of those they started from; counters stay."""
    return {
        key: torch.lerp(value, start[key], share)
        if key in start and start[key].shape == value.shape and value.is_floating_point()
        else value
        for key, value in learnt.items()
    }


def is_half(tensor: Tensor) -> bool:
    """Matrices and kernels are stored as fp16; norms, biases and statistics keep fp32."""
    return tensor.is_floating_point() and tensor.ndim >= 2
