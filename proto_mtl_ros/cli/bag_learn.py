# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag learn`: a model fine-tuned on a robot's own recording, and what that was worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL
from proto_mtl_ros.cli.train import own_robot_config


def learn(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 with colour and depth.")],
    out: Annotated[Path, typer.Option(help="Folder of data, runs and models.")],
    init: Annotated[str, typer.Option(help="Bundle to start from.")] = SHIPPED_MODEL,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the run; own_robot.yaml without it.")
    ] = None,
    learn_from: Annotated[
        float, typer.Option("--learn", min=0.05, max=0.9, help="First part, to learn from.")
    ] = 0.5,
    judge: Annotated[float, typer.Option(min=0.05, max=0.9, help="Last part, to judge by.")] = 1
    / 3,
    motion: Annotated[float, typer.Option(min=0, help="See `dataset convert`.")] = 0.008,
    steps: Annotated[
        int, typer.Option(min=10, help="Optimiser steps, about, whatever the number of frames.")
    ] = 600,
    seeds: Annotated[str, typer.Option(help="With commas between.")] = "0,1",
    keep: Annotated[
        Path | None, typer.Option(help="NYUv2 pack: is what the model knew of classes still there?")
    ] = None,
    registered: Annotated[
        bool, typer.Option(help="Depth pixels are the image's, although the frames differ.")
    ] = False,
) -> None:
    """Fine-tune a model on the first part of a recording and judge it by the last part.

    Depth and the normals derived from it are what the recording teaches; the classes stay exactly
    as they are. Beside the fine-tuned models stand honest rivals: the model as it was, the same
    with one scale that fits the first part best, and both with every frame scaled to fit. What is
    finished is not done again. The folder of --out gets recordings.json, all its figures.
    """
    from proto_mtl_ros.training.learn import Lesson, learn_from_bag, summary

    numbers = tuple(comma_list.numbers(seeds, "--seeds"))
    run = config or own_robot_config()
    lesson = Lesson(run, init, learn_from, judge, motion, steps, numbers, keep, registered)
    for line in summary(learn_from_bag(recording, out, lesson, typer.echo)):
        typer.echo(line)
