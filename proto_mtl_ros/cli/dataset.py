# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl dataset`: look at labels, draw or import label manifests, write folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.errors import ConfigError, DataError

if TYPE_CHECKING:
    from proto_mtl_ros.data.sample import FrameSource

app = command_group(
    "Look at the labels of a data set, draw or import label manifests, write folders."
)

KINDS = (
    "nyuv2 (the compact pack), preprocessed (numbered .npy files of NYUv2 or Cityscapes), folder "
    "(images/, depth/, segmentation/, normals/), bag (a rosbag2 with depth) or joined (a YAML "
    "file that lists several)."
)
Data = Annotated[Path, typer.Option(help="Folder of the data set, recording, or YAML file.")]
Kind = Annotated[str, typer.Option(help=KINDS)]
Split = Annotated[str, typer.Option(help="Which split, usually train or val.")]
Manifest = Annotated[
    Path | None, typer.Option(help="Label manifest (CSV): use only the labels that it allows.")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="NAME=VALUE of the kind, repeatable: normal_axes=x,-y,-z, derive_normals=true, "
        "every=10, registered=true ... A wrong name is answered with those there are.",
    ),
]
Tasks = Annotated[
    str | None, typer.Option(help="Tasks, with commas between; all of the data set without it.")
]


@app.command()
def report(
    data: Data,
    kind: Kind = "nyuv2",
    split: Split = "train",
    manifest: Manifest = None,
    option: Options = None,
    frames: Annotated[
        int, typer.Option(min=1, help="Count classes and depths on so many frames at most.")
    ] = 200,
    pictures: Annotated[int, typer.Option(min=0, help="Frames to show.")] = 9,
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
    chosen = spread(len(source), frames)
    with typer.progressbar(length=len(chosen), label="frames") as bar:
        pixels = count_pixels(source, chosen, bar.update)
    typer.echo(dataset_table(counts, pixels, source.label_set))
    for note in notes_of(source):
        typer.echo(f"note: {note}")
    if out is None:
        return
    samples = [source[index] for index in examples(source, pictures)]
    if out.suffix == ".png":
        if not samples:
            raise ConfigError("--pictures 0 leaves nothing to draw")
        write_dataset_picture(out, samples, source.label_set)
    else:
        facts = {"kind": kind, "split": split, "manifest": str(manifest.name) if manifest else ""}
        facts = {name: value for name, value in facts.items() if value}
        facts["proto-mtl"] = __version__
        title = f"Data set {data.resolve().name}"
        write_dataset_page(
            out, title, counts, pixels, source.label_set, samples, notes_of(source), facts
        )
    typer.echo(f"wrote {out}")


@app.command()
def manifest(
    data: Data,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    draw: Annotated[
        str,
        typer.Option(
            "--setting", help="one_label: one per frame, balanced. random_label: 1 to T - 1."
        ),
    ] = "one_label",
    kind: Kind = "nyuv2",
    split: Split = "train",
    option: Options = None,
    tasks: Tasks = None,
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
    for frame_id in source.frame_ids:
        missing = [name for name in names if name not in source.has(frame_id)]
        if missing:
            raise DataError(
                f"frame {frame_id} has no label of {missing[0]}, so none can be withheld: labels "
                "are drawn for frames that have all of --tasks; without a manifest every label "
                "that is there is used"
            )
    drawn = DRAWS[draw](source.frame_ids, names, seed)
    write_manifest(out, drawn)
    _echo_counts(out, drawn, names)


@app.command("import-mtpsl")
def import_mtpsl(
    labels: Annotated[Path, typer.Argument(help="The .pth (or .npy, .csv, .txt) file.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    kind: Kind = "preprocessed",
    split: Split = "train",
    option: Options = None,
    tasks: Tasks = None,
) -> None:
    """Turn a label file of MTPSL, whose rows are numbered, into a manifest by frame id.

    Row i belongs to the i-th frame of the split, so the data set must be the one the file was made
    for: the preprocessed NYUv2 (tasks segmentation,depth,normals) or Cityscapes
    (segmentation,depth). Another number of frames or tasks is refused. Nothing pickled is loaded.
    """
    from proto_mtl_ros.data.manifest import import_mtpsl as read_labels
    from proto_mtl_ros.data.manifest import write_manifest

    source = open_dataset(data, kind, split, None, option)
    names = _tasks(tasks, source)
    imported = read_labels(labels, source.frame_ids, names)
    write_manifest(out, imported)
    _echo_counts(out, imported, names)


@app.command()
def convert(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write; can be continued.")],
    kind: Kind = "bag",
    split: Split = "train",
    manifest: Manifest = None,
    option: Options = None,
    images: Annotated[
        str, typer.Option(help="png keeps every pixel, jpg (quality 95) takes a fifth.")
    ] = "png",
) -> None:
    """Write a split of any data set as a folder of images and label maps (kind folder).

    Stopped, the same command goes on where it was. Run it once per split. Labels that the manifest
    withholds are not written.
    """
    from proto_mtl_ros.data.folder_writer import write_folder

    source = open_dataset(data, kind, split, manifest, option)
    with typer.progressbar(length=len(source), label=f"{split} to {out.name}") as bar:
        written = write_folder(source, out, split, images, bar.update)
    typer.echo(f"{out}: {len(source)} frames of {split}, {written} written now")


def open_dataset(
    data: Path, kind: str, split: str, manifest: Path | None, options: list[str] | None
) -> FrameSource:
    """Open a split of the data set that a command line describes."""
    from proto_mtl_ros.data.registry import open_source

    return open_source(kind, data, split, manifest=manifest, options=option_values(options or []))


def option_values(options: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs; values are read as YAML, so that true and 3 are what they look."""
    from proto_mtl_ros.bounded import parse_yaml

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


def _echo_counts(out: Path, drawn: dict[str, dict[str, bool]], tasks: list[str]) -> None:
    counts = ", ".join(f"{task} {sum(row[task] for row in drawn.values())}" for task in tasks)
    typer.echo(f"wrote {out}: {len(drawn)} frames; {counts}")
