# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl engine`: build the TensorRT engine of a model before a robot needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proto_mtl_ros.runtime.engine_plan import EnginePlan


def command(
    model: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = "nyu13-lite0",
    precision: Annotated[str, typer.Option(help="fp16 or fp32.")] = "fp16",
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the network's input; as the node's parameter."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=64, help="Most images at once; as the node's parameter.")
    ] = 1,
    level: Annotated[int, typer.Option(min=0, max=5, help="How hard the builder optimises.")] = 3,
    gpu: Annotated[int, typer.Option(min=0, help="Index of the GPU.")] = 0,
    target: Annotated[
        str,
        typer.Option(
            help="Only try whether it builds, for a GPU of this compute capability, such as 8.6; "
            "needs no GPU and a TensorRT that can."
        ),
    ] = "",
    force: Annotated[bool, typer.Option(help="Build even if there is one.")] = False,
) -> None:
    """Build the TensorRT engine of a model for the GPU of this machine.

    The node does this itself when an engine is missing; built ahead, it starts at full speed. An
    engine is kept under everything that it depends on: graph, TensorRT, GPU, precision, shapes.
    """
    import tempfile

    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.cuda import Cuda
    from proto_mtl_ros.runtime.engine_cache import EngineCache
    from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt, EnginePlan

    bundle = Bundle.load(model)
    options = {"size": input_size, "max_batch": max_batch, "level": level}
    if target:
        with tempfile.TemporaryDirectory() as folder:
            plan = EnginePlan.of(
                bundle,
                f"compute capability {target}",
                target,
                precision,
                build_for=target,
                cache=EngineCache(Path(folder)),
                **options,  # type: ignore[arg-type]
            )
            _build(plan)
        typer.echo("tried only; nothing was kept")
        return
    cuda = Cuda(gpu)
    plan = EnginePlan.of(bundle, cuda.name, cuda.capability, precision, **options)  # type: ignore[arg-type]
    try:
        plan.find()
        if not force:
            typer.echo(f"there is one: {plan.path}")
            return
    except EngineNotBuilt as missing:
        typer.echo(missing.why)
    typer.echo(f"wrote {_build(plan)}")


def _build(plan: EnginePlan) -> Path:
    """Build with a progress bar; return the engine's path."""
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("starting", total=1.0)
        path = plan.build(lambda share, what: bar.update(task, completed=share, description=what))
    key, size = plan.key, path.stat().st_size / 1e6
    typer.echo(
        f"{key.model}, {key.precision}, {key.shapes}: {size:.1f} MB in"
        f" {time.monotonic() - start:.0f} s, {key.library}, {key.gpu}"
    )
    return path
