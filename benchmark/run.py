# SPDX-License-Identifier: Apache-2.0
"""One run of a benchmark in a process of its own: train, evaluate, write one result file.

    python -m benchmark.run <run.json>

The runner starts this; the process ends when the runner does (its standard input closes).
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

import benchmark.methods  # noqa: F401  configurations may name them
from benchmark.methods.krt import PaperOutput, entropy
from benchmark.runs import TRAINED, difference, recorded
from proto_mtl_ros.data.nyuv2 import NYUv2
from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.errors import ConfigError, ProtoMtlError, one_line
from proto_mtl_ros.evaluation.dataset import evaluate
from proto_mtl_ros.files import FolderInUse, sole_use, write_text
from proto_mtl_ros.files.tensors import read_torch
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.runtime.backend import Engine
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.machine import processor
from proto_mtl_ros.runtime.manifest import ModelManifest
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.runtime.torch import run_graph
from proto_mtl_ros.training.card import manifest
from proto_mtl_ros.training.checkpoint import network_from_checkpoint
from proto_mtl_ros.training.config import LAST, TrainConfig
from proto_mtl_ros.training.sources import split_frames
from proto_mtl_ros.training.trainer import train


class NetworkEngine(Engine):
    """Runs a network that is in memory, on the way that a bundle's network takes.

    ``entropies`` are the mean entropies in nats of the affinity, a picture each."""

    name = "torch"
    title = "torch"

    def __init__(self, network: ProtoMTL, manifest: ModelManifest) -> None:
        super().__init__(manifest, "cuda:0" if torch.cuda.is_available() else "cpu", "fp32")
        self.entropies: list[float] = []
        self._graph = DeployGraph(network).eval().to(self.device)
        self._hook = network.register_forward_hook(self._record)

    def _record(self, _network: Any, _arguments: Any, out: NetworkOutput) -> None:
        if isinstance(out, PaperOutput) and out.affinity.numel():
            self.entropies += entropy(out.affinity).flatten(1).mean(1).tolist()

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return run_graph(self._graph, images, self.device)

    def _release(self) -> None:
        self._hook.remove()  # the network stays the caller's


def figures(
    config: TrainConfig, network: ProtoMTL, frames: FrameSource
) -> tuple[dict[str, Any], float | None]:
    """Return the figures on ``frames`` at the size of their labels, and the affinity's entropy in
    nats.

    A figure is None where no pixel was valid, the entropy for a network without affinity."""
    record = manifest(config, network)
    engine = NetworkEngine(network, record)
    predictor = Predictor(Bundle(Path(), record), engine)
    classes = tuple(frames.label_set.classes)
    try:
        samples = (frames[index] for index in range(len(frames)))
        result = evaluate(predictor, samples, classes)
    finally:
        predictor.close()
    values: dict[str, Any] = {"frames": result.frames}
    for task, of_task in result.metrics.items():
        values[task] = {k: None if math.isnan(v) else v for k, v in of_task.items()}
    entropies = engine.entropies
    return values, float(np.mean(entropies)) if entropies else None


BUSY = 75
"""Exit status when another process is at this run (EX_TEMPFAIL of sysexits.h)."""

FAILURE = "failure.txt"
"""Why the run failed, one line. A log ends with whatever progress bars say at the end."""

_ATTEMPT = "attempt.json"


def main(arguments: list[str]) -> int:
    """Do the run; return the status to exit with."""
    given = Path(arguments[0])
    spec = json.loads(given.read_text())
    given.unlink(missing_ok=True)  # nobody else would, were the runner killed
    folder = Path(spec["folder"])
    try:
        with sole_use(folder):
            return _only_one(spec, folder)
    except FolderInUse:
        return BUSY


def _only_one(spec: dict[str, Any], folder: Path) -> int:
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_the_runner, daemon=True).start()
    failure = folder / FAILURE
    failure.unlink(missing_ok=True)
    try:
        _run(spec, folder)
    except Exception as error:  # any: the runner goes on with the others and says the reason
        traceback.print_exc()
        named = "" if isinstance(error, ProtoMtlError) else f"{type(error).__name__}: "
        write_text(failure, named + one_line(error) + "\n")
        return 1
    return 0


def _end_with_the_runner() -> None:
    # not sys.stdin: its lock, held here, would spoil an orderly end
    while os.read(0, 1024):
        pass
    # Whatever is under way: checkpoints and results appear as a whole or not at all.
    os._exit(143)


def _run(spec: dict[str, Any], folder: Path) -> None:
    config = TrainConfig.model_validate(spec["config"])
    data = Path(spec["data"])
    trained = folder / TRAINED
    if not trained.is_file():
        effort = {**_train(config, data, folder), "config": recorded(config)}
        write_text(trained, json.dumps(effort) + "\n")
    effort = json.loads(trained.read_text())
    differs = difference(effort["config"], config)
    if differs is not None:
        raise ConfigError(f"{folder} was trained with {differs}; delete it to train again")
    result = Path(spec["result"])
    if result.is_file():
        return  # only the network was missing, as a teacher
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.set_flush_denormal(True)
    network, _ = network_from_checkpoint(folder / LAST, config)
    _, held_out = split_frames(config, data)
    found: dict[str, Any] = {}
    found["held_out"], entropy = figures(config, network, held_out)
    if not spec["ablation"]:
        found["val"] = figures(config, network, NYUv2(data, "val"))[0]
    content = {
        **{key: spec[key] for key in ("protocol", "manifest", "method", "task", "seed")},
        "tasks": list(config.tasks),
        "ablation": spec["ablation"],
        "figures": found,
        "affinity_entropy": entropy,
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_minutes": effort["seconds"] / 60,
        "train_frames_per_second": effort["frames"] / max(effort["seconds"], 1e-9),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "config": recorded(config),
    }
    write_text(result, json.dumps(content, indent=1) + "\n")


def _train(config: TrainConfig, data: Path, folder: Path) -> dict[str, float]:
    """Train or continue; return the seconds that it took, and the frames that were seen.

    Of an attempt that was ended from outside the time up to its last checkpoint counts.
    """
    last, attempt = folder / LAST, folder / _ATTEMPT
    before = 0.0
    if last.is_file() and attempt.is_file():
        earlier = json.loads(attempt.read_text())
        before = earlier["before"] + max(0.0, last.stat().st_mtime - earlier["started"])
    write_text(attempt, json.dumps({"before": before, "started": time.time()}) + "\n")
    start = time.monotonic()
    train(config, data, folder)
    seconds = before + time.monotonic() - start
    steps = read_torch(last, ConfigError, "train again")["global_step"]
    return {"seconds": seconds, "frames": float(steps * config.optimiser.batch)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
