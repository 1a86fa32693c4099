# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag`: look into a recording, play it, record topics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.errors import BagError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Look into a recording (rosbag2, video, folder of images), play it, record topics.",
)


@app.command()
def info(recording: Annotated[Path, typer.Argument(help="A rosbag2, a video, a folder.")]) -> None:
    """Print the topics of a recording and which of them a replay would use. Needs no ROS."""
    from proto_mtl_ros.data.bag import Bag, is_bag
    from proto_mtl_ros.data.recording import open_recording

    if recording.exists() and is_bag(recording):
        with Bag(recording) as bag:
            typer.echo(f"{recording}: {bag.duration:.2f} s")
            for topic in bag.topics:
                typer.echo(f"  {topic.count:7d}  {topic.name}  [{topic.type}]")
    try:
        opened = open_recording(recording)
    except BagError as error:
        if not recording.exists() or not is_bag(recording):
            raise
        typer.echo(f"images: none ({error})")
        return
    with opened:
        topics = opened.topics
        typer.echo(f"images: {topics.image.name}, {opened.frames} at {opened.rate:.2f} Hz")
        for label, other in (("camera_info", topics.camera_info), ("depth", topics.depth)):
            typer.echo(f"{label}: {other.name if other else 'none'}")


@app.command()
def play(
    recording: Annotated[Path, typer.Argument(help="A rosbag2, a video, a folder.")],
    rate: Annotated[float, typer.Option(help="Playing speed, 1 as recorded.")] = 1.0,
    seconds: Annotated[
        float | None, typer.Option(help="Play only the first so many seconds.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Images a second of a folder or a video.")
    ] = None,
    clock: Annotated[bool, typer.Option(help="Publish the recorded times on /clock.")] = False,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a subscriber of the images.")
    ] = 30.0,
) -> None:
    """Play the colour images and camera_info of a recording over ROS at its own rate."""
    from proto_mtl_ros.replay import player

    arguments = [str(recording), f"--rate={rate}", f"--wait={wait}"]
    arguments += [f"--seconds={seconds}"] if seconds is not None else []
    arguments += [f"--fps={fps}"] if fps is not None else []
    sys.exit(player.main(arguments + (["--clock"] if clock else [])))


@app.command()
def record(
    out: Annotated[Path, typer.Argument(help="Folder of the new recording.")],
    topics: Annotated[
        list[str],
        typer.Argument(
            help="name=package/msg/Type, for example /camera/depth/image=sensor_msgs/msg/Image"
        ),
    ],
) -> None:
    """Record topics into a rosbag2 (mcap) until Ctrl-C."""
    from proto_mtl_ros.replay import recorder

    sys.exit(recorder.main([str(out), *topics]))
