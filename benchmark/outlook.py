# SPDX-License-Identifier: Apache-2.0
"""How long a benchmark will take, said before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.runs import Run
from proto_mtl_ros.data.table import read_splits
from proto_mtl_ros.model import build_network
from proto_mtl_ros.tasks import NYU13, tasks_over
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.progress import duration

_STEPS = 3
_BESIDE = 1.3
"""Time of a run over that of the network alone: batches, losses, figures; measured on the CPU."""


def frames_per_second(config: TrainConfig, threads: int) -> float:
    """Return how many frames the network of a run goes through, forward and back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_network(tasks_over(config.tasks, NYU13), **config.model.model_dump())
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if config.optimiser.frozen_blocks:
        for part in network.backbone.parts()[: 1 + config.optimiser.frozen_blocks]:  # type: ignore[operator]
            part.requires_grad_(False)
    images = torch.zeros(config.optimiser.batch, *config.size, 3, dtype=torch.uint8, device=device)
    start = 0.0
    for step in range(_STEPS + 1):
        if step == 1:  # the first one is not like the others
            start = time.perf_counter()
        raw = network(network.normalise(images)).raw
        torch.stack([values.mean() for values in raw.values()]).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    torch.set_num_threads(before)
    return _STEPS * len(images) / (time.perf_counter() - start)


def outlook(runs: Sequence[Run], data: Path, workers: int, threads: int) -> str:
    """Return a line on how long ``runs`` will take, several at a time."""
    if not runs:
        return "nothing to train"
    config = runs[0].config()
    held = config.data.held_out_blocks * config.data.held_out_length
    frames = max(1, len(read_splits(data / "splits.csv").get("train", [])) - held)
    frames = min(frames, config.data.limit or frames)
    rate = frames_per_second(config, threads) / _BESIDE
    seconds = sum(frames * run.config().epochs for run in runs) / rate / workers
    return (
        f"about {duration(seconds)}: {len(runs)} runs of {frames} frames x {config.epochs} epochs"
        f" at {rate:.1f} frames/s, {workers} at a time"
    )
