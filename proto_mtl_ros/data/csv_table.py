# SPDX-License-Identifier: Apache-2.0
"""Tables as CSV, one row a frame: whole rows of named columns, and frame ids that stay inside."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

from proto_mtl_ros.bounded import MAX_TABLE, read_text
from proto_mtl_ros.errors import DataError, one_line

FRAME_ID = "frame_id"


def read_table(path: Path, *columns: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns and the rows of a CSV keyed by frame ids.

    Args:
        columns: that there must be, besides the frame id.

    Raises:
        DataError: the file cannot be read or is larger than ``MAX_TABLE``, a column is missing, a
            row has more or fewer cells than the first line, or a frame id stands there twice or
            is a path that leaves its folder.
    """
    text = read_text(path, MAX_TABLE, DataError)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [line for line in reader if line]
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


def check_frame_id(frame_id: str, where: object = "") -> None:
    """Refuse an id that is no relative path of plain names, for files are found by it.

    Raises:
        DataError: with ``where`` it stands.
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
