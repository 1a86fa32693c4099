# SPDX-License-Identifier: Apache-2.0
"""A recording becomes a folder to train from: frames that show something new, divided by time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.frame_selection import FrameLook, choose_frames, time_blocks
from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.data.folder_writer import write_folder
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.errors import ConfigError, DataError
from proto_mtl_ros.files import MAX_TABLE, read_json, remove_leftovers, sole_use, write_text

SELECTION = ".selection.json"

Blocks = Sequence[tuple[str, float]]
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
"""Is told what is being done, how many frames are done, and of how many."""


def convert_recording(
    recording: Path,
    out: Path,
    blocks: Blocks,
    motion: float = 0.05,
    options: Mapping[str, Any] | None = None,
    images: str = "jpg",
    say: Say = lambda line: None,
    progress: Progress = lambda label, done, of: None,
) -> None:
    """Write frames of a recording, with depth, normals and masks; stopped, it can be continued.

    ``blocks`` are splits in the order of time, each with its part of the duration; frames of
    ``skip`` are left out. ``motion`` is the part of the width by which the image has moved on from
    one frame to the next, and blurred frames are left out; 0 takes every frame. ``options`` are
    those of ``BagFrames``. ``say`` is given what was decided and written, line by line. ConfigError
    where the blocks are not the whole; DataError where ``out`` holds something else, or was begun
    with other settings; BagError.
    """
    with sole_use(out):
        source: Any = open_source("bag", recording, "train", options=options)
        for note in source.notes:
            say(f"note: {note}")
        splits = _selection(source, out, blocks, motion, progress)
        for split, frame_ids in splits.items():
            if not frame_ids:
                say(f"{split}: no frame")
                continue
            source.keep(frame_ids)
            _write_split(source, out, split, images, say, progress)
        for note in source.frames.notes():
            if note not in source.notes:
                say(f"note: {note}")
        source.close()


def _write_split(
    source: BagFrames, out: Path, split: str, images: str, say: Say, progress: Progress
) -> None:
    done, number = count(1), len(source)
    written = write_folder(
        source, out, split, images, lambda _: progress(split, next(done), number)
    )
    folder = Folder(out, split)  # what is there: a label may have been damaged
    having = Counter(task for frame_id in folder.frame_ids for task in folder.has(frame_id))
    said = ", ".join(f"{task} {having[task]}" for task in source.tasks)
    say(f"{split}: {number} frames ({said}), {written} written now")


def _selection(
    source: BagFrames, out: Path, blocks: Blocks, motion: float, progress: Progress
) -> dict[str, list[str]]:
    """Return split -> frame ids; read again where a run that was stopped has found them."""
    settings = {
        "recording": source.root.name,
        "frames": len(source),
        "blocks": [list(block) for block in blocks],
        "motion": motion,
    }
    remove_leftovers(out)
    path = out / SELECTION
    if path.is_file():
        stored = read_json(path, DataError, limit=MAX_TABLE)
        try:
            if stored["settings"] != settings:
                raise DataError(f"{out} was begun with other settings: give another --out")
            return {str(name): list(map(str, ids)) for name, ids in stored["splits"].items()}
        except (KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is damaged: delete it to choose frames again") from None
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: give another --out")
    stamps = [int(frame_id) for frame_id in source.frame_ids]

    def images() -> Iterator[tuple[int, np.ndarray]]:
        for number, image in enumerate(source.pictures()):  # those that can be decoded
            progress("choosing frames", number + 1, len(source))
            yield image

    looks = ((stamp, FrameLook.of(rgb)) for stamp, rgb in images())
    chosen = choose_frames(looks, motion) if motion > 0 else [stamp for stamp, _ in images()]
    try:
        divided = time_blocks(chosen, blocks, (min(stamps), max(stamps)))
    except ValueError as error:
        raise ConfigError(f"--blocks: {error}") from None
    splits = {name: [str(stamp) for stamp in found] for name, found in divided.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"settings": settings, "splits": splits}, indent=1) + "\n")
    return splits


def blocks_of(text: str) -> list[tuple[str, float]]:
    """Return the splits that a text such as ``train 0.7, test 0.3`` names; raises ConfigError."""
    found = []
    for part in text.split(","):
        try:
            name, share = part.split()
            found.append((name, float(share)))
        except ValueError:
            raise ConfigError(
                f"--blocks {text!r}: give names and parts, such as 'train 0.7, test 0.3'"
            ) from None
    return found
