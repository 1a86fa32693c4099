# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl demo`: the shipped recording, or another one, through the node, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import bag_replay as options
from proto_mtl_ros.cli.engine_options import (
    SHIPPED_MODEL,
    Backend,
    Device,
    Model,
    Threads,
)
from proto_mtl_ros.errors import ConfigError


def command(
    context: typer.Context,
    recording: Annotated[
        Path | None,
        typer.Option(
            help="A rosbag2 (folder, .mcap or .db3), a ROS 1 bag, a video file, or a folder of "
            "images; the shipped recording without it."
        ),
    ] = None,
    out: options.Out = Path("out/demo"),
    model: Model = SHIPPED_MODEL,
    backend: Backend = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    rate: options.Rate = 1.0,
    seconds: options.Seconds = None,
    fps: options.Fps = None,
    image_topic: options.ImageTopic = None,
    info_topic: options.InfoTopic = None,
    depth_topic: options.DepthTopic = None,
    param: options.Param = None,
    domain_id: options.DomainId = None,
) -> None:
    """Play a recording to the perception node in real time and write a report.

    As `proto-mtl bag replay`, which has more options, by the clock of this machine.
    """
    from proto_mtl_ros.ros.replay.installation import shared_file

    recording = recording or shared_file("recordings/room")
    if recording is None:
        raise ConfigError("the shipped recording is not installed: give --recording")
    options.replay(
        context,
        recording,
        out=out,
        model=model,
        backend=backend,
        device=device,
        threads=threads,
        rate=rate,
        seconds=seconds,
        sim_time=False,
        fps=fps,
        image_topic=image_topic,
        info_topic=info_topic,
        depth_topic=depth_topic,
        param=param,
        domain_id=domain_id,
    )
