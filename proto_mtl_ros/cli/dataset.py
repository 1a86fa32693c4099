# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl dataset`: write folders to train from, look at labels, draw label manifests."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.cli.terminal import echo, progress_bar
from proto_mtl_ros.errors import ConfigError, DataError

if TYPE_CHECKING:
    from proto_mtl_ros.data.sample import FrameSource

app = command_group("Write folders to train from, look at labels, draw label manifests.")

Place = Annotated[
    Path,
    typer.Argument(
        help="A recording (rosbag2, ROS 1 bag), a folder (images/, depth/, segmentation/,"
        " normals/), the compact NYUv2 pack, nyu_depth_v2_labeled.mat, Cityscapes, or a YAML"
        " file that joins several."
    ),
]
Data = Annotated[Path, typer.Option(help="Folder of the data set, recording, or YAML file.")]
Kind = Annotated[
    str | None,
    typer.Option(
        help="bag, folder, nyuv2, nyuv2_mat, cityscapes, joined or a plug-in's; auto: by its look."
    ),
]
Split = Annotated[str, typer.Option(help="Which split, usually train or val.")]
Manifest = Annotated[
    Path | None, typer.Option(help="Label manifest (CSV): use only the labels that it allows.")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="NAME=VALUE of the kind, repeatable. Of a recording: masks=DIR, registered=true,"
        " rectified=true, every=10, tolerance=0.05, near=0.3, far=10, image_topic, info_topic,"
        " depth_topic. A wrong name is answered with those there are.",
    ),
]


Images = Annotated[
    str | None,
    typer.Option(help="png keeps every pixel, jpg (quality 95) takes a fifth; jpg of a recording."),
]
Blocks = Annotated[
    str,
    typer.Option(help="Of a recording: splits in time, each with its part; skip leaves out."),
]
Motion = Annotated[
    float,
    typer.Option(
        min=0, help="Of a recording: part of the width that the image has moved on; 0: every frame."
    ),
]


@app.command()
def convert(
    data: Place,
    out: Annotated[Path, typer.Option(help="Folder to write; can be continued.")],
    kind: Kind = None,
    split: Split = "train",
    manifest: Manifest = None,
    option: Options = None,
    images: Images = None,
    blocks: Blocks = "train 0.7, val 0.15, test 0.15",
    motion: Motion = 0.05,
) -> None:
    """Write a recording, or a split of a data set, as a folder of images and label maps.

    Of a recording, frames that show nothing new or are blurred are left out, depth is cleaned, and
    where it is not registered to the images only what lies away from edges becomes a label. Splits
    are stretches of time. Labels that the manifest withholds are not written. Stopped, the same
    command goes on where it was.
    """
    from proto_mtl_ros.data.bags.conversion import blocks_of, convert_recording
    from proto_mtl_ros.data.folder_writer import write_folder
    from proto_mtl_ros.data.registry import kind_of

    if (kind_of(data) if kind in (None, "auto") else kind) != "bag":
        source = open_dataset(data, kind, split, manifest, option)
        with typer.progressbar(length=len(source), label=f"{split} to {out.name}") as bar:
            damaged: list[str] = []
            written = write_folder(source, out, split, images or "png", bar.update, damaged)
        say_notes(source, damaged)
        number = len(source) - len(damaged)
        echo(f"{out}: {number} frames of {split}, {written} written now")
        return
    values = option_values(option or [])
    if manifest is not None:
        raise ConfigError("--manifest: a recording's labels are all written; train with it instead")
    with progress_bar() as progress:
        convert_recording(
            data, out, blocks_of(blocks), motion, values, images or "jpg", echo, progress
        )
    echo(f"wrote {out}; look at it with: proto-mtl dataset report {out}")


