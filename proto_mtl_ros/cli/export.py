# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl export`: make a bundle that a robot can run from a training checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.dataset import Kind, Options, Split, open_dataset
from proto_mtl_ros.cli.terminal import echo, progress_bar
from proto_mtl_ros.errors import ConfigError


def command(
    out: Annotated[Path, typer.Option(help="Folder of the bundle, models/<name>.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML file that the training ran with.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="last.ckpt of the training.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set of the training, for held-out frames.")
    ] = None,
    val: Annotated[
        bool,
        typer.Option(
            help="Evaluate on the val split, or without one on the held-out frames, and write the "
            "figures down."
        ),
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="A bundle to add an int8 graph to, by name or folder.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 from a checkpoint; int8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Data set or recording whose frames calibrate int8.")
    ] = None,
    kind: Kind = "nyuv2",
    split: Split = "train",
    option: Options = None,
    target: Annotated[str, typer.Option(help="What int8 is for: cpu or tensorrt.")] = "cpu",
    frames: Annotated[int, typer.Option(min=1, help="Most frames to calibrate with.")] = 100,
    check: Annotated[int, typer.Option(min=1, help="Most frames to check the loss on.")] = 100,
    check_split: Annotated[
        str | None,
        typer.Option(help="Check on frames of this split; without it on others of --split."),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, help="Percent that a figure may lose by int8.")
    ] = 1.0,
) -> None:
    """Make a bundle from a training checkpoint, or add an int8 graph to a bundle.

    From a checkpoint (--config, --checkpoint, --data): fits the confidence temperature on frames
    held out of the training, writes safetensors and ONNX, compares the ONNX graph with torch on
    held-out frames, and refuses to write a bundle whose graph differs. The model card states data,
    terms, command, seed and metrics.

    int8 (--model, --precision int8, --calibrate): calibrates with some frames and judges on others,
    by their labels where they have any; refuses to write a bundle that loses more than --max-loss.
    """
    from proto_mtl_ros.runtime.bundle import INT8_GRAPHS, Bundle

    result = None
    with progress_bar("reading") as progress:
        if precision == "int8":
            from proto_mtl_ros.training.quantisation.export import export_int8

            if model is None or calibrate is None:
                raise ConfigError("int8 needs --model and --calibrate; see --help")
            if target not in INT8_GRAPHS:
                raise ConfigError(f"--target {target}: use {' or '.join(INT8_GRAPHS)}")
            source = open_dataset(calibrate, kind, split, None, option)
            judges = (
                open_dataset(calibrate, kind, check_split, None, option) if check_split else None
            )
            bundle = export_int8(
                Bundle.load(model), source, out, target, frames, check, max_loss, progress,
                judges or None,
                echo,
            )  # fmt: skip
        elif precision != "fp32":
            raise ConfigError(f"--precision {precision}: use fp32 or int8; fp16 needs no export")
        elif config is None or checkpoint is None or data is None:
            raise ConfigError("fp32 needs --config, --checkpoint and --data; see --help")
        else:
            from proto_mtl_ros.training.export import export_checkpoint

            bundle, result = export_checkpoint(config, checkpoint, data, out, val, echo, progress)
    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    echo(f"wrote {bundle.path} ({size:.1f} MB)")
    if result is not None:
        echo(result.after.markdown(f"{bundle.name}, on frames that were not trained on"))
        echo("\n".join(result.lines()))
