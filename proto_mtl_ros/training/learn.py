# SPDX-License-Identifier: Apache-2.0
"""A model taught by the few frames of one recording."""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.config import CONFIG, TrainConfig
from proto_mtl_ros.training.export import export_checkpoint
from proto_mtl_ros.training.start import continued_from
from proto_mtl_ros.training.trainer import train


def fine_tune(config: Path, init: str, data: Path, out: Path, seed: int, steps: int) -> Path:
    """Return the bundle ``out/models/seed<seed>``, after making it where it is not there yet.

    Args:
        config: YAML file of a run that starts from a bundle.
        init: name or folder of the bundle to start from.
        data: a folder data set; its train split is learnt from, a tenth of it held out.
        out: folder of runs and models.
        steps: of the optimiser, about, whatever the number of frames.

    Raises:
        ConfigError: there are too few frames, or the configuration is wrong.
    """
    bundle = out / "models" / f"seed{seed}"
    if not (bundle / "model.json").is_file():
        settings = continued_from(TrainConfig.read(config), init)
        settings = for_few_frames(settings, len(Folder(data, "train")), steps)
        name = f"{settings.name}-seed{seed}"
        settings = settings.model_copy(update={"seed": seed, "name": name})
        run = out / f"seed{seed}"
        checkpoint = train(settings, data, run)
        export_checkpoint(run / CONFIG, checkpoint, data, bundle, figures=False)
    return bundle


def for_few_frames(settings: TrainConfig, frames: int, steps: int) -> TrainConfig:
    """Return a run of so many steps, a tenth of the frames held out, and the last half decaying."""
    held_out = max(1, frames // 20)
    batch, learnt = settings.optimiser.batch, frames - 2 * held_out
    if learnt < batch:
        raise ConfigError(
            f"only {frames} frames to learn from: take more with a smaller --motion, or a larger"
            " part with --learn"
        )
    epochs = max(2, round(steps * batch / max(1, learnt)))
    data = {"held_out_blocks": 2, "held_out_length": held_out}
    return settings.model_copy(
        update={
            "epochs": epochs,
            "validations": 3,
            "data": settings.data.model_copy(update=data),
            "optimiser": settings.optimiser.model_copy(
                update={"decay_epochs": max(1, epochs // 2)}
            ),
        }
    )
