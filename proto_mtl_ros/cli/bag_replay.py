# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag replay`: a recording through the running node, held against the offline pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.engine_options import (
    SHIPPED_MODEL,
    Backend,
    Device,
    Model,
    Threads,
)
from proto_mtl_ros.errors import ConfigError

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Rate = Annotated[float, typer.Option(help="Playing speed, 1 as recorded.")]
Seconds = Annotated[float | None, typer.Option(min=0, help="Play only so many seconds.")]
Start = Annotated[float, typer.Option(min=0, help="Leave out so many seconds at the beginning.")]
Fps = Annotated[
    float | None, typer.Option(help="Images a second of a folder (10) or a video (its own).")
]
ImageTopic = Annotated[str | None, typer.Option(help="Colour images; guessed when not given.")]
InfoTopic = Annotated[str | None, typer.Option(help="Their CameraInfo; guessed.")]
DepthTopic = Annotated[str | None, typer.Option(help="Measured depth to compare; guessed.")]
Param = Annotated[list[str] | None, typer.Option(help="Further node parameter, as name:=value.")]
DomainId = Annotated[
    int | None, typer.Option(help="ROS domain; a free one when not given.", show_default=False)
]


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
    backend: Backend = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    rate: Rate = 1.0,
    start: Start = 0.0,
    seconds: Seconds = None,
    loops: Annotated[int, typer.Option(min=1, help="Play it so many times.")] = 1,
    sim_time: Annotated[
        bool, typer.Option(help="The node takes the recorded time, from /clock.")
    ] = True,
    compare: Annotated[
        bool, typer.Option(help="Run the images offline as well, and compare every value.")
    ] = True,
    fps: Fps = None,
    image_topic: ImageTopic = None,
    info_topic: InfoTopic = None,
    depth_topic: DepthTopic = None,
    param: Param = None,
    domain_id: DomainId = None,
) -> None:
    """Play a recording to the perception node in real time, record its results, and report.

    Three processes talk over DDS: a player, the node, and a recorder. Then the same images take the
    offline way, and the report says whether every value is the same, and of every image without a
    result, why. The folder of --out gets report.html, results.json (all its figures),
    contact_sheet.png and results (rosbag2, mcap).
    """
    from proto_mtl_ros.ros.replay.run import (
        RunOptions,
        run_replay,
    )

    if domain_id is not None and not 0 <= domain_id <= 232:
        raise ConfigError(f"--domain-id {domain_id} is not a ROS domain: give 0 to 232")
    parameters = {"model": model, "backend": backend, "device": device, "threads": str(threads)}
    for item in param or ():
        name, separator, value = item.partition(":=")
        if not separator or not name:
            raise ConfigError(f"--param {item} is not name:=value")
        parameters[name] = value
    options = RunOptions(
        recording=recording,
        out=out,
        parameters=parameters,
        rate=rate,
        start=start,
        seconds=seconds,
        loops=loops,
        sim_time=sim_time,
        compare=compare,
        fps=fps,
        image_topic=image_topic,
        info_topic=info_topic,
        depth_topic=depth_topic,
        domain_id=domain_id,
        command=_command(context),
    )
    report = run_replay(options)
    typer.echo(f"Report: {report}")


def _command(context: typer.Context) -> tuple[str, ...]:
    """Return the words that started this, whether by `proto-mtl` or by `ros2 run`."""
    import sys

    names = context.command_path.split()
    given = sys.argv[1:]
    count = len(names) - 1
    return (*names, *given[count if given[:count] == names[1:] else 0 :])