@app.command("import")
def import_(
    photos: Annotated[Path, typer.Argument(help="Folder of images.")],
    masks: Annotated[
        Path,
        typer.Argument(
            help="What a labelling tool wrote for some of them, a file or a folder: LabelMe, COCO,"
            " CVAT (images 1.1), Pascal VOC, Label Studio, or PNG files with classes.txt,"
            " classes.json or labelmap.txt."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; can be continued.")],
    hfov: Annotated[
        float | None, typer.Option(help="Degrees that the longer side of an image sees.")
    ] = None,
    camera: Annotated[
        Path | None, typer.Option(help="Camera as JSON (fx, fy, cx, cy, width, height).")
    ] = None,
) -> None:
    """Write photos and the masks that people drew for some of them as a folder to train from.

    A mask belongs to the photo of its name. Where no camera is given, classes and normals can be
    learnt from the folder, but no depth in metres. What is passed over is counted and named.
    """
    from proto_mtl_ros.data.folder_writer import write_folder
    from proto_mtl_ros.data.photos import Photos

    if hfov is not None and camera is not None:
        raise ConfigError("--hfov and --camera exclude each other")
    source = Photos(photos, masks, hfov, camera)
    damaged: list[str] = []
    with typer.progressbar(length=len(source), label=f"photos to {out.name}") as bar:
        write_folder(source, out, "train", source.image_kind, bar.update, damaged)
    say_notes(source, damaged)
    number, masked = len(source) - len(damaged), sum(bool(source.has(i)) for i in source.frame_ids)
    names = ", ".join(source.label_set.classes)
    echo(f"{out}: {number} photos, {masked} with a mask, classes {names}")
    echo(f"look at it with: proto-mtl dataset report {out} --out report.html")
    echo(f"train with: proto-mtl train {out}")


def say_notes(source: FrameSource, damaged: list[str]) -> None:
    from proto_mtl_ros.data.sample import notes_of

    for note in notes_of(source):
        echo(f"note: {note}")
    if damaged:
        echo(f"note: {len(damaged)} frames cannot be read and are left out: {damaged[0]}")


@app.command()
def report(
    data: Place,
    kind: Kind = None,
    split: Split = "train",
    manifest: Manifest = None,
    option: Options = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write a page (.html) or the pictures alone (.png)."),
    ] = None,
) -> None:
    """Print which labels a data set has, how the tasks overlap, its classes and depths.

    Overlap is the Jaccard index of the frames labelled for two tasks. Below 30 % a warning says
    that task affinity measured by gradients is not evidence on these labels.
    """
    from proto_mtl_ros import __version__
    from proto_mtl_ros.data.dataset_statistics import count_labels, count_pixels, examples, spread
    from proto_mtl_ros.data.sample import notes_of
    from proto_mtl_ros.evaluation.dataset_report import (
        dataset_table,
        write_dataset_page,
        write_dataset_picture,
    )

    if out is not None and out.suffix not in (".html", ".png"):
        raise ConfigError(f"--out {out} must end in .html or .png")
    source = open_dataset(data, kind, split, manifest, option)
    counts = count_labels(source)
    chosen = spread(len(source), 200)
    with typer.progressbar(length=len(chosen), label="frames") as bar:
        pixels = count_pixels(source, chosen, bar.update)
    echo(dataset_table(counts, pixels, source.label_set))
    say_notes(source, [])
    unseen = [name for name, here in zip(source.label_set.classes, pixels.class_pixels) if not here]
    if unseen and counts.labelled.get("segmentation"):
        echo(f"warning: {', '.join(unseen)}: no pixel in {len(chosen)} frames")
    if out is None:
        return
    samples = [source[index] for index in examples(source, 9)]
    if out.suffix == ".png":
        write_dataset_picture(out, samples, source.label_set)
    else:
        used = manifest.name if manifest else ""
        facts = {"split": split, "manifest": used, "kind": kind or "", "proto-mtl": __version__}
        facts = {name: value for name, value in facts.items() if value}
        title, notes = f"Data set {data.resolve().name}", notes_of(source)
        write_dataset_page(out, title, counts, pixels, source.label_set, samples, notes, facts)
    echo(f"wrote {out}")


@app.command()
def manifest(
    data: Place,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    draw: Annotated[
        str,
        typer.Option(
            "--setting", help="one_label: one per frame, balanced. random_label: 1 to T - 1."
        ),
    ] = "one_label",
    kind: Kind = None,
    split: Split = "train",
    option: Options = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks, with commas between; all of the data set without it."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another draw.")] = 0,
) -> None:
    """Draw which task labels every frame of a split may use, and write it as a CSV.

    one_label gives every frame one label; the tasks get equally many frames, or one more.
    random_label gives every frame 1 to T - 1 of its T labels. The same seed and frames give the
    same manifest. Frames are named by their id, so the order of files does not matter.
    """
    from proto_mtl_ros.data.manifest import DRAWS, write_manifest

    if draw not in DRAWS:
        raise ConfigError(f"--setting {draw!r} is not known; there are: {', '.join(DRAWS)}")
    source = open_dataset(data, kind, split, None, option)
    names = _tasks(tasks, source)
    for frame_id, name in product(source.frame_ids, names):
        if name not in source.has(frame_id):
            raise DataError(
                f"frame {frame_id} has no label of {name}, so none can be withheld: labels are"
                " drawn for frames that have all of --tasks; without a manifest every label"
                " that is there is used"
            )
    drawn = DRAWS[draw](source.frame_ids, names, seed)
    write_manifest(out, drawn)
    counts = ", ".join(f"{task} {sum(row[task] for row in drawn.values())}" for task in names)
    echo(f"wrote {out}: {len(drawn)} frames; {counts}")


def open_dataset(
    data: Path, kind: str | None, split: str, manifest: Path | None, options: list[str] | None
) -> FrameSource:
    from proto_mtl_ros.data.registry import open_source

    values = option_values(options or [])
    return open_source(kind or "auto", data, split, manifest=manifest, options=values)


def option_values(options: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs; values are read as YAML, so that true and 3 are what they look."""
    from proto_mtl_ros.files import parse_yaml

    values: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--option {text!r} must be NAME=VALUE")
        values[name.strip()] = parse_yaml(value, f"the value of --option {name}", ConfigError)
    return values


def _tasks(text: str | None, source: FrameSource) -> list[str]:
    if text is None:
        return list(source.tasks)
    names = comma_list.parts(text)
    unknown = [name for name in names if name not in source.tasks]
    if unknown or not names:
        raise ConfigError(f"--tasks {text!r}: the data set has {', '.join(source.tasks)}")
    return names
