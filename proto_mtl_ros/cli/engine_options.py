# SPDX-License-Identifier: Apache-2.0
"""The options that choose a model and its engine, the same in every command that runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proto_mtl_ros.runtime.predictor import Predictor

Model = Annotated[str, typer.Option(help="Name or folder of a model bundle.")]
Backend = Annotated[str, typer.Option(help="auto, or the name of one.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, fp16 or int8.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads, 0 = automatic.")]
InputSize = Annotated[
    tuple[int, int] | None, typer.Option(help="Height and width of the network's input.")
]

SHIPPED_MODEL = "nyu13-lite0"
"""What is run where no model is named."""


def open_predictor(
    model: str,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    input_size: tuple[int, int] | None = None,
) -> Predictor:
    """Load a bundle and create its engine; whoever calls this closes it.

    Args:
        model: name or folder of a bundle.
        backend, device, precision, threads: of the engine, see ``runtime.create_engine``.
        input_size: (height, width) of the network's input, None for what it was trained for.

    Raises:
        ProtoMtlError: the bundle cannot be read, or its engine cannot be created.
    """
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.engine import create_engine
    from proto_mtl_ros.runtime.predictor import Predictor

    bundle = Bundle.load(model)
    engine = create_engine(
        bundle, backend, device, threads, precision=precision, input_size=input_size
    )
    return Predictor(bundle, engine, input_size)
