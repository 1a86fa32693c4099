# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl evaluate`: the metrics of a model on labelled frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import proto_mtl_ros
from proto_mtl_ros.cli.dataset import Data, Kind, Options, Split, open_dataset
from proto_mtl_ros.cli.engine_options import (
    SHIPPED_MODEL,
    Backend,
    Device,
    InputSize,
    Model,
    Precision,
    Threads,
)
from proto_mtl_ros.cli.terminal import echo


def command(
    data: Data,
    model: Model = SHIPPED_MODEL,
    kind: Kind = None,
    split: Split = "val",
    option: Options = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    input_size: InputSize = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Print the metrics of a model on labelled frames.

    Every frame takes the way it takes in the node: letterbox, engine, maps at the frame's size.
    """
    from proto_mtl_ros.evaluation.dataset import evaluate
    from proto_mtl_ros.files import write_text

    frames = open_dataset(data, kind, split, None, option)
    count = len(frames)
    predictor = proto_mtl_ros.load(model, backend, device, precision, threads, input_size)
    bundle = predictor.bundle
    samples = (frames[index] for index in range(count))
    with typer.progressbar(length=count, label=f"{bundle.name} on {split}") as bar:
        result = evaluate(predictor, samples, frames.label_set.classes, lambda _: bar.update(1))
    echo(result.markdown(f"{bundle.name}, {data.name} {split}, {predictor.engine.choice}"))
    if out is not None:
        figures = {"frames": result.frames, **result.metrics, "iou": result.per_class}
        write_text(out, json.dumps(figures, indent=2) + "\n")
