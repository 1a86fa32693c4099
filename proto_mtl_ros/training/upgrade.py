# SPDX-License-Identifier: Apache-2.0
"""Keys of training configurations that the first release had: named in files, read in records."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import ConfigError

_REMOVED: dict[str, Any] = {
    "stages": None, "model.temperature": 0.5, "model.ffn_expansion": 4, "model.head_width": 48,
    "model.attention": "softmax", "model.class_chain": False, "data.train_split": "train",
    "data.val_split": "val", "data.store": "auto", "loss.gradients": "sum", "loss.margin": 0.3,
    "loss.entropy_floor": 0.7, "loss.codebook_size": 512, "loss.codebook_width": 128,
    "loss.cross_task": 0.0, "loss.joint_task": 0.0, "loss.reconstruction": 0.0,
    "optimiser.clip_norm": 1.0, "optimiser.freeze_backbone_norm": False,
}  # fmt: skip
"""Key to what it was where nobody set it, and mostly still is."""


def refuse_removed(content: Any, path: Path | str, losses: Container[str] = ()) -> None:
    """Raise ConfigError for a file with a key that is no more, and say where its place is told.

    ``losses`` are the auxiliary losses that there are; their names are no removed keys.
    """
    for key, fixed in _REMOVED.items():
        section, _, name = key.rpartition(".")
        inside = content.get(section) if section and isinstance(content, dict) else content
        if isinstance(inside, dict) and name in inside and name not in losses:
            raise ConfigError(
                f"{path}: {key} is no longer a key (it was {fixed}): see docs/upgrading.md"
            )


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
    for key, value in _REMOVED.items():
        section, _, name = key.rpartition(".")
        inside = found.get(section) if section else found
        if isinstance(inside, dict) and name in inside and inside[name] == value:
            del inside[name]
    return found
