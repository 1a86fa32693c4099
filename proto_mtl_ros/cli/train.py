# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl train`: train a network, or continue a training that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.errors import ConfigError


def command(
    data: Annotated[Path, typer.Option(help="Folder or file of the data set.")],
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and TensorBoard; a run in it continues.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file that defines the run; own_robot.yaml with --init alone."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Name or folder of a bundle to start from, and to be taught by where the "
            "configuration has its start as a teacher."
        ),
    ] = None,
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
) -> None:
    """Train a network on frames of which most may have only some of the labels.

    Stop it whenever you like: the same command continues at the last finished epoch, with exactly
    the frames and the random numbers that an uninterrupted run would have had.
    """
    from proto_mtl_ros.training.config import CONFIG, TrainConfig

    if config is None:
        if init is None:
            raise ConfigError(
                "give --config with a YAML file, or --init with the bundle to start from"
            )
        config = own_robot_config()
    settings = TrainConfig.read(config)  # before the slow imports: a bad file fails at once
    if init is not None:
        from proto_mtl_ros.training.start import continued_from

        settings = continued_from(settings, init)
        config = out / CONFIG
    if tasks is not None:
        settings = settings.with_tasks(comma_list.parts(tasks))
    from proto_mtl_ros.training.trainer import train

    checkpoint = train(settings, data, out, max_epochs)
    typer.echo(f"checkpoint: {checkpoint}")
    typer.echo(
        f"next: proto-mtl export --config {config} --checkpoint {checkpoint} --data {data}"
        f" --out models/{settings.name}"
    )


def own_robot_config() -> Path:
    """Return the shipped configuration for a robot's own recordings.

    Raises:
        ConfigError: it is not installed.
    """
    from proto_mtl_ros.files.installation import shared_file

    found = shared_file("config/training/own_robot.yaml")
    if found is None:
        raise ConfigError("own_robot.yaml is not installed: give --config")
    return found
