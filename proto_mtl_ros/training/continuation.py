# SPDX-License-Identifier: Apache-2.0
"""Whether a run may be continued, and checkpoints that survive a kill."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from proto_mtl_ros.bounded import read_json
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import write_bytes
from proto_mtl_ros.tensor_file import read_torch
from proto_mtl_ros.training.config import (
    CONFIG,
    LAST,
    TrainConfig,
    flat,
)

_MAY_CHANGE = {
    "stages",
    "optimiser.decay_epochs",
    "threads",
    "validations",
    "notes",
    "hardware.devices",
    "data.store",
}
"""What a continued run may have changed: its length, and what does not touch the training."""


_ADVICE = "choose another --out, or delete it to start again"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so a kill leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):  # type: ignore[no-untyped-def]
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = True) -> Any:
        """Return the checkpoint, tensors and plain values alone whatever is asked for."""
        return read_torch(Path(path), ConfigError, _ADVICE)


def check_resumable(config: TrainConfig, output: Path) -> None:
    """Refuse to continue a run that was started with another configuration.

    A key that is younger than the run counts with its default, which is how it was then.

    Raises:
        ConfigError: a key differs, or the checkpoint cannot be read.
    """
    started, last = output / CONFIG, output / LAST
    if not last.is_file():
        return
    read_torch(last, ConfigError, _ADVICE)
    if not started.is_file():
        return
    written = read_json(started, ConfigError)
    if not isinstance(written, dict):
        raise ConfigError(f"{started} is no configuration; {_ADVICE}")
    with contextlib.suppress(ValueError):  # of another version: compared as it is
        written = TrainConfig.model_validate(written).model_dump(mode="json")
    before, now = flat(written), flat(config.model_dump(mode="json"))
    for key in sorted({*before, *now}):
        if key not in _MAY_CHANGE and before.get(key) != now.get(key):
            raise ConfigError(
                f"{output} was trained with {key} = {before.get(key)}, not {now.get(key)};"
                f" {_ADVICE}"
            )
