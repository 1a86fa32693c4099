# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights from a file: all of them, or an error that says what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files.tensors import read_safetensors, read_torch


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a ``.safetensors`` file or in one that ``torch.save`` wrote."""
    if not path.is_file():
        raise ConfigError(f"there is no file of backbone weights at {path}")
    read = read_safetensors if path.suffix == ".safetensors" else read_torch
    content: Any = read(path, ConfigError, "give a file of weights")
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ConfigError(f"{path} holds no state dict: a file of name -> tensor is needed")
    return content


def load_weights(
    network: nn.Module, path: Path, rename: Callable[[str], str | None] = lambda key: key
) -> None:
    """Load the weights in ``path`` into ``network``: every one of them, or ConfigError names a key.

    A backbone that silently keeps random weights costs half of the accuracy. ``rename`` maps a key
    of the file to the network's, to None where there is no use for it (the head).
    """
    renamed = ((rename(key), value) for key, value in read_weights(path).items())
    state = {name: value for name, value in renamed if name is not None}
    own = network.state_dict()
    not_these = f"{path} does not hold the weights of {type(network).__name__}"
    advice = "give the file that belongs to this backbone"
    # files written before batch norm counted its batches lack the counters; they are not weights
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise ConfigError(f"{not_these}: {_keys(missing)} missing; {advice}")
    unknown = [key for key in state if key not in own]
    if unknown:
        raise ConfigError(f"{not_these}: {_keys(unknown)} is none of its own; {advice}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(own[key].shape)}"
            raise ConfigError(f"{not_these}: {key} is {shapes}; {advice}")
    network.load_state_dict(state, strict=False)


def _keys(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
