# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl engine`: build engines before a robot needs them, and check those it has."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.dataset import open_dataset
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Device, Model
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.cli.terminal import progress_bar
from proto_mtl_ros.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from proto_mtl_ros.runtime.engine_plan import EnginePlan

_FRAMES = 16
"""Most frames that engines are checked on."""

app = command_group(
    "Build the TensorRT engine of a model, or check every engine that this machine has."
)


@app.command()
def build(
    model: Model = SHIPPED_MODEL,
    precision: Annotated[str, typer.Option(help="fp16 or fp32.")] = "fp16",
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the network's input; as the node's parameter."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=64, help="Most images at once; as the node's parameter.")
    ] = 1,
    gpu: Annotated[int, typer.Option(min=0, help="Index of the GPU.")] = 0,
    force: Annotated[bool, typer.Option(help="Build even if there is one.")] = False,
) -> None:
    """Build the TensorRT engine of a model for the GPU of this machine.

    The node does this itself when an engine is missing; built ahead, it starts at full speed. An
    engine is kept under everything that it depends on: graph, TensorRT, GPU, precision, shapes.
    """
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.cuda import Cuda
    from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt, EnginePlan

    bundle = Bundle.load(model)
    cuda = Cuda(gpu)
    plan = EnginePlan.of(bundle, cuda.name, cuda.capability, precision, input_size, max_batch)
    try:
        plan.find()
        if not force:
            typer.echo(f"there is one: {plan.path}")
            return
    except EngineNotBuilt as missing:
        typer.echo(missing.why)
    typer.echo(f"wrote {_build(plan)}")


@app.command()
def check(
    data: Annotated[
        Path | None, typer.Option(help="Data set or recording; default: the shipped recording.")
    ] = None,
    model: Model = SHIPPED_MODEL,
    backends: Annotated[str, typer.Option(help="Only these, with commas between.")] = "",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the results as JSON.")] = None,
) -> None:
    """Run every engine on real pictures, hold it against ONNX Runtime in fp32, and time it.

    Ends with status 1 when one gives other maps. Engines that cannot run here are listed with the
    reason. TensorRT engines that are missing are built.
    """
    from proto_mtl_ros.evaluation.engine_check import check_engines
    from proto_mtl_ros.files import write_text
    from proto_mtl_ros.files.installation import shared_file
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.machine import machine
    from proto_mtl_ros.training.quantisation.export import network_images, spread

    where = data or shared_file("recordings/room")
    if where is None:
        raise ConfigError("the shipped recording is not installed: give --data")
    bundle = Bundle.load(model)
    source = open_dataset(where, None, "train", None, None)
    chosen = spread(range(len(source)), min(_FRAMES, len(source)))
    images = list(network_images(source, chosen, bundle.manifest.input_size))
    names = comma_list.parts(backends) or None
    results = []
    for one in check_engines(
        bundle, images, names, device, build=lambda missing: _build(missing.plan)
    ):
        results.append(one)
        name = f"{one.backend} {one.precision} x{one.batch}"
        if one.ran:
            errors = ", ".join(f"{output} {error:.1e}" for output, error in one.errors.items())
            verdict = "ok" if one.problem is None else f"WRONG: {one.problem}"
            typer.echo(f"{name} on {one.device}: {one.milliseconds:.1f} ms, {errors}: {verdict}")
        else:
            typer.echo(f"{name}: not run: {one.problem}")
    if out is not None:
        rows = [asdict(one) | {"ran": one.ran} for one in results]
        content = {"model": bundle.name, "machine": machine(), "engines": rows}
        write_text(out, json.dumps(content, indent=1) + "\n")
    if not any(one.ran for one in results):
        raise EngineError("no engine could be checked; the reasons stand above")
    wrong = [one for one in results if one.ran and one.problem is not None]
    if wrong:
        raise SystemExit(1)


def _build(plan: EnginePlan) -> Path:
    """Build with a progress bar; return the engine's path."""
    import time

    start = time.monotonic()
    with progress_bar("starting") as tell:
        path = plan.build(lambda share, what: tell(what, share, 1.0))
    key, size = plan.key, path.stat().st_size / 1e6
    typer.echo(
        f"{key.model}, {key.precision}, {key.shapes}: {size:.1f} MB in"
        f" {time.monotonic() - start:.0f} s, {key.library}, {key.gpu}"
    )
    return path
