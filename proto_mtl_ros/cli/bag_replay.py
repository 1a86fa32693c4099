# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag replay`: a recording through the running node, held against the offline pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.bag_topics import DepthTopic, ImageTopic, InfoTopic
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Model
from proto_mtl_ros.cli.progress import progress_bar
from proto_mtl_ros.errors import ConfigError

Out = Annotated[Path, typer.Option(help="Folder for the results.")]


def replay(
    context: typer.Context,
    recording: Annotated[
        Path,
        typer.Argument(
            help="A rosbag2 (folder, .mcap or .db3), a ROS 1 bag, a video file, or a folder of "
            "images."
        ),
    ],
    out: Out = Path("out/replay"),
    model: Model = SHIPPED_MODEL,
    rate: Annotated[float, typer.Option(help="Playing speed, 1 as recorded.")] = 1.0,
    start: Annotated[
        float, typer.Option(min=0, help="Leave out so many seconds at the beginning.")
    ] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=0, help="Play only so many seconds.")] = None,
    loops: Annotated[int, typer.Option(min=1, help="Play it so many times.")] = 1,
    compare: Annotated[
        bool, typer.Option(help="Run the images offline as well, and compare every value.")
    ] = True,
    fps: Annotated[
        float | None, typer.Option(help="Images a second of a folder (10) or a video (its own).")
    ] = None,
    image_topic: ImageTopic = None,
    info_topic: InfoTopic = None,
    depth_topic: DepthTopic = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="Further node parameter, as name:=value, such as backend:=openvino."),
    ] = None,
    domain_id: Annotated[
        int | None, typer.Option(help="ROS domain; a free one when not given.", show_default=False)
    ] = None,
) -> None:
    """Play a recording to the perception node in real time, record its results, and report.

    Three processes talk over DDS, by the recorded time: a player, the node, and a recorder. Then
    the same images take the offline way, and the report says whether every value is the same, and
    of every image without a result, why. The folder of --out gets report.html, results.json (all
    its figures), contact_sheet.png and results (rosbag2, mcap).
    """
    from proto_mtl_ros.ros.replay.run import run_replay
    from proto_mtl_ros.ros.replay.session import ReplayOptions

    parameters = {"model": model}
    for item in param or ():
        name, separator, value = item.partition(":=")
        if not separator or not name:
            raise ConfigError(f"--param {item} is not name:=value")
        parameters[name] = value
    options = ReplayOptions(
        recording, out, parameters, rate, seconds, start, loops, fps, image_topic, info_topic,
        depth_topic, domain_id, compare, _command(context),
    )  # fmt: skip
    with progress_bar("starting") as tell:
        report = run_replay(options, typer.echo, tell)
    typer.echo(f"Report: {report}")


def _command(context: typer.Context) -> tuple[str, ...]:
    """Return the words that started this, whether by `proto-mtl` or by `ros2 run`."""
    names = context.command_path.split()
    given = sys.argv[1:]
    count = len(names) - 1
    return (*names, *given[count if given[:count] == names[1:] else 0 :])
