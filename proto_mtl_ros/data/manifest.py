# SPDX-License-Identifier: Apache-2.0
"""Label manifests: which task labels a frame may use, keyed by the frame's id.

A CSV with the column ``frame_id`` and one column of 0 and 1 per task. Keys are frame ids, never
positions, so neither another order of the files nor a missing one can misalign labels.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError

Manifest = dict[str, dict[str, bool]]
"""Frame id -> task -> whether that frame may use its label of that task."""


def read_manifest(path: Path) -> Manifest:
    """Return frame id -> task -> may be used, from a label manifest.

    Raises:
        DataError: the file is missing, a frame stands there twice, or a cell is neither 0 nor 1.
    """
    if not path.is_file():
        raise DataError(f"label manifest {path} not found; `proto-mtl dataset manifest` writes one")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or "frame_id" not in reader.fieldnames:
            raise DataError(f"{path} needs a column frame_id and one column per task")
        tasks = [name for name in reader.fieldnames if name != "frame_id"]
        manifest: Manifest = {}
        for row in reader:
            frame_id = row["frame_id"]
            if any(row[task] not in ("0", "1") for task in tasks):
                raise DataError(f"{path}: frame {frame_id} has a cell that is not 0 or 1")
            if frame_id in manifest:
                raise DataError(f"{path} names frame {frame_id} twice; keep one of the rows")
            manifest[frame_id] = {task: row[task] == "1" for task in tasks}
    return manifest


def manifest_for(path: Path | str | None, frame_ids: Sequence[str]) -> Manifest | None:
    """Return the manifest at ``path`` after a check that it has a row for every frame.

    Raises:
        DataError: the file is no manifest, or lacks a frame.
    """
    if path is None:
        return None
    manifest = read_manifest(Path(path))
    missing = [frame_id for frame_id in frame_ids if frame_id not in manifest]
    if missing:
        raise DataError(
            f"{path} has no row for frame {missing[0]} ({len(missing)} missing); "
            "a manifest must name every frame of the split"
        )
    return manifest


def allowed(
    manifest: Mapping[str, Mapping[str, bool]] | None, frame_id: str, tasks: Sequence[str]
) -> tuple[str, ...]:
    """Return those of ``tasks`` that the frame may use; all of them without a manifest."""
    if manifest is None:
        return tuple(tasks)
    row = manifest[frame_id]
    return tuple(task for task in tasks if row.get(task, False))
