# SPDX-License-Identifier: Apache-2.0
"""Tables as CSV, one row a frame: reading, writing, splits, and frame ids that stay inside."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import MAX_TABLE, read_text, write_text

FRAME_ID = "frame_id"


class NoSplitError(DataError):
    """The data set has no split of that name, though it may have others."""


def read_table(path: Path, *columns: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns and the rows of a CSV keyed by frame ids, which has these
    columns besides. DataError where a row has more or fewer cells than the first line, a frame id
    stands there twice or is a path that leaves its folder.
    """
    text = read_text(path, MAX_TABLE, DataError).removeprefix("\ufeff")  # as spreadsheets write it
    try:
        first = text.partition("\n")[0]
        mark = ";" if ";" in first and "," not in first else ","  # where the comma is decimal
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
        lines = [[cell.strip() for cell in line] for line in reader if line]
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {one_line(error)}") from None
    names = lines[0] if lines else []
    missing = [name for name in (FRAME_ID, *columns) if name not in names]
    if missing:
        raise DataError(f"{path} needs a column {missing[0]}; its first line names the columns")
    if len(set(names)) != len(names):
        raise DataError(f"{path} names a column twice; keep one of them")
    rows: dict[str, dict[str, str]] = {}
    for line in lines[1:]:
        row = dict(zip(names, line))
        frame_id = row.get(FRAME_ID, "")
        if len(line) != len(names):
            raise DataError(f"{path}: frame {frame_id!r} has {len(line)} cells of {len(names)}")
        check_frame_id(frame_id, path)
        if frame_id in rows:
            raise DataError(f"{path} names frame {frame_id} twice; keep one of the rows")
        rows[frame_id] = row
    return names, list(rows.values())


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the CSV that ``read_table`` reads; it appears whole or not at all."""
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([(FRAME_ID, *names), *rows])
    write_text(path, content.getvalue())


def check_frame_id(frame_id: str, where: object = "") -> None:
    """Refuse an id that is no relative path of plain names, for files are found by it; DataError
    says ``where``.
    """
    parts = PurePosixPath(frame_id).parts
    if (
        not parts  # "." has none
        or len(frame_id) > 1024
        or frame_id.startswith("/")
        or any(part.startswith(".") for part in parts)
        or any(character in frame_id for character in "\\\0\r\n")
        or PurePosixPath(frame_id).as_posix() != frame_id
    ):
        named = f"{where}: " if where else ""
        raise DataError(f"{named}frame id {frame_id[:80]!r} cannot be a file name; rename it")


def read_splits(path: Path) -> dict[str, list[str]]:
    """Return split -> frame ids in the order of the file, from a CSV ``frame_id,split``."""
    if not path.is_file():
        raise DataError(f"{path} not found; --data must be the folder of the data set")
    splits: dict[str, list[str]] = {}
    for row in read_table(path, "split")[1]:
        splits.setdefault(row["split"], []).append(row[FRAME_ID])
    return splits


def write_splits(path: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write the CSV that ``read_splits`` reads."""
    write_table(path, ("split",), [(f, split) for split, ids in splits.items() for f in ids])


def select_frames(known: Sequence[str], wanted: Sequence[str] | None, where: object) -> list[str]:
    """Return the wanted frames in their order, None: all known; DataError for one that is not known
    or wanted twice.
    """
    if wanted is None:
        return list(known)
    there = frozenset(known)
    missing = [frame_id for frame_id in wanted if frame_id not in there]
    if missing:
        raise DataError(f"{where} has no frame {missing[0]!r} ({len(missing)} missing)")
    if len(set(wanted)) != len(wanted):
        raise DataError(f"a frame of {where} is wanted twice; name every frame once")
    return list(wanted)


def hold_out(frame_ids: Sequence[str], blocks: int, length: int) -> tuple[list[str], list[str]]:
    """Split ``frame_ids`` into (kept, held out): ``blocks`` contiguous blocks of ``length`` frames.

    Neighbouring frames show the same room, so single frames drawn at random would leak.
    """
    if blocks * length >= len(frame_ids):
        raise DataError(
            f"cannot hold {blocks * length} of {len(frame_ids)} frames out: give more frames (of a"
            " recording a smaller `every`), or lower data.held_out_blocks and data.held_out_length"
        )
    held: set[int] = set()
    for block in range(blocks):
        start = max((2 * block + 1) * len(frame_ids) // (2 * blocks) - length // 2, 0)
        held.update(range(start, start + length))
    kept = [f for i, f in enumerate(frame_ids) if i not in held]
    return kept, [f for i, f in enumerate(frame_ids) if i in held]
