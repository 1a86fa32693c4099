# SPDX-License-Identifier: Apache-2.0
"""One training run: data, Lightning, checkpoints that survive a kill, resume."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch.optim.swa_utils import get_ema_multi_avg_fn

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import named, remove_leftovers, sole_use, write_text
from proto_mtl_ros.tasks import tasks_over
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    DERIVED_NORMALS,
    TEACHER,
    TEACHER_FEATURES,
)
from proto_mtl_ros.training.checkpoint import AtomicCheckpointIO, check_resumable
from proto_mtl_ros.training.config import CONFIG, LAST, TrainConfig
from proto_mtl_ros.training.frames import evaluation_loader, training_loader
from proto_mtl_ros.training.module import MultiTaskModule
from proto_mtl_ros.training.monitor import Progress
from proto_mtl_ros.training.sources import normals_of_depth, split_frames
from proto_mtl_ros.training.store import FrameStore
from proto_mtl_ros.training.teachers import attach_teachers

EMA_EVERY = 4
"""Steps between two updates of the averaged weights: each costs a sixth of a step on a CPU."""

_NO_NEWS = ("does not have many workers", "LeafSpec", "exists and is not empty", "in eval mode")
"""What Lightning warns of and is meant so: batch norms that keep their statistics, say."""

_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class AveragedWeights(WeightAveraging):
    """Exponential moving average, by interpolation: what is frozen stays exactly what it is."""

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx % EMA_EVERY == 0


def training_store(
    config: TrainConfig, source: FrameSource, device: torch.device | str = "cpu"
) -> FrameStore:
    """Return the frames that the run learns from, with everything that is added to them.

    They lie on ``device`` where they take less than half of its memory. Frames that have a label
    for none of the tasks are left out unless an auxiliary loss can learn from them.
    """
    learns_from_all = bool(config.loss.active)
    ids = [f for f in source.frame_ids if learns_from_all or set(source.has(f)) & {*config.tasks}]
    if not ids:
        raise ConfigError(f"no frame has a label for {', '.join(config.tasks)}")
    derive = None
    if config.loss.wants(DERIVED_NORMALS):
        derive = partial(normals_of_depth, step=getattr(source, "depth_step", 0.0))
    tasks = tasks_over(config.tasks, source.label_set)
    store = FrameStore(source, tasks, config.size, config.data.smallest_crop, derive, ids)
    if config.loss.wants(TEACHER) or config.loss.wants(TEACHER_FEATURES):
        attach_teachers(store, config)
    gpu = torch.device(device)
    if gpu.type == "cuda" and store.nbytes <= torch.cuda.mem_get_info(gpu)[0] / 2:
        store.to(gpu)
    return store


def held_out_store(config: TrainConfig, source: FrameSource) -> FrameStore:
    return FrameStore(source, tasks_over(config.tasks, source.label_set), config.size, 1.0)


def train(config: TrainConfig, data: Path, output: Path, max_epochs: int | None = None) -> Path:
    """Train, or continue the run that ``output`` holds; return the path of the last checkpoint.

    Stops after ``max_epochs`` of the schedule, which stays that of ``config``.

    Raises:
        ConfigError: ``output`` holds another run, a damaged checkpoint, or another process.
        OSError: ``output`` cannot be written; the last checkpoint is as it was.
        DataError: the data set is incomplete.
        TrainingError: a loss or a gradient is not finite; the frames of the batch are named.
    """
    with ExitStack() as stack:
        if getattr(rank_zero_only, "rank", 0) == 0:  # the folder is shared by its processes
            stack.enter_context(sole_use(output))
            remove_leftovers(output)
        return _train(config, data, output, max_epochs)


def _train(config: TrainConfig, data: Path, output: Path, max_epochs: int | None) -> Path:
    # what Lightning says of its own inside
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for said in _NO_NEWS:
        warnings.filterwarnings("ignore", message=f".*{said}")
    config.check()
    seed_and_threads(config)
    last = output / LAST
    check_resumable(config, output)
    frames, held_out = split_frames(config, data)
    steps = len(frames) // config.optimiser.batch
    if config.steps is not None:
        steps = max(1, config.steps // config.epochs)
    if steps == 0:
        raise ConfigError(
            f"optimiser.batch is {config.optimiser.batch}, but there are {len(frames)} frames"
        )
    epochs = max_epochs or config.epochs
    trainer = L.Trainer(
        **_hardware(config),
        max_epochs=epochs,
        accumulate_grad_batches=config.optimiser.accumulate,
        check_val_every_n_epoch=max(1, config.epochs // config.validations),
        num_sanity_val_steps=0,
        log_every_n_steps=min(20, steps),
        callbacks=[
            AveragedWeights(config.optimiser.ema_decay**EMA_EVERY),
            # one file, replaced at the end of every epoch
            ModelCheckpoint(
                dirpath=output,
                filename=Path(LAST).stem,
                every_n_epochs=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
            Progress(config, steps, epochs),
        ],
        logger=TensorBoardLogger(output, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    check_division(config, trainer.world_size)
    store = training_store(config, frames, trainer.strategy.root_device)
    held_out_frames = held_out_store(config, held_out).to(store.device)
    if trainer.is_global_zero:
        write_text(output / CONFIG, config.model_dump_json(indent=2) + "\n")
    loader = training_loader(store, config, steps, trainer.global_rank, trainer.world_size)
    counts = None
    if config.loss.logit_adjustment and "segmentation" in config.tasks:
        counts = store.class_counts("segmentation", len(frames.label_set.classes))
    module = MultiTaskModule(config, steps * config.epochs, frames.label_set, counts)
    with named(output):  # TensorBoard's writer does not say where the disk is full
        trainer.fit(
            module,
            loader,
            # every process looks at all held-out frames: they then agree without a word
            evaluation_loader(held_out_frames, config),
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=True if last.is_file() else None,
        )
    return last


def seed_and_threads(config: TrainConfig) -> None:
    L.seed_everything(config.seed, verbose=False)
    # the second moments of frozen-out channels become denormal, which CPUs compute slowly
    torch.set_flush_denormal(True)
    if config.threads:
        torch.set_num_threads(config.threads)


def check_division(config: TrainConfig, world: int) -> None:
    """Raise ConfigError where a batch cannot be shared evenly."""
    batch, parts = config.optimiser.batch, config.optimiser.accumulate
    if batch % (parts * world):
        raise ConfigError(
            f"optimiser.batch: {batch} frames cannot be divided into {parts} parts"
            f" (optimiser.accumulate) on {world} devices; make it a multiple of {parts * world}"
        )


def _hardware(config: TrainConfig) -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    wanted = config.hardware.devices
    devices = max(1, torch.cuda.device_count()) if wanted == "auto" else int(wanted)
    if gpu and devices > torch.cuda.device_count():
        raise ConfigError(
            f"hardware.devices is {devices}, but there are {torch.cuda.device_count()} GPUs"
        )
    if config.hardware.precision == "fp16" and not gpu:
        raise ConfigError("hardware.precision: fp16 needs a GPU; use bf16 or fp32")
    strategy: Any = "auto"
    if devices > 1 or "WORLD_SIZE" in os.environ:
        strategy = DDPStrategy(process_group_backend="nccl" if gpu else "gloo")
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": devices,
        "strategy": strategy,
        "precision": _PRECISION[config.hardware.precision],
        # there is no such norm for CPUs: there each process has its own, unless they are frozen
        "sync_batchnorm": gpu and devices > 1,
    }
