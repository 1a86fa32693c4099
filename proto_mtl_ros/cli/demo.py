# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl demo`: the shipped recording, or another one, through the node, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import bag
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Model
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
    out: bag.Out = Path("out/demo"),
    model: Model = SHIPPED_MODEL,
) -> None:
    """Play a recording to the perception node in real time and write a report.

    It is `proto-mtl bag replay`, which has more options, on the shipped recording.
    """
    from proto_mtl_ros.files.installation import shared_file

    recording = recording or shared_file("recordings/room")
    if recording is None:
        raise ConfigError("the shipped recording is not installed: give --recording")
    bag.replay(context, recording, out=out, model=model)
