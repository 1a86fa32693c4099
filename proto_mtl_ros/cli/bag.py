# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag`: look into a recording, judge a model by it, replay it, learn from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proto_mtl_ros.cli.bag_evaluate import evaluate
from proto_mtl_ros.cli.bag_learn import learn
from proto_mtl_ros.cli.bag_replay import replay
from proto_mtl_ros.cli.group import command_group

if TYPE_CHECKING:
    from proto_mtl_ros.data.bags.bag import Bag

app = command_group("Look into a recording, judge a model by it, replay it, learn from it.")


@app.command()
def info(
    recording: Annotated[Path, typer.Argument(help="A rosbag2, a ROS 1 bag, a video, a folder.")],
    pictures: Annotated[
        Path | None,
        typer.Option(help="Write a PNG of the first, middle and last image and their depth."),
    ] = None,
) -> None:
    """Say what is in a recording: topics, rates, gaps, sizes, and what can be used. No ROS needed.

    Of a recording that was cut off, what lies before the cut is read.
    """
    from proto_mtl_ros.data.bags.bag import Bag, is_bag

    if not recording.exists() or not is_bag(recording):
        _info_of_images(recording)
    else:
        with Bag(recording) as bag:
            _info_of_bag(recording, bag)
    if pictures is not None:
        from proto_mtl_ros.data.bags.recording_kinds import open_recording
        from proto_mtl_ros.evaluation.recording_report import recording_sheet
        from proto_mtl_ros.files import write_bytes

        with open_recording(recording) as opened:
            write_bytes(pictures, recording_sheet(opened))
        typer.echo(f"wrote {pictures}")


def _info_of_bag(path: Path, bag: Bag) -> None:
    from proto_mtl_ros.data.bags.summary import summarise

    summary = summarise(bag)
    typer.echo(f"{path}: {summary.duration:.2f} s")
    for one in summary.topics:
        facts = [f"{one.rate:.2f} Hz", f"largest gap {one.largest_gap:.3f} s"]
        facts += [text for text in (one.size, one.encoding) if text]
        facts += [f"frame {one.frame_id}"] if one.frame_id else []
        facts += [f"usable as {one.use}"] if one.use else []
        typer.echo(f"  {one.count:7d}  {one.topic.name}  [{one.topic.type}]")
        if one.count > 1:
            typer.echo(f"           {', '.join(facts)}")
    for note in (*summary.notes, *summary.decisions):
        typer.echo(f"note: {note}")
    if summary.camera is None:
        typer.echo(f"images: none ({summary.problem})")
        return
    camera = summary.camera
    typer.echo(f"images: {camera.image.name}")
    for label, other in (("camera_info", camera.camera_info), ("depth", camera.depth)):
        typer.echo(f"{label}: {other.name if other else 'none'}")


def _info_of_images(path: Path) -> None:
    from proto_mtl_ros.data.bags.recording_kinds import open_recording

    with open_recording(path) as opened:
        typer.echo(f"{path}: {opened.kind}, {opened.frames} frames at {opened.rate:.2f} Hz")


app.command()(evaluate)
app.command()(learn)
app.command()(replay)
