# SPDX-License-Identifier: Apache-2.0
"""One network for all tasks against one for each: what a robot builder would run instead."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.runtime.bundle import ONNX, WEIGHTS, Bundle
from tools.performance.cameras import Load
from tools.performance.node import NodeBench, NodeSetting
from tools.performance.node_figures import LoadFigures


def single_task_bundle(bundle: Bundle, task: str, folder: Path) -> Bundle:
    """Write a bundle of one of the tasks of ``bundle``: same backbone, decoder and head.

    It is not trained: figures of speed and memory do not depend on the values of the weights.
    """
    import torch

    from proto_mtl_ros.model import build_from_manifest
    from proto_mtl_ros.model.deploy import DeployGraph
    from proto_mtl_ros.training.export import onnx_file, weights_file

    torch.manual_seed(0)
    architecture = {**bundle.manifest.architecture, "tasks": [task]}
    network = build_from_manifest(architecture).eval()
    height, width = bundle.manifest.input_size
    classes = {} if task == "segmentation" else {"classes": (), "palette": ()}
    manifest = bundle.manifest.model_copy(
        update={
            "name": f"{bundle.name}-{task}",
            "tasks": (task,),
            "architecture": architecture,
            "metrics": {},
            "confidence": {},
            **classes,
        }
    )
    files: Mapping[str, Path | bytes] = {
        WEIGHTS: weights_file(network),
        ONNX: onnx_file(DeployGraph(network), height, width),
    }
    return Bundle.write(folder / manifest.name, manifest, files)


def compare(
    bundle: Bundle,
    singles: Sequence[Bundle],
    backend: str = "auto",
    rounds: int = 3,
    seconds: float = 10.0,
    rate: float = 40.0,
) -> dict[str, Any]:
    """Run both on the same images and CPUs, in turn, and return their figures.

    Both are offered more images than they can take, so what they answer is what they can do. A
    frame of the three counts when all three have answered it or, where that is more, at the pace
    of the slowest: each drops what it has no time for, and not the same frames.

    Args:
        bundle: the multi-task network.
        singles: the networks of one task each.
        backend: of all engines; fp32. The one gets as many threads as there are CPUs, the three one
            each: more of them would only stand in each other's way.
        rounds: how often each is run.
        seconds: of each load.
        rate: images a second that are offered.
    """
    results = bundle.manifest.tasks
    cores = sorted(os.sched_getaffinity(0))
    rows: dict[str, list[dict[str, Any]]] = {"multi": [], "single": []}
    settings = {
        "multi": NodeSetting(results, parameters=(_parameters(bundle, backend, len(cores)),)),
        "single": NodeSetting(
            results, parameters=tuple(_parameters(one, backend, 1) for one in singles)
        ),
    }
    for name in track([*settings] * rounds, "measuring"):
        with NodeBench(settings[name]) as bench:
            figures = bench.run(Load(rate=rate, seconds=seconds))
        rows[name].append(_row(figures, seconds))
    fps = {name: median([row["frames_per_second"] for row in of]) for name, of in rows.items()}
    for name, frames in fps.items():
        if not frames:
            raise ProtoMtlError(
                f"{name} answered nothing in {seconds:g} s: measure longer, or on a quieter machine"
            )
    memory = {name: median([row["memory_mib"] for row in of]) for name, of in rows.items()}
    return {
        "model": bundle.name,
        "backend": backend,
        "cores": len(cores),
        "image": [640, 480],
        "results": list(results),
        "rows": rows,
        "frames_per_second": fps,
        "memory_mib": memory,
        "multi_over_three_single_fps": fps["multi"] / fps["single"],
        "multi_over_three_single_memory": memory["multi"] / memory["single"],
    }


def _parameters(bundle: Bundle, backend: str, threads: int) -> dict[str, str]:
    chosen = {"backend": backend, "precision": "fp32", "threads": str(threads)}
    return {"model": str(bundle.path), **chosen}


def _row(figures: LoadFigures, seconds: float) -> dict[str, Any]:
    nodes = [name for name in figures.memory_mib if name.startswith("node")]
    return {
        "frames_per_second": figures.processed / seconds,
        "answered_by_all_per_second": figures.rate,
        "memory_mib": sum(figures.memory_mib[name] for name in nodes),
        "latency_ms": figures.latency_ms,
    }
