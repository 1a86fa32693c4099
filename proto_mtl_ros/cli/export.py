# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl export`: make a bundle that a robot can run from a training checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[Path, typer.Option(help="YAML file that the training ran with.")],
    checkpoint: Annotated[Path, typer.Option(help="last.ckpt of the training.")],
    data: Annotated[Path, typer.Option(help="The data set of the training, for held-out frames.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle, models/<name>.")],
    val: Annotated[
        bool,
        typer.Option(
            help="Evaluate on the val split, or without one on the held-out frames, and write the "
            "figures down."
        ),
    ] = True,
) -> None:
    """Make a bundle from a training checkpoint.

    Fits the confidence temperature on frames held out of the training, writes safetensors and
    ONNX, compares the ONNX graph with torch on held-out frames, and refuses to write a bundle
    whose graph differs. The model card states data, terms, command, seed and metrics.
    """
    from proto_mtl_ros.evaluation.dataset import Evaluation, evaluate
    from proto_mtl_ros.evaluation.parity import compare
    from proto_mtl_ros.runtime.bundle import ONNX, WEIGHTS, Bundle
    from proto_mtl_ros.runtime.engine import create_engine
    from proto_mtl_ros.runtime.predictor import Predictor
    from proto_mtl_ros.training.card import CARD, manifest, model_card
    from proto_mtl_ros.training.checkpoint import (
        network_from_checkpoint,
        onnx_file,
        weights_file,
    )
    from proto_mtl_ros.training.config import TrainConfig
    from proto_mtl_ros.training.frames import evaluation_loader
    from proto_mtl_ros.training.sources import reported_frames, split_frames
    from proto_mtl_ros.training.temperature import fit_temperature
    from proto_mtl_ros.training.trainer import held_out_store

    settings = TrainConfig.read(config)
    network, epochs = network_from_checkpoint(checkpoint, settings)
    frames, held_out = split_frames(settings, data)
    loader = evaluation_loader(held_out_store(settings, held_out), settings)
    temperature = fit_temperature(network, loader, settings.seed)
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
    with tempfile.TemporaryDirectory() as folder:
        # judged as a robot would load it; only then written to where a robot finds it
        draft = Bundle.write(Path(folder) / settings.name, record, files)
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
