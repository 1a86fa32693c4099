# SPDX-License-Identifier: Apache-2.0
"""Label manifests: which task labels a frame may use, keyed by the frame's id.

A CSV with the column ``frame_id`` and one column of 0 and 1 per task. Keys are frame ids, never
positions, so neither another order of the files nor a missing one can misalign labels. The label
files of MTPSL (Li, Liu, Bilen: "Learning Multiple Dense Prediction Tasks from Partially Annotated
Data", CVPR 2022), which are keyed by position, can be imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.table import FRAME_ID, read_table, write_table
from proto_mtl_ros.errors import DataError

_KEY = "labels_weights"
_MOST_BYTES = 4_000_000

Manifest = dict[str, dict[str, bool]]
"""Frame id -> task -> whether that frame may use its label of that task."""


def read_manifest(path: Path) -> Manifest:
    """Return frame id -> task -> may be used; DataError where a cell is neither 0 nor 1."""
    if not path.is_file():
        raise DataError(f"label manifest {path} not found; `proto-mtl dataset manifest` writes one")
    columns, rows = read_table(path)
    tasks = [name for name in columns if name != FRAME_ID]
    manifest: Manifest = {}
    for row in rows:
        if any(row[task] not in ("0", "1") for task in tasks):
            raise DataError(f"{path}: frame {row[FRAME_ID]} has a cell that is not 0 or 1")
        manifest[row[FRAME_ID]] = {task: row[task] == "1" for task in tasks}
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Mapping[str, bool]]) -> None:
    """Write the CSV that ``read_manifest`` reads; DataError for no frame, or frames of different
    tasks.
    """
    if not manifest:
        raise DataError("a label manifest needs at least one frame")
    tasks = list(next(iter(manifest.values())))
    for frame_id, row in manifest.items():
        if list(row) != tasks:
            raise DataError(f"frame {frame_id} names the tasks {list(row)}, the first one {tasks}")
    rows = [(frame_id, *map(int, row.values())) for frame_id, row in manifest.items()]
    write_table(path, tasks, rows)


def one_label(frame_ids: Sequence[str], tasks: Sequence[str], seed: int) -> Manifest:
    """Draw one label per frame; the tasks' shares differ by one frame at most.

    The draw depends on the seed and on the set of frames, not on their order.
    """
    _check_drawable(frame_ids, tasks)
    rng = np.random.default_rng([seed, 1])
    # shuffled as well, so that not the first task gets what does not divide evenly
    turn = rng.permutation(len(tasks))
    shuffled = rng.permutation(sorted(frame_ids)).tolist()
    chosen = {frame_id: {int(turn[n % len(tasks)])} for n, frame_id in enumerate(shuffled)}
    return _manifest_of(frame_ids, tasks, chosen)


def random_label(frame_ids: Sequence[str], tasks: Sequence[str], seed: int) -> Manifest:
    """Draw 1 to T - 1 labels per frame: their number uniformly, then which ones uniformly.

    This is the "random labels" setting of Li et al. (see above). It does not depend on the order of
    the frames.
    """
    _check_drawable(frame_ids, tasks)
    if len(tasks) < 2:
        raise DataError("random_label draws 1 to T - 1 of T labels: name at least two tasks")
    rng = np.random.default_rng([seed, 2])
    chosen: dict[str, set[int]] = {}
    for frame_id in sorted(frame_ids):
        count = int(rng.integers(1, len(tasks)))
        chosen[frame_id] = set(rng.choice(len(tasks), count, replace=False).tolist())
    return _manifest_of(frame_ids, tasks, chosen)


def _manifest_of(
    frame_ids: Sequence[str], tasks: Sequence[str], chosen: Mapping[str, set[int]]
) -> Manifest:
    return {f: {task: n in chosen[f] for n, task in enumerate(tasks)} for f in frame_ids}


DRAWS = {"one_label": one_label, "random_label": random_label}
"""The settings that a manifest can be drawn for."""


def _check_drawable(frame_ids: Sequence[str], tasks: Sequence[str]) -> None:
    if not frame_ids or not tasks:
        raise DataError("a label manifest needs at least one frame and one task")
    if len(set(frame_ids)) != len(frame_ids) or len(set(tasks)) != len(tasks):
        raise DataError("a frame or a task stands twice in the list that labels are drawn for")


def manifest_for(path: Path | str | None, frame_ids: Sequence[str]) -> Manifest | None:
    """Return the manifest at ``path`` after a check that it has a row for every frame."""
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
