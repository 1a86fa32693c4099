# SPDX-License-Identifier: Apache-2.0
"""Label files of MTPSL: a row for each frame of the preprocessed pack, a column for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.manifest import Manifest
from proto_mtl_ros.data.map_file import read_array
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_text

_KEY = "labels_weights"
_MOST_BYTES = 64_000_000


def import_mtpsl(path: Path, frame_ids: Sequence[str], tasks: Sequence[str]) -> Manifest:
    """Return the manifest of a label file of MTPSL, whose rows are these frames in their order.

    It is a ``.pth`` with a tensor [frames, tasks] of 0 and 1 under ``labels_weights``, or the same
    table as ``.npy``, ``.csv`` or ``.txt``. Nothing pickled is ever loaded.
    """
    table = _read_table(path)
    if table.ndim != 2 or table.shape != (len(frame_ids), len(tasks)):
        raise DataError(
            f"{path} holds a table of {' x '.join(map(str, table.shape))}, but there are "
            f"{len(frame_ids)} frames x {len(tasks)} tasks ({', '.join(tasks)}): give the split "
            "and the tasks it was made for; rows are matched to frames by position"
        )
    if not np.isin(table, (0, 1)).all():
        raise DataError(f"{path} holds values other than 0 and 1; it is not a label file")
    if len(set(frame_ids)) != len(frame_ids):
        raise DataError("a frame stands twice in the list that rows are matched to")
    return {
        frame_id: {task: bool(value) for task, value in zip(tasks, row, strict=True)}
        for frame_id, row in zip(frame_ids, table, strict=True)
    }


def _read_table(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"label file {path} not found; check the path")
    if path.suffix in (".pth", ".pt"):
        return _read_tensor(path)
    if path.suffix == ".npy":
        return read_array(path)
    if path.suffix in (".csv", ".txt"):
        text = read_text(path, _MOST_BYTES, DataError).replace(",", " ")
        try:
            return np.loadtxt(text.splitlines(), ndmin=2)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path} is not a table of numbers: {one_line(error)}") from None
    raise DataError(f"{path} is of an unknown kind; .pth, .npy, .csv and .txt are read")


def _read_tensor(path: Path) -> np.ndarray:
    # a label file is imported once; only that needs torch
    import torch

    from proto_mtl_ros.files.tensors import read_torch

    content = read_torch(path, DataError, "save its table as .csv")
    if isinstance(content, Mapping):
        if _KEY not in content:
            raise DataError(f"{path} has no entry {_KEY!r}; it is not a label file of MTPSL")
        content = content[_KEY]
    if not isinstance(content, torch.Tensor):
        raise DataError(f"{path} holds no tensor; it is not a label file of MTPSL")
    return content.numpy()
