# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl evaluate`: the metrics of a model on labelled frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .dataset import Data, Kind, Options, Split, open_dataset


def command(
    data: Data,
    model: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = "nyu13-lite0",
    kind: Kind = "nyuv2",
    split: Split = "val",
    option: Options = None,
    backend: Annotated[str, typer.Option(help="auto, or the name of one.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or int8.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, 0 = automatic.")] = 0,
    input_size: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width of the network's input.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first frames.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Print the metrics of a model on labelled frames.

    Every frame takes the way it takes in the node: letterbox, engine, maps at the frame's size.
    """
    from proto_mtl_ros.evaluation.dataset import evaluate
    from proto_mtl_ros.evaluation.table import markdown
    from proto_mtl_ros.files import write_text
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.engine import create_engine
    from proto_mtl_ros.runtime.predictor import Predictor

    frames = open_dataset(data, kind, split, None, option)
    count = min(len(frames), limit or len(frames))
    bundle = Bundle.load(model)
    engine = create_engine(
        bundle, backend, device, threads, precision=precision, input_size=input_size
    )
    predictor = Predictor(bundle, engine, input_size)
    samples = (frames[index] for index in range(count))
    with typer.progressbar(length=count, label=f"{bundle.name} on {split}") as bar:
        result = evaluate(predictor, samples, frames.label_set.classes, lambda _: bar.update(1))
    typer.echo(markdown(result, f"{bundle.name}, {kind} {split}, {engine.choice}"))
    if out is not None:
        figures = {"frames": result.frames, **result.metrics, "iou": result.per_class}
        write_text(out, json.dumps(figures, indent=2) + "\n")
