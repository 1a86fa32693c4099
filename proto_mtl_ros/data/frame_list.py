# SPDX-License-Identifier: Apache-2.0
"""Which frames belong to a split, and choosing some of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from proto_mtl_ros.data.csv_table import FRAME_ID, read_table
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import write_text


class NoSplitError(DataError):
    """The data set has no split of that name, though it may have others."""


def read_splits(path: Path) -> dict[str, list[str]]:
    """Return split -> frame ids in the order of the file, from a CSV ``frame_id,split``.

    Raises:
        DataError: the file is missing, or no table; see ``read_table``.
    """
    if not path.is_file():
        raise DataError(f"{path} not found; --data must be the folder of the data set")
    splits: dict[str, list[str]] = {}
    for row in read_table(path, "split")[1]:
        splits.setdefault(row["split"], []).append(row[FRAME_ID])
    return splits


def write_splits(path: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write the CSV that ``read_splits`` reads; it appears whole or not at all."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(("frame_id", "split"))
    for split, frame_ids in splits.items():
        writer.writerows((frame_id, split) for frame_id in frame_ids)
    write_text(path, content.getvalue())


def select_frames(known: Sequence[str], wanted: Sequence[str] | None, where: object) -> list[str]:
    """Return the wanted frames in their order; all known ones when ``wanted`` is None.

    Args:
        where: what the frames are looked for in, for the message.

    Raises:
        DataError: a wanted frame is not known or wanted twice.
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
