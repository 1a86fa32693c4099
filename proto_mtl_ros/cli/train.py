# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl train`: train a network, or continue a training that was stopped."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL
from proto_mtl_ros.cli.terminal import echo
from proto_mtl_ros.errors import ConfigError


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Folder, recording or YAML file of the data set."),
    ] = None,
    data: Annotated[Path | None, typer.Option(hidden=True)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoints, model and report; a run in it continues. runs/<name of "
            "the data> without it."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of a run that shall differ from the plan.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Name or folder of a bundle to start from; the shipped one without --config."
        ),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Stop after this epoch, before the export.")
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

    Says what it will do and how long that takes, learns, exports the model, judges it beside the
    one it started from on frames that neither has seen, and writes a report. What the data has no
    label of is taught by the starting model.

    Stop it whenever you like: the same command continues at the last finished epoch, with exactly
    the frames and the random numbers that an uninterrupted run would have had.
    """
    from proto_mtl_ros.training.config import CONFIG, TrainConfig

    data = folder or data
    if data is None:
        raise ConfigError("give the data set: proto-mtl train DATA")
    settings = TrainConfig.read(config or own_robot_config())  # before the slow imports
    if config is None or init is not None:
        from proto_mtl_ros.training.start import continued_from

        settings = continued_from(settings, init or SHIPPED_MODEL)
    if config is None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.resolve().stem).strip("-.") or "own"
        data_config = settings.data.model_copy(update={"name": f"own data ({name})"})
        settings = settings.model_copy(update={"name": name, "data": data_config})
    if tasks is not None:
        settings = settings.with_tasks(comma_list.parts(tasks))
    out = out or Path("runs") / settings.name
    from proto_mtl_ros.training.plan import planned
    from proto_mtl_ros.training.run import train_model

    plan = planned(settings, data)
    if max_epochs is None:
        train_model(plan, data, out, _say)
        return
    from proto_mtl_ros.training.trainer import train

    checkpoint = train(plan.config, data, out, max_epochs)
    _say(f"checkpoint: {checkpoint}")
    _say(
        f"next: proto-mtl export --config {out / CONFIG} --checkpoint {checkpoint} --data {data}"
        f" --out models/{settings.name}"
    )


def _say(line: str) -> None:
    if not int(os.environ.get("LOCAL_RANK", 0)):  # else another process says it
        echo(line)


def own_robot_config() -> Path:
    """Return the shipped configuration; ConfigError where it is not installed."""
    from proto_mtl_ros.files.installation import shared_file

    found = shared_file("config/training/own_robot.yaml")
    if found is None:
        raise ConfigError("own_robot.yaml is not installed: give --config")
    return found
