# SPDX-License-Identifier: Apache-2.0
"""Writing any source as a folder data set, frame by frame, so that it can be stopped and continued.

A frame's image is written after its labels and every file appears whole, so a frame whose image is
there is complete. What a manifest withholds is not written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from proto_mtl_ros.data.camera_file import camera_json
from proto_mtl_ros.data.folder import IMAGES
from proto_mtl_ros.data.label_set import write_label_set
from proto_mtl_ros.data.map_file import (
    SUFFIXES,
    depth_suffix,
    write_depth,
    write_image,
    write_normals,
    write_segmentation,
)
from proto_mtl_ros.data.sample import FrameSource, Sample
from proto_mtl_ros.data.table import check_frame_id, read_splits, write_splits
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import MAX_JSON, read_json, read_text, sole_use, write_text

IMAGE_KINDS = ("png", "jpg")
_WRITERS = {"segmentation": write_segmentation, "depth": write_depth, "normals": write_normals}


def write_folder(
    source: FrameSource,
    out: Path,
    split: str = "train",
    image_kind: str = "png",
    done: Callable[[int], None] = lambda _: None,
    damaged: list[str] | None = None,
) -> int:
    """Write the frames of ``source`` as a split of the folder ``out``; return how many this call
    wrote.

    A second call with another split adds it. A call after an interruption goes on where it was.
    ``done`` is called with 1 for every frame that is there; jpg has quality 95. A frame that cannot
    be read is left out, and why is added to ``damaged``. DataError without such a list or a frame,
    where ``out`` holds something else, or a frame id cannot be a file name; FolderInUse.
    """
    if image_kind not in IMAGE_KINDS:
        raise DataError(f"images are written as {' or '.join(IMAGE_KINDS)}, not {image_kind!r}")
    for frame_id in source.frame_ids:
        check_frame_id(frame_id)
    written, there = 0, list[str]()
    with sole_use(out):
        splits = _claim(source, out, split, image_kind)
        for folder in (IMAGES, "cameras", *SUFFIXES):
            for leftover in (out / folder).rglob(".*"):
                leftover.unlink()
        if "segmentation" in source.tasks:
            write_label_set(out, source.label_set)
        for index, frame_id in enumerate(source.frame_ids):
            image = out / IMAGES / f"{frame_id}.{image_kind}"
            done(1)
            if not image.is_file():
                try:
                    sample = source[index]
                except DataError as error:
                    if damaged is None or len(damaged) == len(source.frame_ids) - 1:
                        raise
                    damaged.append(str(error))
                    continue
                if getattr(source, "calibrated", True):
                    _write_camera(sample, out)
                _write_frame(sample, out, image)
                written += 1
            there.append(frame_id)
        write_splits(out / "splits.csv", {**splits, split: there})
    return written


def _write_frame(sample: Sample, out: Path, image: Path) -> None:
    for task, label in sample.labels.items():
        if task not in _WRITERS:
            raise DataError(f"a folder holds {', '.join(_WRITERS)}, not {task!r}")
        suffix = depth_suffix(label) if task == "depth" else ".png"
        _WRITERS[task](out / task / f"{sample.frame_id}{suffix}", label)
    write_image(image, sample.rgb)


def _write_camera(sample: Sample, out: Path) -> None:
    camera, common = camera_json(sample.camera), out / "camera.json"
    if not common.is_file():
        write_text(common, camera)
    elif read_text(common, MAX_JSON, DataError) != camera:
        write_text(out / "cameras" / f"{sample.frame_id}.json", camera)


def _claim(source: FrameSource, out: Path, split: str, image_kind: str) -> dict[str, list[str]]:
    """Note in ``out`` what is being written there, return its splits; refuse something else."""
    splits = read_splits(out / "splits.csv") if (out / "splits.csv").is_file() else {}
    content = {
        "split": split,
        "frames": len(source.frame_ids),
        "frame_ids_sha256": hashlib.sha256("\n".join(source.frame_ids).encode()).hexdigest(),
        "labels": {
            task: sum(task in source.has(frame_id) for frame_id in source.frame_ids)
            for task in source.tasks
        },
        "classes": list(source.label_set.classes),
        "image_kind": image_kind,
    }
    note = out / f".conversion-{split}.json"
    advice = "choose another --out, or delete it to start again"
    if note.is_file():
        if read_json(note, DataError) != content:
            raise DataError(f"{out} holds a conversion of other frames or labels; {advice}")
        return splits
    others = list(out.glob(".conversion-*.json"))
    strangers = out.exists() and any(not path.name.startswith(".") for path in out.iterdir())
    if strangers and not others:
        raise DataError(f"{out} is not empty; {advice}")
    for other in others:
        before = read_json(other, DataError)
        shared = ("classes", "image_kind")
        if not isinstance(before, dict) or any(before.get(k) != content[k] for k in shared):
            raise DataError(f"{out} was written with other classes or images; {advice}")
    ids = set(source.frame_ids)
    for other_split, frame_ids in splits.items():
        if other_split != split and ids & set(frame_ids):
            raise DataError(f"{out} has frames of {split} in {other_split} already; {advice}")
    write_text(note, json.dumps(content, indent=1) + "\n")
    return splits
