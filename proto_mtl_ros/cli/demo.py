# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl demo`: a recording through the node over DDS, and a report about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL
from proto_mtl_ros.errors import ConfigError


def command(
    recording: Annotated[
        Path,
        typer.Option(
            help="A rosbag2 (folder, .mcap or .db3), a video file, or a folder of images."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    model: Annotated[
        str, typer.Option(help="Name of a shipped bundle, or a bundle's folder.")
    ] = SHIPPED_MODEL,
    backend: Annotated[
        str, typer.Option(help="Engine: auto, onnxruntime, openvino or torch.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Device of the engine: auto, cpu, cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the engine, 0 for its own choice.")] = 0,
    rate: Annotated[float, typer.Option(help="Playing speed, 1 as recorded.")] = 1.0,
    seconds: Annotated[
        float | None, typer.Option(help="Play only the first so many seconds.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Images a second of a folder (10) or a video (its own).")
    ] = None,
    image_topic: Annotated[
        str | None, typer.Option(help="Colour images; guessed when not given.")
    ] = None,
    info_topic: Annotated[str | None, typer.Option(help="Their CameraInfo; guessed.")] = None,
    depth_topic: Annotated[
        str | None, typer.Option(help="Measured depth to compare; guessed.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="Further node parameter, as name:=value.")
    ] = None,
    domain_id: Annotated[
        int | None, typer.Option(help="ROS domain; a free one when not given.")
    ] = None,
) -> None:
    """Play a recording to the perception node in real time and write a report.

    Three processes talk over DDS: a player, the node, and a recorder. The folder of --out gets
    report.html, results.json (all its figures), contact_sheet.png and results (rosbag2, mcap).
    """
    from proto_mtl_ros.replay.demo import DemoOptions, run_demo

    if domain_id is not None and not 0 <= domain_id <= 232:
        raise ConfigError(f"--domain-id {domain_id} is not a ROS domain: give 0 to 232")
    parameters = {"model": model, "backend": backend, "device": device, "threads": str(threads)}
    for item in param or ():
        name, separator, value = item.partition(":=")
        if not separator or not name:
            raise ConfigError(f"--param {item} is not name:=value")
        parameters[name] = value
    options = DemoOptions(
        recording=recording,
        out=out,
        parameters=parameters,
        rate=rate,
        seconds=seconds,
        fps=fps,
        image_topic=image_topic,
        info_topic=info_topic,
        depth_topic=depth_topic,
        domain_id=domain_id,
    )
    try:
        report = run_demo(options)
    except KeyboardInterrupt:  # typer would end without a word
        typer.echo("proto-mtl demo: stopped by Ctrl-C, its processes are ended", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"Report: {report}")
