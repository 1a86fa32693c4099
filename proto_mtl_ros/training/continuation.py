# SPDX-License-Identifier: Apache-2.0
"""Whether a run may be continued, and checkpoints that survive a kill."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..errors import ConfigError
from ..files import write_bytes
from .config import CONFIG, LAST, TrainConfig, flat

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


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so a kill leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):  # type: ignore[no-untyped-def]
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())


def check_resumable(config: TrainConfig, output: Path) -> None:
    """Refuse to continue a run that was started with another configuration.

    A key that is younger than the run counts with its default, which is how it was then.

    Raises:
        ConfigError: a key differs, or the checkpoint cannot be read.
    """
    started, last = output / CONFIG, output / LAST
    if not last.is_file():
        return
    advice = "choose another --out, or delete it to start again"
    try:
        torch.load(last, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise ConfigError(
            f"{last} cannot be read as a checkpoint ({type(error).__name__}); {advice}"
        ) from None
    if not started.is_file():
        return
    written = json.loads(started.read_text())
    with contextlib.suppress(ValueError):  # of another version: compared as it is
        written = TrainConfig.model_validate(written).model_dump(mode="json")
    before, now = flat(written), flat(config.model_dump(mode="json"))
    for key in sorted({*before, *now}):
        if key not in _MAY_CHANGE and before.get(key) != now.get(key):
            raise ConfigError(
                f"{output} was trained with {key} = {before.get(key)}, not {now.get(key)}; {advice}"
            )
