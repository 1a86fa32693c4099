# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag to-dataset`: an RGB-D recording becomes a training set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proto_mtl_ros.errors import ConfigError, DataError

if TYPE_CHECKING:
    from proto_mtl_ros.data.bags.frames import BagFrames

SELECTION = ".selection.json"


def to_dataset(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 or a ROS 1 bag.")],
    out: Annotated[Path, typer.Option(help="Folder to write; can be continued.")],
    blocks: Annotated[
        str,
        typer.Option(
            help="Splits in the order of time, each with its part; skip leaves frames out."
        ),
    ] = "train 0.7, val 0.15, test 0.15",
    motion: Annotated[
        float,
        typer.Option(min=0, help="Part of the width by which the picture has moved on."),
    ] = 0.05,
    sharpness: Annotated[
        float,
        typer.Option(min=0, help="Against the median of the frames before; 0 takes blurred ones."),
    ] = 0.5,
    near: Annotated[float, typer.Option(min=0, help="Nearest depth that is believed, m.")] = 0.3,
    far: Annotated[float, typer.Option(min=0, help="Farthest depth that is believed, m.")] = 10.0,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks named by the stamp of their image.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Seconds between an image and its depth, at most.")
    ] = 0.02,
    registered: Annotated[
        bool, typer.Option(help="Depth pixels are the image's, although the frames differ.")
    ] = False,
    rectified: Annotated[bool, typer.Option(help="The images are rectified: use P.")] = False,
    image_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    info_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    depth_topic: Annotated[str | None, typer.Option(help="Guessed without it.")] = None,
    images: Annotated[
        str, typer.Option(help="png keeps every pixel, jpg (quality 95) takes a fifth.")
    ] = "jpg",
) -> None:
    """Write frames of a recording, with depth, normals and masks, as a folder to train from.

    Frames that show nothing new or are blurred are left out. Depth is cleaned; where it is not
    registered to the images, only what lies away from edges becomes a label. Splits are stretches
    of time. Stopped, the same command goes on where it was.
    """
    from proto_mtl_ros.data.bags.frames import BagFrames
    from proto_mtl_ros.locks import sole_use

    if near >= far:
        raise ConfigError(f"--near {near:g} must be less than --far {far:g}")
    options: dict[str, Any] = {
        "tolerance": tolerance,
        "masks": masks,
        "registered": registered,
        "near": near,
        "far": far,
        "rectified": rectified or None,
        "image_topic": image_topic,
        "info_topic": info_topic,
        "depth_topic": depth_topic,
    }
    with sole_use(out):
        whole = BagFrames(recording, **options)
        for note in whole.notes:
            typer.echo(f"note: {note}")
        parts = _blocks(blocks)
        splits = _selection(whole, out, parts, motion, sharpness)
        whole.close()
        _write(recording, out, splits, options, images)
    typer.echo(f"wrote {out}; look at it with: proto-mtl dataset report --kind folder --data {out}")


def _write(
    recording: Path,
    out: Path,
    splits: Mapping[str, list[str]],
    options: dict[str, Any],
    images: str,
) -> None:
    from proto_mtl_ros.data.bags.frames import BagFrames
    from proto_mtl_ros.data.folder_writer import write_folder

    for split, frame_ids in splits.items():
        if not frame_ids:
            typer.echo(f"{split}: no frame")
            continue
        source = BagFrames(recording, split, frame_ids=frame_ids, **options)
        with typer.progressbar(length=len(source), label=split) as bar:
            written = write_folder(source, out, split, images, bar.update)
        counts = {
            task: sum(task in source.has(frame_id) for frame_id in source.frame_ids)
            for task in source.tasks
        }
        said = ", ".join(f"{task} {count}" for task, count in counts.items())
        typer.echo(f"{split}: {len(source)} frames ({said}), {written} written now")
        source.close()


def _blocks(text: str) -> list[tuple[str, float]]:
    found = []
    for part in text.split(","):
        words = part.split()
        try:
            name, share = words
            found.append((name, float(share)))
        except ValueError:
            raise ConfigError(
                f"--blocks {text!r}: give names and parts, such as 'train 0.7, test 0.3'"
            ) from None
    return found


def _selection(
    whole: BagFrames,
    out: Path,
    blocks: list[tuple[str, float]],
    motion: float,
    sharpness: float,
) -> dict[str, list[str]]:
    """Return split -> frame ids; read again where a run that was stopped has found them."""
    from proto_mtl_ros.bounded import MAX_TABLE, read_json
    from proto_mtl_ros.data.bags.frame_selection import FrameLook, choose_frames, time_blocks
    from proto_mtl_ros.files import remove_leftovers, write_text

    settings = {
        "recording": whole.root.name,
        "frames": len(whole),
        "blocks": blocks,
        "motion": motion,
        "sharpness": sharpness,
    }
    remove_leftovers(out)
    path = out / SELECTION
    if path.is_file():
        stored = read_json(path, DataError, limit=MAX_TABLE)
        try:
            if stored["settings"] != json.loads(json.dumps(settings)):
                raise DataError(f"{out} was begun with other settings: give another --out")
            return {str(name): list(map(str, ids)) for name, ids in stored["splits"].items()}
        except (KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is damaged: delete it to choose frames again") from None
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: give another --out")
    with typer.progressbar(length=len(whole), label="choosing frames") as bar:

        def looks() -> Any:
            for stamp, rgb in whole.pictures():
                bar.update(1)
                yield stamp, FrameLook.of(rgb)

        chosen = choose_frames(looks(), motion, sharpness)
    stamps = [int(frame_id) for frame_id in whole.frame_ids]
    try:
        divided = time_blocks(chosen, blocks, (min(stamps), max(stamps)))
    except ValueError as error:
        raise ConfigError(f"--blocks: {error}") from None
    splits = {name: [str(stamp) for stamp in found] for name, found in divided.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"settings": settings, "splits": splits}, indent=1) + "\n")
    return splits
