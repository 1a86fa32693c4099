# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl train`: train a network, or continue a training that was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    config: Annotated[Path, typer.Option(help="YAML file that defines the run.")],
    data: Annotated[Path, typer.Option(help="Folder or file of the data set.")],
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and TensorBoard; a run in it continues.")
    ],
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Stop after this epoch of the schedule.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Only these tasks of the configuration, with commas between: one alone trains a "
            "teacher for distillation."
        ),
    ] = None,
    profile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Measure this many steps and where their time goes instead of training; "
            "OUT/profile.json gets the figures.",
        ),
    ] = None,
) -> None:
    """Train a network on frames of which most may have only some of the labels.

    Stop it whenever you like: the same command continues at the last finished epoch, with exactly
    the frames and the random numbers that an uninterrupted run would have had.
    """
    from proto_mtl_ros.training.config import TrainConfig

    settings = TrainConfig.read(config)  # before the slow imports: a bad file fails at once
    if tasks is not None:
        settings = settings.with_tasks([name.strip() for name in tasks.split(",")])
    if profile is not None:
        _profile(settings, data, out, profile)
        return
    from proto_mtl_ros.training.trainer import train

    checkpoint = train(settings, data, out, max_epochs)
    typer.echo(f"checkpoint: {checkpoint}")
    typer.echo(
        f"next: proto-mtl export --config {config} --checkpoint {checkpoint} --data {data}"
        f" --out models/{settings.name}"
    )


def _profile(settings: Any, data: Path, out: Path, steps: int) -> None:
    """Print where the time of a step goes, and write it down."""
    from proto_mtl_ros.files import write_text
    from proto_mtl_ros.training.profile import described, profile

    result = profile(settings, data, steps)
    typer.echo(described(result))
    write_text(out / "profile.json", json.dumps(result, indent=1) + "\n")
