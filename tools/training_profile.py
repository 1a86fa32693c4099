# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes.

python -m tools.training_profile --config nyu13_lite0.yaml --data <nyuv2> --steps 20 --out out
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from proto_mtl_ros.files import write_text
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import training_loader
from proto_mtl_ros.training.module import CLIP_NORM, MultiTaskModule
from proto_mtl_ros.training.sources import split_frames
from proto_mtl_ros.training.trainer import EMA_EVERY, seed_and_threads, training_store

_WARM_UP = 2


class Stopwatch:
    """Adds up the seconds of named parts; waits for the GPU where there is one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait: Callable[[], None] = (
            torch.cuda.synchronize if device.type == "cuda" else lambda: None
        )

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] += time.perf_counter() - start

    def watch(self, module: nn.Module, name: str) -> None:
        """Measure the forward passes of a module from now on."""
        starts: list[float] = []

        def before(*_: Any) -> None:
            self._wait()
            starts.append(time.perf_counter())

        def after(*_: Any) -> None:
            self._wait()
            self.seconds[name] += time.perf_counter() - starts.pop()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


def profile(config: TrainConfig, data: Path, steps: int) -> dict[str, Any]:
    """Train ``steps`` steps, after two that are not counted, and measure their parts.

    Returns:
        ``frames_per_second``, ``ms_per_step``, and ``parts``: milliseconds per step by name; parts
        whose name begins with that of another are inside of it.

    Raises:
        ConfigError, DataError: as ``trainer.train``.
    """
    config.check()
    seed_and_threads(config)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    frames, _ = split_frames(config, data)
    store = training_store(config, frames, device)
    module = MultiTaskModule(config, steps + _WARM_UP, frames.label_set).to(device).train()
    watch = Stopwatch(device)
    network = module.network
    parts: list[tuple[nn.Module, str]] = [(network.backbone, "forward: backbone")]
    for name, layers in (("decoders", network.decoders), ("heads", network.heads)):
        parts += [(layer, f"forward: {name}") for layer in layers]
    parts += [(loss, f"losses: {name}") for name, loss in module.auxiliary.items()]
    for part, name in parts:
        watch.watch(part, name)
    optimiser = module.configure_optimizers()["optimizer"]
    average = AveragedModel(
        module, device, None, get_ema_multi_avg_fn(config.optimiser.ema_decay**EMA_EVERY), True
    )
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.hardware.precision)
    batches = iter(training_loader(store, config, steps + _WARM_UP))
    start = 0.0
    for step in range(steps + _WARM_UP):
        if step == _WARM_UP:
            watch.seconds.clear()
            start = time.perf_counter()
        for _ in range(config.optimiser.accumulate):
            with watch.part("batch"):
                batch = next(batches)
                batch = {
                    key: value.to(device) if torch.is_tensor(value) else value
                    for key, value in batch.items()
                }
            half = torch.autocast(device.type, dtype) if dtype else nullcontext()
            with half:
                with watch.part("forward"):
                    out = module(batch["image"])
                with watch.part("losses"):
                    losses, extra, _values = module.losses(batch, out)
                    loss = module.weighting(losses, step) + extra
            with watch.part("backward"):
                loss.backward()
        with watch.part("optimiser"):
            nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimiser.step()
            optimiser.zero_grad()
        with watch.part("averaged weights"):
            if step % EMA_EVERY == 0:
                average.update_parameters(module)
    seconds = time.perf_counter() - start
    return {
        "device": torch.cuda.get_device_name(0) if gpu else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "precision": config.hardware.precision,
        "batch": config.optimiser.batch,
        "steps": steps,
        "store_mb": round(store.nbytes / 1e6, 1),
        "store_device": str(store.device),
        "frames_per_second": steps * config.optimiser.batch / seconds,
        "ms_per_step": 1000 * seconds / steps,
        "parts": {name: 1000 * value / steps for name, value in sorted(watch.seconds.items())},
    }


def described(result: dict[str, Any]) -> str:
    """Return a profile as a table for people."""
    whole = result["ms_per_step"]
    head = (
        "{frames_per_second:.1f} frames/s on {device}, {threads} threads, {precision},"
        " batch {batch}, {steps} steps; frames in memory: {store_mb} MB on {store_device}"
    )
    lines = [head.format(**result), f"{'step':<28}{whole:9.1f} ms"]
    for name, value in result["parts"].items():
        inside = ": " in name
        label = f"    {name.partition(': ')[2]}" if inside else f"  {name}"
        lines.append(f"{label:<28}{value:9.1f} ms{100 * value / whole:6.1f} %")
    return "\n".join(lines)


def main() -> None:
    """Print where the time of a step goes, and write it down; nothing is trained."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder for profile.json")
    given = parser.parse_args()
    result = profile(TrainConfig.read(given.config), given.data, given.steps)
    print(described(result))
    if given.out is not None:
        write_text(given.out / "profile.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
