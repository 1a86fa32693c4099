# SPDX-License-Identifier: Apache-2.0
"""The frames of a recording as a data set: colour, depth of nearly the same stamp, its normals.

A depth camera labels every frame by itself. Masks, as ``read_masks`` reads them, may lie beside the
recording, named by the stamps of their images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import is_bag
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recorded_frames import RecordedFrames, match_one_to_one
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.camera_file import camera_for, camera_of, read_camera
from proto_mtl_ros.data.drawn.masks import image_names, read_masks
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample, of_image_size
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry.depth_cleaning import smooth_surroundings
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.tasks import LabelSet

_LABEL_SHIFT, _LABEL_VARIATION = 0.03, 1.35
"""Of ``smooth_surroundings`` for labels: what judges is stricter than what teaches, which needs
floors and table tops as well."""

_ADVICE = (
    "give camera, `--option camera=FILE`: JSON of fx, fy, cx, cy, width, height, or ROS's YAML"
)


@data_set("bag", looks_like=is_bag)
class BagFrames(DataSet):
    """The images of a recording; a frame's id is its stamp in nanoseconds, and any split is all of
    it.

    A frame has a depth label where a depth image lies within ``tolerance`` of it, then normals too
    (who may use depth may use its normals), and segmentation where ``masks``
    (see ``stamp_of``) has a mask. Depth is cleaned of what a sensor makes up, and believed
    from ``near`` to ``far``; where its pixels are not known to be the image's, it is kept away from
    edges alone.

    ``every``: one image of so many. ``tolerance``: seconds between image and depth, or mask.
    ``registered``: depth pixels are those of the colour image, although its frame is another.
    ``rectified``: P of camera_info holds; None: where a word of the topic's name says so.
    ``camera`` (fx, fy, cx, cy, width, height, or a JSON file of them) replaces camera_info; topics
    are guessed when None.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
        *,
        every: int = 1,
        tolerance: float = 0.02,
        masks: Path | str | None = None,
        registered: bool = False,
        near: float = 0.3,
        far: float = 10.0,
        rectified: bool | None = None,
        camera: Mapping[str, Any] | str | None = None,
        image_topic: str | None = None,
        info_topic: str | None = None,
        depth_topic: str | None = None,
    ) -> None:
        if every < 1 or not 0 <= tolerance < 10:
            raise DataError("every must be 1 or more, and tolerance 0 to 10 seconds")
        if not 0 <= near < far:
            raise DataError(f"near {near:g} must be less than far {far:g}, in metres")
        self.root = Path(root)
        where = read_camera(Path(camera)) if isinstance(camera, str) else camera
        given = camera_of(where, "camera") if isinstance(where, Mapping) else where
        self._recording = BagRecording(self.root, image_topic, info_topic, depth_topic, given)
        self._depth_topic = self._recording.topics.depth and self._recording.topics.depth.name
        self._calibration = Calibration.of(self._recording, rectified, registered)
        if self._calibration.camera is None:
            raise DataError(f"{self.root}: {self._calibration.notes[0]}; {_ADVICE}")
        self.frames = RecordedFrames(
            self._recording, self._calibration, None, tolerance, every, believed=(near, far)
        )
        stamps = sorted(self.frames.index())
        self._with_depth = {
            stamp for stamp in stamps if self.frames.has_partner(stamp, self._depth_topic or "")
        }
        self._masks: dict[int, Callable[[], np.ndarray]] = {}
        notes: tuple[str, ...] = ()
        if masks is not None:
            self._masks, self.label_set, notes = _masks_of(Path(masks), stamps, tolerance)
        depth = bool(self._with_depth)
        here = {"segmentation": bool(self._masks), "depth": depth, "normals": depth}
        self.tasks = tuple(task for task, there in here.items() if there)
        self._check_depth()
        own = (*self._recording.notes, *self._calibration.notes, *self.frames.notes())
        self.notes = (*own, *notes)
        self._every_id = [str(stamp) for stamp in stamps]
        self.choose(self._every_id, frame_ids, manifest, self.root)

    def keep(self, frame_ids: Sequence[str]) -> BagFrames:
        """Go on with these frames of all, in this order, without reading the recording again."""
        self.choose(self._every_id, frame_ids, None, self.root)
        return self

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        wanted = {*may, "normals"} if "depth" in may else set(may)
        here = {"segmentation"} if int(frame_id) in self._masks else set()
        here |= {"depth", "normals"} if int(frame_id) in self._with_depth else set()
        return wanted & here

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        names = self.has(frame_id)
        measured = [self._depth_topic or ""] if {"depth", "normals"} & set(names) else []
        frame = self.frames.at(int(frame_id), measured)
        height, width = frame.rgb.shape[:2]
        assert self._calibration.camera is not None
        where = f"{self.root}: the image {frame_id}"
        camera = camera_for(self._calibration.camera, width, height, where)
        labels: dict[str, np.ndarray] = {}
        if "segmentation" in names:
            mask = self._masks[int(frame_id)]()
            labels["segmentation"] = of_image_size(mask, frame.rgb, f"the mask of {frame_id}")
        if frame.depth is not None:
            depth = np.nan_to_num(frame.depth, posinf=0, neginf=0)
            normals = depth_to_normals(depth, camera)
            if self._calibration.registration == "none":
                away = ~smooth_surroundings(depth, _LABEL_SHIFT, _LABEL_VARIATION)
                depth = np.where(away, np.float32(0), depth)
                normals[away] = 0
            made = {"depth": depth, "normals": normals}
            labels |= {task: label for task, label in made.items() if task in names}
        return Sample(frame_id, frame.rgb, camera, labels)

    def pictures(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield stamp and image, uint8 [H, W, 3], of all frames, without their labels."""
        return self.frames.images([int(frame_id) for frame_id in self.frame_ids])

    def close(self) -> None:
        self._recording.close()

    def _check_depth(self) -> None:
        """Refuse depth of another shape, which nothing here can bring to the image's pixels."""
        depth = self._recording.topics.depth
        size = self._recording.size_of(depth) if depth else None
        if size and self._with_depth and self._calibration.registration != "extrinsics":
            assert self._calibration.camera is not None
            camera_for(self._calibration.camera, *size, f"depth of {self._depth_topic}")


def _masks_of(
    where: Path, stamps: Sequence[int], tolerance: float
) -> tuple[dict[int, Callable[[], np.ndarray]], LabelSet, tuple[str, ...]]:
    """Return stamp -> mask, of the frames that are near enough to one, the classes, and notes."""
    read = read_masks(where)
    found = {stamp_of(name): mask for name, mask in read.masks.items()}
    pairs = match_one_to_one(stamps, found, round(tolerance * 1e9))
    if not pairs:
        raise DataError(
            f"none of the {len(found)} masks of {where} is named by the stamp of an image "
            f"(the first image has {stamps[0] if stamps else '?'})"
        )
    masks = {stamp: found[named] for stamp, named in pairs.items()}
    return masks, read.label_set, read.notes


def stamp_of(name: str) -> int:
    """Return the stamp in nanoseconds that a mask is named by: in nanoseconds
    (``1700000000100000000.png``) or in seconds (``1700000000.100000000.png``), else DataError.
    """
    for stem in (PurePosixPath(name).name, *image_names(name)):
        seconds, dot, fraction = PurePosixPath(stem).name.partition(".")
        digits = seconds.isdecimal() and seconds.isascii() and len(seconds) < 20
        if digits and (not dot or (fraction.isdecimal() and fraction.isascii())):
            return int(f"{seconds}{fraction.ljust(9, '0')[:9]}") if dot else int(seconds)
    raise DataError(f"{name} is not named by a stamp in nanoseconds or in seconds")
