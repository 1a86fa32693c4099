# SPDX-License-Identifier: Apache-2.0
"""Keys of training configurations that the first release had: named in files, read in records."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import ConfigError

_RIVAL = "a rival's: train it by python -m benchmark"

# key: (what it was where nobody set it, what happens instead)
_REMOVED: dict[str, tuple[Any, str]] = {
    "stages": (None, "write epochs; crops have the size input_height x input_width"),
    "model.temperature": (0.5, "it is 0.5"),
    "model.ffn_expansion": (4, "it is 4"),
    "model.head_width": (48, "it is 48"),
    "model.attention": ("softmax", "linear attention is a retrieval of python -m benchmark"),
    "model.class_chain": (False, "the class chain is a retrieval of python -m benchmark"),
    "data.train_split": ("train", "it is train"),
    "data.val_split": ("val", "it is val"),
    "data.store": ("auto", "frames lie on the device if they take less than half of it"),
    "loss.gradients": ("sum", "gradient methods are weightings of python -m benchmark"),
    "loss.margin": (0.3, "it is 0.3"),
    "loss.entropy_floor": (0.7, "it is 0.7"),
    "loss.codebook_size": (512, "write loss.reconstruction: {weight: ..., codebook_size: ...}"),
    "loss.codebook_width": (128, "write loss.reconstruction: {weight: ..., codebook_width: ...}"),
    "loss.cross_task": (0.0, _RIVAL),
    "loss.joint_task": (0.0, _RIVAL),
    "loss.reconstruction": (0.0, _RIVAL),
    "optimiser.clip_norm": (1.0, "it is 1.0"),
    "optimiser.freeze_backbone_norm": (False, "freeze_norm keeps all statistics"),
}


def refuse_removed(content: Any, path: Path | str, losses: Container[str] = ()) -> None:
    """Raise ConfigError for a file with a key that is no more, and say what happens instead.

    ``losses`` are the auxiliary losses that there are; their names are no removed keys.
    """
    for key, (_, instead) in _REMOVED.items():
        section, _, name = key.rpartition(".")
        inside = content.get(section) if section and isinstance(content, dict) else content
        if isinstance(inside, dict) and name in inside and name not in losses:
            raise ConfigError(f"{path}: {key} is no longer a key: {instead}")


def upgraded(record: Any) -> Any:
    """Return a configuration that a run wrote down, without the keys that are no more.

    A key that was set to something else than what is now fixed stays, and is then refused.
    """
    if not isinstance(record, dict):
        return record
    found = {k: dict(v) if isinstance(v, dict) else v for k, v in record.items()}
    stages = found.get("stages")
    if isinstance(stages, list) and len(stages) == 1 and isinstance(stages[0], dict):
        size = (found.get("input_height"), found.get("input_width"))
        if (stages[0].get("height"), stages[0].get("width")) == size:
            found["epochs"] = stages[0].get("epochs")
            del found["stages"]
    for key, (value, _) in _REMOVED.items():
        section, _, name = key.rpartition(".")
        inside = found.get(section) if section else found
        if isinstance(inside, dict) and name in inside and inside[name] == value:
            del inside[name]
    return found
