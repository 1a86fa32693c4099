# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag`: look into a recording, judge a model by it, replay it, learn from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import proto_mtl_ros
from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Backend, Device, Model, Precision
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.cli.terminal import echo, progress_bar
from proto_mtl_ros.cli.train import own_robot_config
from proto_mtl_ros.errors import ConfigError

if TYPE_CHECKING:
    from proto_mtl_ros.data.bags.bag import Bag

ImageTopic = Annotated[str | None, typer.Option(help="Colour images; guessed when not given.")]
InfoTopic = Annotated[str | None, typer.Option(help="Their CameraInfo; guessed.")]
DepthTopic = Annotated[str | None, typer.Option(help="Measured depth to compare; guessed.")]
Registered = Annotated[
    bool, typer.Option(help="Depth pixels are the image's, although the frames differ.")
]
Rectified = Annotated[
    bool | None,
    typer.Option(help="Use P of CameraInfo, or K and D; by a word of the topic without it."),
]
CameraFile = Annotated[
    Path | None, typer.Option(help="Camera (JSON, or ROS calibration YAML) in place of CameraInfo.")
]
NoCamera = Annotated[bool, typer.Option("--no-camera", help="Use no CameraInfo.")]
Out = Annotated[Path, typer.Option(help="Folder of the results.")]

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
    from proto_mtl_ros.data.bags.recording_kinds import open_recording

    if recording.exists() and is_bag(recording):
        with Bag(recording) as bag:
            _info_of_bag(recording, bag)
    else:
        with open_recording(recording) as opened:
            echo(f"{recording}: {opened.kind}, {opened.frames} frames at {opened.rate:.2f} Hz")
    if pictures is not None:
        from proto_mtl_ros.evaluation.recording_report import recording_sheet
        from proto_mtl_ros.files import write_bytes

        with open_recording(recording) as opened:
            write_bytes(pictures, recording_sheet(opened))
        echo(f"wrote {pictures}")


def _info_of_bag(path: Path, bag: Bag) -> None:
    from proto_mtl_ros.data.bags.summary import summarise

    summary = summarise(bag)
    echo(f"{path}: {summary.duration:.2f} s")
    for one in summary.topics:
        facts = [f"{one.rate:.2f} Hz", f"largest gap {one.largest_gap:.3f} s"]
        look = one.look
        facts = facts if one.count > 1 else []
        facts += [text for text in (look.size, look.encoding) if text]
        facts += [f"frame {look.frame_id}"] if look.frame_id else []
        facts += [f"usable as {look.use}"] if look.use else []
        echo(f"  {one.count:7d}  {one.topic.name}  [{one.topic.type}]")
        if facts:
            echo(f"           {', '.join(facts)}")
    for note in (*summary.notes, *summary.decisions):
        echo(f"note: {note}")
    if summary.camera is None:
        echo(f"images: none ({summary.problem})")
        return
    camera = summary.camera
    echo(f"images: {camera.image.name}")
    for label in ("camera_info", "depth", "labels"):
        other = getattr(camera, label)
        echo(f"{label}: {other.name if other else 'none'}")


@app.command()
def evaluate(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 or a ROS 1 bag.")],
    out: Out = Path("out/evaluate"),
    model: Model = SHIPPED_MODEL,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    image_topic: ImageTopic = None,
    info_topic: InfoTopic = None,
    depth_topic: DepthTopic = None,
    labels_topic: Annotated[
        str | None, typer.Option(help="Images of class ids in the model's classes, mono8.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take one image of so many.")] = 1,
    rectified: Rectified = None,
    camera: CameraFile = None,
    no_camera: NoCamera = False,
    registered: Registered = False,
    extrinsics: Annotated[
        Path | None,
        typer.Option(
            help="YAML with translation [x, y, z] and rotation [x, y, z, w] from the depth camera's"
            " optical frame to the image's; without it /tf_static is asked."
        ),
    ] = None,
) -> None:
    """Run a model over a recording and judge it by what was recorded beside the images.

    Against a depth topic: errors, by distance, with and without alignment. Against normals of that
    depth, where it is registered to the images. Against label images. And without any of these:
    how steady the results are, and whether depth and normals agree. Stopped, the same command goes
    on where it was.
    """
    from proto_mtl_ros.data.bags.calibration import Calibration
    from proto_mtl_ros.data.bags.recording import BagRecording, given_camera
    from proto_mtl_ros.evaluation.bag_evaluation import evaluate_bag, read_extrinsics, summary
    from proto_mtl_ros.evaluation.bag_pass import PassOptions

    given = given_camera(camera, no_camera)
    with BagRecording(recording, image_topic, info_topic, depth_topic, given) as opened:
        transform = None if extrinsics is None else read_extrinsics(extrinsics)
        calibration = Calibration.of(opened, rectified, registered, transform)
        predictor = proto_mtl_ros.load(model, backend, device, precision)
        options = PassOptions(labels_topic, every=every)
        with progress_bar() as tell:
            figures = evaluate_bag(
                opened, calibration, predictor, out, options,
                lambda done, of: tell(predictor.bundle.name, done, of),
            )  # fmt: skip
        predictor.close()
    echo(summary(figures))
    echo(f"wrote {out / 'results.json'} and {out / 'report.html'}")


@app.command()
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
    seeds: Annotated[str, typer.Option(help="With commas between.")] = "0",
    registered: Registered = False,
) -> None:
    """Fine-tune a model on the first part of a recording and judge it by the last part.

    Depth and the normals derived from it are what the recording teaches; the classes stay as they
    are. Beside the fine-tuned models stand honest rivals: the model as it was, the
    same with one scale that fits the first part best, and both with every frame scaled to fit. What
    is finished is not done again. The folder of --out gets recordings.json, all its figures, and a
    report of each training.
    """
    from proto_mtl_ros.training.learn import Lesson, learn_from_bag, summary

    numbers = tuple(comma_list.numbers(seeds, "--seeds"))
    run = config or own_robot_config()
    lesson = Lesson(run, init, learn_from, judge, motion, steps, numbers, registered)
    for line in summary(learn_from_bag(recording, out, lesson, echo)):
        echo(line)
    echo(f"report: {out / f'seed{numbers[-1]}' / 'report.html'}")


@app.command()
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
    fps: Annotated[
        float | None, typer.Option(help="Images a second of a folder (10) or a video (its own).")
    ] = None,
    image_topic: ImageTopic = None,
    camera: CameraFile = None,
    no_camera: NoCamera = False,
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
        recording, out, parameters, rate, seconds, start, loops, fps, image_topic, domain_id,
        _command(context), camera, no_camera,
    )  # fmt: skip
    with progress_bar("starting") as tell:
        report = run_replay(options, echo, tell)
    echo(f"Report: {report}")


def _command(context: typer.Context) -> tuple[str, ...]:
    """Return the words that started this, whether by `proto-mtl` or by `ros2 run`."""
    names = context.command_path.split()
    given = sys.argv[1:]
    count = len(names) - 1
    return (*names, *given[count if given[:count] == names[1:] else 0 :])
