# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag evaluate`: a model on every frame of a recording, and what that is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proto_mtl_ros.cli.engine_options import (
    SHIPPED_MODEL,
    Backend,
    Device,
    InputSize,
    Model,
    Precision,
    Threads,
    open_predictor,
)
from proto_mtl_ros.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from proto_mtl_ros.data.bags.recording import BagRecording
    from proto_mtl_ros.evaluation.bag_pass import BagPass
    from proto_mtl_ros.runtime.bundle import Bundle

RECORDS, RESULTS, REPORT = "frames.jsonl", "results.json", "report.html"


def evaluate(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 or a ROS 1 bag.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out/evaluate"),
    model: Model = SHIPPED_MODEL,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    input_size: InputSize = None,
    image_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    info_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    depth_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    labels_topic: Annotated[
        str | None, typer.Option(help="Images of class ids in the model's classes, mono8.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take one image of so many.")] = 1,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Seconds between an image and its depth, at most.")
    ] = 0.02,
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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from proto_mtl_ros.data.bags.calibration import recorded_camera
    from proto_mtl_ros.data.bags.recording import BagRecording
    from proto_mtl_ros.evaluation.bag_pass import (
        BagPass,
        PassOptions,
    )
    from proto_mtl_ros.evaluation.bag_report import (
        frames_to_show,
        write_bag_report,
    )
    from proto_mtl_ros.files import write_text
    from proto_mtl_ros.locks import sole_use

    with (
        sole_use(out),
        BagRecording(recording, image_topic, info_topic, depth_topic) as opened,
    ):
        for note in opened.notes:
            typer.echo(f"note: {note}")
        camera = recorded_camera(opened, opened.topics.camera_info, rectified)
        depth_camera = recorded_camera(opened, opened.depth_info)
        if camera is None:
            typer.echo("note: no calibrated camera_info: depth is for the model's own camera")
        transform = None if registered else _transform(opened, extrinsics)
        predictor = open_predictor(model, backend, device, precision, threads, input_size)
        predictor.warm_up()
        bundle, engine = predictor.bundle, predictor.engine
        options = PassOptions(labels_topic, tolerance, every, registered, transform)
        run = BagPass(opened, predictor, camera, depth_camera, options)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns) as bar:
            task = bar.add_task(bundle.name, total=None)
            found = run.figures(
                out / RECORDS, lambda done, of: bar.update(task, completed=done, total=of)
            )
        figures = {
            "recording": _facts(opened, run),
            "model": {"name": bundle.name, "engine": engine.choice},
            "metric": camera is not None,
            **found,
        }
        write_text(out / RESULTS, json.dumps(figures, indent=1, allow_nan=False) + "\n")
        slider, best, worst = frames_to_show(figures)
        write_bag_report(
            out / REPORT,
            figures,
            run.rows({*slider, *best, *worst}),
            bundle.classes,
            bundle.palette,
            _made_with(bundle, engine.choice),
        )
        predictor.close()
    for line in summary(figures):
        typer.echo(line)
    typer.echo(f"wrote {out / RESULTS} and {out / REPORT}")


def _transform(
    recording: BagRecording, extrinsics: Path | None
) -> tuple[tuple[float, ...], ...] | None:
    """Return the 4x4 matrix from the depth camera to the image, None where it is not known."""
    from proto_mtl_ros.data.bags.calibration import recorded_transforms

    matrix: np.ndarray | None = None
    if extrinsics is not None:
        matrix = _read_extrinsics(extrinsics)
    else:
        frame = recording.depth_frame()
        if frame and frame != recording.image_frame():
            matrix = recorded_transforms(recording).between(frame, recording.image_frame())
    return None if matrix is None else tuple(tuple(map(float, row)) for row in matrix)


def _read_extrinsics(path: Path) -> np.ndarray:
    from proto_mtl_ros.bounded import read_yaml
    from proto_mtl_ros.geometry.registration import rigid_transform

    content = read_yaml(path, ConfigError)
    try:
        return rigid_transform(content["translation"], content.get("rotation", (0, 0, 0, 1)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} has no extrinsics ({error}): give translation: [x, y, z] and rotation:"
            " [x, y, z, w]"
        ) from None


def _facts(recording: BagRecording, run: BagPass) -> dict[str, Any]:
    topics = recording.topics
    return {
        "path": recording.path.name,
        "seconds": recording.duration,
        "images": len(run.stream),
        "repeated_stamps": run.stream.repeated,
        "image_topic": topics.image.name,
        "depth_topic": topics.depth.name if topics.depth else None,
        "matched": run.stream.matched,
        "registration": run.registration,
        "notes": list(recording.notes),
    }


def _made_with(bundle: Bundle, engine: str) -> dict[str, str]:
    import proto_mtl_ros
    from proto_mtl_ros.runtime.machine import machine

    facts = machine()
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return {
        "model": f"{bundle.name}, trained on {bundle.manifest.training.data}",
        "engine": engine,
        "machine": f"{facts['processor']}, {facts['cores']} CPUs",
        "versions": f"proto_mtl_ros {proto_mtl_ros.__version__}, Python {facts['python']},"
        f" {versions}",
    }


def summary(figures: dict[str, Any]) -> list[str]:
    """Return the main figures, a line each."""
    from proto_mtl_ros.evaluation.bag_report import REGISTRATIONS
    from proto_mtl_ros.evaluation.depth_error import fair_mask

    lines = [f"{figures['frames']} frames, engine p50 {figures['ms']['infer']['p50']:.1f} ms"]
    depth = figures["depth"]
    if depth is not None:
        registration = figures["recording"]["registration"]
        lines.append(REGISTRATIONS[registration])
        name = fair_mask(registration != "none")
        for key, text in (("", "as it is"), ("_aligned", "scaled"), ("_affine", "scaled, shifted")):
            own = depth[name + key]
            lines.append(
                f"depth, {text}: abs {own['abs_err']:.3f} m, rel {own['rel_err']:.3f}, delta <"
                f" 1.25 {own['delta1']:.3f}"
            )
        lines.append(f"median scale of the frames: {depth['median_scale']:.3f}")
    for name, text in (("normals", "normals against those of measured depth"),
                       ("consistency", "normals against those of predicted depth")):  # fmt: skip
        if figures[name] is not None:
            own = figures[name]
            lines.append(f"{text}: mean {own['mean_deg']:.1f}, median {own['median_deg']:.1f} deg")
    if figures["segmentation"] is not None:
        lines.append(f"mIoU {figures['segmentation']['miou']:.3f}")
    steady = figures["stability"]
    if "flicker" in steady:
        lines.append(f"classes that change along the flow: {100 * steady['flicker']:.1f} %")
    if "jitter" in steady:
        lines.append(f"depth that changes along the flow: {100 * steady['jitter']:.1f} %")
    return lines
