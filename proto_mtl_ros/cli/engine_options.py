# SPDX-License-Identifier: Apache-2.0
"""The options that choose a model and its engine, the same in every command that runs one."""

from __future__ import annotations

from typing import Annotated

import typer

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
