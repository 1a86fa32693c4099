# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2 as its owners publish it: ``nyu_depth_v2_labeled.mat``, an HDF5 file.

images [N, 3, 640, 480], depths [N, 640, 480] in metres, labels [N, 640, 480] with 0 = unlabelled
and the others 1-based into names. The official division into train and test is another file, of
MATLAB's own form: write it as ``splits.csv`` (frame_id,split) beside this one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.nyuv2 import CAMERA, HEIGHT, WIDTH, without_border
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample
from proto_mtl_ros.data.table import NoSplitError, read_splits
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.tasks import IGNORE_INDEX, NYU13

_MEMBERS = {
    "bed": "bed",
    "books": "book books",
    "ceiling": "ceiling",
    "chair": "chair",
    "floor": "floor floor_mat",
    "furniture": "cabinet bookshelf counter shelves dresser refridgerator night_stand sink bathtub",
    "objects": "pillow mirror clothes paper towel shower_curtain box whiteboard person toilet lamp"
    " bag",
    "picture": "picture",
    "sofa": "sofa",
    "table": "table desk",
    "tv": "television",
    "wall": "wall door",
    "window": "window blinds curtain",
}
"""Class -> names of the file that count as it, as the 13 classes are usually made of 40."""


@data_set("nyuv2_mat", looks_like=lambda root: root.suffix == ".mat")
class NYUv2Mat(DataSet):
    """Frames of a split of ``splits.csv``, without it all; ids are the 1-based index, 4 digits."""

    label_set = NYU13

    def __init__(
        self,
        root: Path | str,
        split: str,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self._lookup, count = self._look()
        known = [f"{index + 1:04d}" for index in range(count)]
        splits = self.root.parent / "splits.csv"
        if splits.is_file():
            if split not in (chosen := read_splits(splits)):
                raise NoSplitError(f"{splits} has no split {split!r}: {', '.join(chosen)}")
            known = [frame_id for frame_id in known if frame_id in set(chosen[split])]
        else:
            self.notes += (f"All {count} frames are used: there is no {splits.name} beside it.",)
        if self._lookup is None:
            self.tasks = ("depth", "normals")
            self.notes += ("The file names no classes: its labels are not used.",)
        else:
            self.notes += (
                "Of its classes the most frequent 38 count as the 13; others are unlabelled.",
            )
        self.choose(known, frame_ids, manifest, self.root)

    def _look(self) -> tuple[np.ndarray | None, int]:
        """Return stored label -> id, None where there are no names, and the number of frames."""
        with _opened(self.root) as file:
            count = len(_data(file, "images", (3, WIDTH, HEIGHT)))
            depths = _data(file, "depths", (WIDTH, HEIGHT))
            if len(depths) != count:
                raise DataError(f"{self.root} has {count} images, {len(depths)} depth maps")
            if "names" not in file or "labels" not in file:
                return None, count
            lookup = np.full(1 << 16, IGNORE_INDEX, np.uint8)
            for index, reference in enumerate(np.ravel(file["names"])[: len(lookup) - 1], 1):
                name = "".join(map(chr, np.ravel(file[reference])[:80])).replace(" ", "_")
                for wanted, members in _MEMBERS.items():
                    if name in members.split():
                        lookup[index] = NYU13.classes.index(wanted)
            return lookup, count

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        return may

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        place, names = int(frame_id) - 1, self.has(frame_id)
        labels: dict[str, np.ndarray] = {}
        with _opened(self.root) as file:
            rgb = np.ascontiguousarray(np.transpose(file["images"][place], (2, 1, 0)))
            if "segmentation" in names and self._lookup is not None:
                ids = self._lookup[_data(file, "labels", (WIDTH, HEIGHT))[place].T]
                labels["segmentation"] = without_border(ids, IGNORE_INDEX)
            depth = np.nan_to_num(file["depths"][place].T.astype(np.float32))
        if "depth" in names:
            labels["depth"] = without_border(depth)
        if "normals" in names:
            labels["normals"] = without_border(depth_to_normals(depth, CAMERA))
        return Sample(frame_id, rgb.astype(np.uint8), CAMERA, labels)


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path} is not HDF5, as nyu_depth_v2_labeled.mat is ({one_line(error)})"
        ) from None


def _data(file: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Return a data set of the file, whose values are in it and nowhere else."""
    import h5py

    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.shape[1:] != shape:
        raise DataError(f"{file.filename} has no {name} of [N, {', '.join(map(str, shape))}]")
    return found
