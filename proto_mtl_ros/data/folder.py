# SPDX-License-Identifier: Apache-2.0
"""A data set of one's own: a folder of images with label maps of the same name beside them.

    images/<id>.jpg|png|...      depth/<id>.png|npy|tiff|...   camera.json
    segmentation/<id>.png        normals/<id>.png|webp|npy     classes.json or classes.txt

A frame without a file of some task has no label of it. Optional: ``splits.csv`` (frame_id,split;
without it every split is all frames), ``manifest.csv`` (which labels may be used) and
``cameras/<id>.json`` for frames of another camera. An id may contain folders. The formats of the
maps are those of :mod:`.map_file`; depth maps and masks have the size of their image. An image that
its EXIF orientation turns is turned, and its labels and its camera with it. Without a camera there
are no depth labels, and a field of view is assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from proto_mtl_ros.data import camera_file
from proto_mtl_ros.data.label_set import NO_CLASSES, read_label_set
from proto_mtl_ros.data.map_file import (
    IMAGE_SUFFIXES,
    SUFFIXES,
    NormalAxes,
    read_depth,
    read_normals,
    read_segmentation,
    read_upright,
    turned_alike,
)
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample, of_image_size
from proto_mtl_ros.data.table import NoSplitError, read_splits
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import check_inside
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.tasks import LabelSet

IMAGES = "images"
NEAREST, FARTHEST = 0.05, 200.0
"""Metres that half of a depth map cannot be nearer or farther than."""


@data_set("folder", looks_like=lambda root: (root / IMAGES).is_dir())
class Folder(DataSet):
    """Frames of one split of a folder; without ``splits.csv`` any name means all frames.

    Without ``manifest`` it is the folder's ``manifest.csv``, if there is one. With
    ``derive_normals`` a frame that may use depth and has no normals of its own gets those of its
    depth. ``normal_axes`` says where x right, y down and z forward stand in the files, as
    ``x,-y,-z``; ``depth_scale`` divides whole numbers of depth files: 1000 for millimetres, 5000
    for those of the TUM benchmark.
    """

    def __init__(
        self,
        root: Path | str,
        split: str,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
        *,
        derive_normals: bool = False,
        normal_axes: str = "x,y,z",
        depth_scale: float = 1000.0,
    ) -> None:
        self.root = Path(root)
        self.derive_normals = derive_normals
        self._axes = NormalAxes.parse(normal_axes)
        if not depth_scale > 0:
            raise DataError(f"depth_scale is {depth_scale}; it is units per metre, positive")
        self._depth_scale = float(depth_scale)
        self._images = files_by_id(self.root / IMAGES, IMAGE_SUFFIXES)
        if not self._images:
            raise DataError(
                f"{self.root / IMAGES} holds no images ({', '.join(IMAGE_SUFFIXES)}); "
                "--data must be a folder with the subfolder images"
            )
        self._labels = {task: self._label_files(task) for task in SUFFIXES}
        own = self.root / "manifest.csv"
        if manifest is None and own.is_file():
            check_inside(own, self.root, DataError)
            manifest = own
        self.choose(self._split(split), frame_ids, manifest, self.root)
        self.tasks = tuple(
            task
            for task in SUFFIXES
            if self._labels[task]
            or (task == "normals" and derive_normals and self._labels["depth"])
        )
        self.label_set = self._read_label_set()
        self._cameras = files_by_id(self.root / "cameras", (".json",))
        self._camera = self._read_camera()
        self._judge_depth()

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        here = {task for task in may if frame_id in self._labels[task]}
        derived = self.derive_normals and frame_id in self._labels["depth"]
        if derived and frame_id not in self._labels["normals"] and {"depth", "normals"} & set(may):
            here.add("normals")
        return here

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        rgb, turns = read_upright(self._images[frame_id])
        own = self._cameras.get(frame_id)
        stored = self._camera if own is None else camera_file.read_camera(own)
        camera = camera_file.camera_of_image(stored, rgb, turns, self._images[frame_id])
        labels: dict[str, np.ndarray] = {}
        for task in self.has(frame_id):
            path = self._labels[task].get(frame_id)
            derived = path is None
            if path is None or task == "depth":
                path = self._labels["depth"][frame_id]
                label = read_depth(path, self._depth_scale)
            elif task == "segmentation":
                label = read_segmentation(path, self.label_set)
            else:
                label = self._axes.optical(read_normals(path))
            label = of_image_size(turned_alike(label, rgb, turns), rgb, path)
            labels[task] = depth_to_normals(label, camera) if derived else label
        return Sample(frame_id, rgb, camera, labels)

    def _judge_depth(self) -> None:
        """Note depth that cannot be metres, by a few of its maps."""
        files = list(self._labels["depth"].values())
        for path in files[:: max(1, len(files) // 3)][:3]:
            with suppress(DataError):  # which is told where the frame is read
                depth = read_depth(path, self._depth_scale)
                middle = float(np.median(depth[depth > 0])) if depth.any() else 1.0
                if not NEAREST <= middle <= FARTHEST:
                    self.notes += (
                        f"Depth cannot be right: the median of {path.name} is {middle:.3g} m;"
                        " floats are metres, whole numbers millimetres or by depth_scale.",
                    )
                    return

    def _label_files(self, task: str) -> dict[str, Path]:
        folder = self.root / task
        files = files_by_id(folder, SUFFIXES[task])
        if not files:
            others = [p.name for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
            if others:
                self.notes += (
                    f"None of the {len(others)} files of {task}/ is used (first: {others[0]}):"
                    f" they must be {', '.join(SUFFIXES[task])}.",
                )
        strangers = [frame_id for frame_id in files if frame_id not in self._images]
        if files and len(strangers) == len(files):
            raise DataError(
                f"no file of {folder} is named as an image (first: {files[strangers[0]].name}); "
                "a label has the name of its image"
            )
        if strangers:
            self.notes += (
                f"{len(strangers)} files of {task}/ belong to no image (first: {strangers[0]}).",
            )
        return files

    def _split(self, split: str) -> list[str]:
        path = self.root / "splits.csv"
        if not path.is_file():
            return list(self._images)
        check_inside(path, self.root, DataError)
        splits = read_splits(path)
        if split not in splits:
            raise NoSplitError(f"{path} has no split {split!r}; there are: {', '.join(splits)}")
        missing = [frame_id for frame_id in splits[split] if frame_id not in self._images]
        if missing:
            raise DataError(
                f"{path} names frame {missing[0]!r}, but {self.root / IMAGES} has no such image "
                f"({len(missing)} missing)"
            )
        return splits[split]

    def _read_label_set(self) -> LabelSet:
        label_set = read_label_set(self.root)
        if label_set is not None:
            return label_set
        if self._labels["segmentation"]:
            raise DataError(
                f"{self.root} has masks, but neither classes.txt nor classes.json; "
                "name the classes there, one a line, the one of id 0 first"
            )
        return NO_CLASSES

    def _read_camera(self) -> Camera | None:
        """Return the camera of all frames that have none of their own."""
        path = self.root / "camera.json"
        if path.is_file():
            check_inside(path, self.root, DataError)
            return camera_file.read_camera(path)
        if all(frame_id in self._cameras for frame_id in self.frame_ids):
            return None
        if self._labels["depth"] or self._cameras:
            raise DataError(
                f"{path} not found; write "
                '{"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., "height": ...} '
                "in pixels, from the camera's calibration"
            )
        self.calibrated = False
        self.notes += (
            f"No camera is known ({path.name}): classes and normals can be learnt, depth in metres"
            f" cannot; {camera_file.DEGREES:g} degrees are assumed.",
        )
        return None


def files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return frame id -> file, in the order of the ids; DataError for two of one id."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        # a dot begins the name of a file that is still being written
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        frame_id = path.relative_to(folder).with_suffix("").as_posix()
        check_inside(path, folder.parent, DataError)
        if frame_id in found:
            raise DataError(f"{path} and {found[frame_id].name} are one frame; keep one of them")
        found[frame_id] = path
    return dict(sorted(found.items()))
