# SPDX-License-Identifier: Apache-2.0
"""One training run: data, Lightning, checkpoints that survive a kill, resume."""

from __future__ import annotations

import io
import json
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..data.source import FrameSource
from ..errors import ConfigError
from ..files import write_bytes, write_text
from ..tasks import tasks_over
from .config import TrainConfig
from .derived import normals_of_depth
from .frames import evaluation_loader, training_loader
from .module import MultiTaskModule
from .sources import split_frames
from .store import FrameStore
from .teachers import attach_teachers
from .terms import TERMS

_EMA_EVERY = 2
"""Steps between two updates of the averaged weights: one in two costs half and tells as much."""

LAST = "last.ckpt"
"""Name of the checkpoint that a run resumes from."""

_CONFIG = "config.json"
_MAY_CHANGE = {"stages", "optimiser.decay_epochs", "threads", "notes"}
"""What a continued run may have changed: its length, and what does not touch the training."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so a kill leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):  # type: ignore[no-untyped-def]
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())


class ProgressBar(TQDMProgressBar):
    """Epoch, rate, time left and loss; the version of the logger says nothing to anybody."""

    def get_metrics(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        metrics = super().get_metrics(*arguments, **options)
        metrics.pop("v_num", None)
        return metrics


def _quiet() -> None:
    """Silence what Lightning says of its own inside, so that what matters is seen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for said in (".*does not have many workers.*", ".*LeafSpec.*", ".*exists and is not empty.*"):
        warnings.filterwarnings("ignore", message=said)


def training_store(config: TrainConfig, source: FrameSource) -> FrameStore:
    """Return the frames that the run learns from, with everything that is added to them.

    Frames that have a label for none of the tasks are left out unless some term of the loss can
    learn from them.
    """
    needs_no_label = any(getattr(config.loss, name) > 0 for name in TERMS)
    ids = [f for f in source.frame_ids if needs_no_label or set(source.has(f)) & set(config.tasks)]
    if not ids:
        raise ConfigError(f"no frame has a label for {', '.join(config.tasks)}")
    sizes = [(stage.height, stage.width) for stage in config.stages]
    derive = None
    if config.loss.geometry:
        step = getattr(source, "depth_step", 0.0)
        derive = partial(normals_of_depth, step=step)
    store = FrameStore(
        source,
        tasks_over(config.tasks, source.label_set),
        sizes,
        config.data.smallest_crop,
        derive=derive,
        frames=ids,
    )
    if config.loss.distillation:
        attach_teachers(store, config)
    return store


def held_out_store(config: TrainConfig, source: FrameSource) -> FrameStore:
    """Return held-out frames at the network's input size."""
    size = (config.input_height, config.input_width)
    return FrameStore(source, tasks_over(config.tasks, source.label_set), [size], 1.0)


def _check_resumable(config: TrainConfig, output: Path) -> None:
    """Refuse to continue a run that was started with another configuration."""
    started, last = output / _CONFIG, output / LAST
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
    before, now = _flat(json.loads(started.read_text())), _flat(config.model_dump(mode="json"))
    for key in sorted({*before, *now}):
        if key not in _MAY_CHANGE and before.get(key) != now.get(key):
            raise ConfigError(
                f"{output} was trained with {key} = {before.get(key)}, not {now.get(key)}; {advice}"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def train(config: TrainConfig, data: Path, output: Path, max_epochs: int | None = None) -> Path:
    """Train, or continue the run that ``output`` holds; return the path of the last checkpoint.

    Args:
        config: the run.
        data: folder (or file) of the data set, of the kind that ``config.data.kind`` says.
        output: folder for checkpoints and TensorBoard events.
        max_epochs: stop after this many epochs of the schedule (to try things); the schedule
            itself stays that of ``config``.

    Raises:
        ConfigError: ``output`` holds another run, or a checkpoint that cannot be read.
        DataError: the data set is incomplete.
        FloatingPointError: the loss is not finite; the frames of the batch are named.
    """
    _quiet()
    L.seed_everything(config.seed, verbose=False)
    # the second moments of frozen-out channels become denormal, which CPUs compute slowly
    torch.set_flush_denormal(True)
    if config.threads:
        torch.set_num_threads(config.threads)
    last = output / LAST
    _check_resumable(config, output)
    frames, held_out = split_frames(config, data)
    steps = len(frames) // config.optimiser.batch
    store = training_store(config, frames)
    write_text(output / _CONFIG, config.model_dump_json(indent=2) + "\n")
    loader = training_loader(store, config, steps)
    counts = None
    if "segmentation" in config.tasks:
        counts = store.class_counts("segmentation", len(frames.label_set.classes))
    module = MultiTaskModule(config, steps * config.epochs, frames.label_set, counts)
    # one file, replaced at the end of every epoch
    checkpoints = ModelCheckpoint(
        dirpath=output,
        filename=Path(LAST).stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = L.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=max_epochs or config.epochs,
        gradient_clip_val=config.optimiser.clip_norm,
        check_val_every_n_epoch=max(1, config.epochs // 8),
        num_sanity_val_steps=0,
        log_every_n_steps=min(20, len(loader)),
        callbacks=[
            EMAWeightAveraging(decay=config.optimiser.ema_decay, update_every_n_steps=_EMA_EVERY),
            checkpoints,
            ProgressBar(refresh_rate=10),
        ],
        logger=TensorBoardLogger(output, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        enable_model_summary=False,
    )
    trainer.fit(
        module,
        loader,
        evaluation_loader(held_out_store(config, held_out), config),
        ckpt_path=str(last) if last.is_file() else None,
        weights_only=True if last.is_file() else None,
    )
    return last
