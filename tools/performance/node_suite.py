# SPDX-License-Identifier: Apache-2.0
"""What the node is measured on: rates, latency, results, resolutions, cameras, input sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.progress import track

from tools.performance.cameras import Load
from tools.performance.engine import EngineProcess, EngineSetting
from tools.performance.node import NodeBench, NodeSetting

MAPS = ("segmentation", "depth", "normals")
SATURATING = 1.6
"""Images offered for each that the engine could take: the node has always one waiting."""

NEARLY = (0.8, 0.85, 0.9, 0.95, 1.0)
"""Shares of the engine's own throughput at which the loss is looked for."""


@dataclass(frozen=True)
class Case:
    """One setting of the node and the loads on it."""

    name: str
    results: tuple[str, ...] = ("segmentation", "depth")  # that are subscribed to
    cameras: int = 1
    width: int = 640
    height: int = 480
    input_size: tuple[int, int] | None = None  # (height, width), None for the model's own
    rates: tuple[float, ...] = ()  # images a second of each camera
    shares: tuple[float, ...] = ()  # rates of all together, as shares of the engine's throughput
    pinned: bool = True  # node on one CPU, cameras and listener on another; else all on all
    threads: int = 1
    max_batch: int = 1


def cases(input_sizes: Sequence[tuple[int, int]] = ()) -> list[Case]:
    """Return the cases of the performance page."""
    usual = Case("rate", rates=(10.0, 15.0, 30.0), shares=(*NEARLY, SATURATING))
    found = [usual]
    for results in (MAPS, (*MAPS, "points"), (*MAPS, "points", "overlay")):
        found.append(Case("results", results=results, rates=(10.0,), shares=(SATURATING,)))
    for width, height in ((320, 240), (640, 480), (1280, 720), (1920, 1080)):
        found.append(
            Case("resolution", width=width, height=height, rates=(10.0,), shares=(SATURATING,))
        )
    found += [
        Case("cameras", cameras=cameras, max_batch=batch, rates=(5.0,), shares=(SATURATING,))
        for cameras, batch in ((1, 1), (2, 1), (2, 2), (4, 1), (4, 4))
    ]
    found += [
        Case("input size", input_size=size, rates=(5.0,), shares=(SATURATING,))
        for size in input_sizes
    ]
    found += [
        Case("30 Hz", results=MAPS, input_size=size, rates=(30.0,), pinned=False, threads=threads)
        for size in (None, *input_sizes)
        for threads in (1, 2)
    ]
    return found


def run_cases(
    model: str,
    chosen: Sequence[Case],
    backend: str = "auto",
    precision: str = "auto",
    seconds: float = 10.0,
    picture: str = "",
) -> Iterator[dict[str, Any]]:
    """Yield one row per load of ``seconds``: case, engine alone, and the figures of the node."""
    cores = sorted(os.sched_getaffinity(0))
    for case in track(chosen, "measuring"):
        pinned = case.pinned and len(cores) > 1
        node_cores = frozenset(cores[:1]) if pinned else None
        names = ("camera",) if case.cameras == 1 else tuple(f"cam{n}" for n in range(case.cameras))
        parameters = {"model": model, "backend": backend, "precision": precision}
        parameters |= {"threads": str(case.threads), "max_batch": str(case.max_batch)}
        if case.input_size is not None:
            parameters["input_size"] = f"[{case.input_size[0]}, {case.input_size[1]}]"
        alike = (case.threads, case.input_size, case.max_batch)
        engine = EngineProcess(EngineSetting(model, backend, precision, "cpu", *alike), node_cores)
        peer_cores = frozenset(cores[1:]) if pinned else None
        setting = NodeSetting(case.results, names, (parameters,), node_cores, peer_cores)
        try:
            with NodeBench(setting) as bench:
                engine.run(20)
                alone = engine.row()
                idle = bench.idle()["node0"]
                offered = [
                    *case.rates,
                    *(s * alone["images_per_second"] / case.cameras for s in case.shares),
                ]
                # the first images of a node's life are slower, and some come before it is found
                bench.run(Load(names, case.width, case.height, 10.0, 1.0, picture))
                for rate in offered:
                    load = Load((), case.width, case.height, rate, seconds, picture)
                    # before every load: the machine's mood changes
                    engine.milliseconds.clear()
                    engine.run(20)
                    figures = bench.run(replace(load, cameras=names))
                    yield {
                        "case": asdict(case),
                        "pinned": pinned,
                        "engine": engine.row(),
                        "rate_offered": rate,
                        "loss": figures.loss,
                        **asdict(figures),
                        "idle_share": idle,
                        "start_seconds": bench.start_seconds[0],
                    }
        finally:
            engine.close()
