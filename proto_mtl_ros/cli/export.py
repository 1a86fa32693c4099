# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl export`: make a bundle that a robot can run from a training checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proto_mtl_ros.cli.dataset import (
    Kind,
    Options,
    Split,
    open_dataset,
)
from proto_mtl_ros.errors import ConfigError

if TYPE_CHECKING:
    from proto_mtl_ros.data.sample import FrameSource
    from proto_mtl_ros.training.quantisation.int8 import Target


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
    if precision == "int8":
        if model is None or calibrate is None:
            raise ConfigError("int8 needs --model and --calibrate; see --help")
        if target not in ("cpu", "tensorrt"):
            raise ConfigError(f"--target {target}: use cpu or tensorrt")
        source = open_dataset(calibrate, kind, split, None, option)
        judges = check_split and open_dataset(calibrate, kind, check_split, None, option)
        wanted: Target = "tensorrt" if target == "tensorrt" else "cpu"
        _int8(model, source, judges or None, out, wanted, frames, check, max_loss)
    elif precision != "fp32":
        raise ConfigError(f"--precision {precision}: use fp32 or int8; fp16 needs no export")
    elif config is None or checkpoint is None or data is None:
        raise ConfigError("fp32 needs --config, --checkpoint and --data; see --help")
    else:
        from_checkpoint(config, checkpoint, data, out, val)


def _int8(
    model: str,
    source: FrameSource,
    judges: FrameSource | None,
    out: Path,
    target: Target,
    frames: int,
    check: int,
    most: float,
) -> None:
    from rich.progress import Progress

    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.training.quantisation.accuracy import Loss
    from proto_mtl_ros.training.quantisation.export import export_int8

    def found(loss: Loss) -> None:
        for line in loss.lines():
            bar.print(f"  {line}")

    with Progress() as bar:
        task = bar.add_task("reading", total=None)
        bundle = export_int8(
            Bundle.load(model),
            source,
            out,
            target,
            frames,
            check,
            most,
            lambda what, done, of: bar.update(task, description=what, completed=done, total=of),
            judges,
            found,
        )
    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    typer.echo(f"wrote {bundle.path} ({size:.1f} MB)")


def from_checkpoint(config: Path, checkpoint: Path, data: Path, out: Path, val: bool) -> None:
    """Write the bundle of a checkpoint, with figures of the val split if they are asked for."""
    from proto_mtl_ros.evaluation.dataset import (
        Evaluation,
        evaluate,
    )
    from proto_mtl_ros.evaluation.parity import compare
    from proto_mtl_ros.files import ScratchFolder
    from proto_mtl_ros.runtime.bundle import (
        CARD,
        ONNX,
        WEIGHTS,
        Bundle,
    )
    from proto_mtl_ros.runtime.engine import create_engine
    from proto_mtl_ros.runtime.predictor import Predictor
    from proto_mtl_ros.training.card import (
        manifest,
        model_card,
    )
    from proto_mtl_ros.training.checkpoint import (
        network_from_checkpoint,
        onnx_file,
        weights_file,
    )
    from proto_mtl_ros.training.config import TrainConfig
    from proto_mtl_ros.training.frames import evaluation_loader
    from proto_mtl_ros.training.sources import (
        reported_frames,
        split_frames,
    )
    from proto_mtl_ros.training.temperature import fit_temperature
    from proto_mtl_ros.training.trainer import held_out_store

    settings = TrainConfig.read(config)
    network, epochs = network_from_checkpoint(checkpoint, settings)
    frames, held_out = split_frames(settings, data)
    loader = evaluation_loader(held_out_store(settings, held_out), settings)
    before = Bundle.load(settings.start_from).manifest.temperature if settings.start_from else 1.0
    temperature = fit_temperature(network, loader, settings.seed, before)
    typer.echo(f"{epochs} of {settings.epochs} epochs; confidence temperature {temperature}")
    height, width = settings.input_height, settings.input_width
    files: dict[str, Path | bytes] = {
        WEIGHTS: weights_file(network),
        ONNX: onnx_file(network, temperature, height, width),
    }
    made_by = (
        f"proto-mtl train --config {config} --data <data> --out {checkpoint.parent}"
        f" && proto-mtl export --config {config} --checkpoint {checkpoint} --data <data>"
        f" --out {out}"
    )
    record = manifest(settings, network, temperature, epochs, len(frames), len(held_out), made_by)
    with ScratchFolder("export") as folder:
        # judged as a robot would load it; only then written to where a robot finds it
        draft = Bundle.write(folder / settings.name, record, files)
        onnx_engine = create_engine(draft, "onnxruntime")
        batches = (batch["image"].numpy() for batch in loader)
        parity = compare(create_engine(draft, "torch"), onnx_engine, batches)
        typer.echo("ONNX against torch, relative error per output:")
        for line in parity.lines():
            typer.echo(f"  {line}")
        parity.check()
        result: Evaluation | None = None
        reported_on = ""
        if val:
            samples, reported_on = reported_frames(settings, data)
            with typer.progressbar(length=len(samples), label=reported_on) as bar:
                result = evaluate(
                    Predictor(draft, onnx_engine),
                    (samples[index] for index in range(len(samples))),
                    samples.label_set.classes,
                    lambda _: bar.update(1),
                )
            record = record.model_copy(update={"metrics": result.metrics})
    files[CARD] = model_card(record, settings, parity.lines(), result, reported_on).encode()
    bundle = Bundle.write(out, record, files)
    size = sum(path.stat().st_size for path in bundle.path.iterdir()) / 1e6
    typer.echo(f"wrote {bundle.path} ({size:.1f} MB)")
    if result is not None:
        from proto_mtl_ros.evaluation.table import markdown

        typer.echo(markdown(result, f"{bundle.name}, {reported_on}"))
