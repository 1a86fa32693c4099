# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bench`: how fast engines and the node are on this machine."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import numpy as np
import typer

from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Model, Threads
from proto_mtl_ros.errors import ProtoMtlError, one_line

_PRECISIONS = ("fp32", "fp16", "int8")


def command(
    model: Model = SHIPPED_MODEL,
    threads: Threads = 0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of every measurement.")] = 5.0,
    node: Annotated[bool, typer.Option(help="Measure the node as well; needs ROS.")] = True,
) -> None:
    """Print milliseconds of every engine that works here, and the node's rate, as JSON.

    Engines: one image at the model's input size. Node: images of 640x480 over DDS, the next one as
    soon as depth, segmentation and normals of the last have come; so it is the highest rate, with
    the camera and the listener on the same machine.
    """
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.machine import machine

    bundle = Bundle.load(model)
    found: dict[str, Any] = {"model": bundle.name, "machine": machine(), "engines": []}
    if node:  # first: a process without the engines' threads is forked
        try:
            from proto_mtl_ros.ros.replay.node_rate import node_rate

            rate = node_rate(bundle, threads, seconds)
            found["node"] = {**_spread(rate.pop("ms")), **rate}
        except (ImportError, ProtoMtlError) as error:
            found["node"] = {"error": one_line(error)}
        _tell(found["node"])
    for backend, precision in _choices():
        found["engines"].append(_engine(bundle, backend, precision, threads, seconds))
        _tell(found["engines"][-1])
    typer.echo(json.dumps(found, indent=1))


def _choices() -> list[tuple[str, str]]:
    from proto_mtl_ros.runtime.engine import available_backends

    return [(name, precision) for name in available_backends() for precision in _PRECISIONS]


def _engine(bundle: Any, backend: str, precision: str, threads: int, seconds: float) -> Any:
    from proto_mtl_ros.runtime.engine import create_engine

    row: dict[str, Any] = {"backend": backend, "precision": precision}
    try:
        engine = create_engine(bundle, backend, "auto", threads, precision=precision)
    except ProtoMtlError as error:
        return {**row, "error": one_line(error)}
    try:
        if engine.fallback:
            return {**row, "error": one_line(engine.fallback)}
        height, width = bundle.manifest.input_size
        images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        engine.warm_up()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            engine.infer(images)
            times.append(1e3 * (time.perf_counter() - start))
        return {**row, "device": engine.device, **_spread(times)}
    except ProtoMtlError as error:
        return {**row, "error": one_line(error)}
    finally:
        engine.close()


def _spread(times: list[float]) -> dict[str, float]:
    """Return median and 95th percentile of milliseconds."""
    p50, p95 = np.percentile(times, (50, 95)).round(2).tolist()
    return {"ms_p50": p50, "ms_p95": p95}


def _tell(row: dict[str, Any]) -> None:
    print(" ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
