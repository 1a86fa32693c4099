# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag evaluate`: a model on every frame of a recording, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import proto_mtl_ros
from proto_mtl_ros.cli.bag_topics import DepthTopic, ImageTopic, InfoTopic
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Backend, Device, Model, Precision
from proto_mtl_ros.cli.progress import progress_bar


def evaluate(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 or a ROS 1 bag.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out/evaluate"),
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
    rectified: Annotated[bool, typer.Option(help="The images are rectified: use P.")] = False,
    registered: Annotated[
        bool, typer.Option(help="Depth pixels are the image's, although the frames differ.")
    ] = False,
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
    from proto_mtl_ros.data.bags.recording import BagRecording
    from proto_mtl_ros.evaluation.bag_evaluation import evaluate_bag, read_extrinsics, summary
    from proto_mtl_ros.evaluation.bag_pass import PassOptions

    with BagRecording(recording, image_topic, info_topic, depth_topic) as opened:
        transform = None if extrinsics is None else read_extrinsics(extrinsics)
        calibration = Calibration.of(opened, rectified or None, registered, transform)
        predictor = proto_mtl_ros.load(model, backend, device, precision)
        options = PassOptions(labels_topic, every=every)
        with progress_bar() as tell:
            figures = evaluate_bag(
                opened, calibration, predictor, out, options,
                lambda done, of: tell(predictor.bundle.name, done, of),
            )  # fmt: skip
        predictor.close()
    typer.echo(summary(figures), nl=False)
    typer.echo(f"wrote {out / 'results.json'} and {out / 'report.html'}")
