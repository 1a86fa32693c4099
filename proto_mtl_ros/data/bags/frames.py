# SPDX-License-Identifier: Apache-2.0
"""Frames straight from a recording: colour, depth of nearly the same stamp, normals of that depth.

A depth camera labels every frame by itself. Masks may lie beside the recording; see ``bag_masks``.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.camera import recorded_camera
from proto_mtl_ros.data.bags.masks import Mask, read_masks
from proto_mtl_ros.data.bags.recording import BagRecording, DepthFrame, decode_picture
from proto_mtl_ros.data.camera_file import camera_for, camera_of
from proto_mtl_ros.data.frame_list import select_frames
from proto_mtl_ros.data.label_set_file import NO_CLASSES
from proto_mtl_ros.data.manifest import allowed, manifest_for
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import BagError, DataError
from proto_mtl_ros.geometry import Camera, depth_to_normals, resize
from proto_mtl_ros.geometry.depth_cleaning import clean_depth, smooth_surroundings
from proto_mtl_ros.tasks import LabelSet

_NS = 1_000_000_000

_LABEL_SHIFT, _LABEL_VARIATION = 0.03, 1.35
"""Of ``smooth_surroundings`` for labels: what judges is stricter than what teaches, which needs
floors and table tops as well."""


class BagFrames:
    """The images of a rosbag2 recording; a frame's id is its stamp in nanoseconds.

    A frame has a depth label where a depth image lies within ``tolerance`` of it, then normals
    too, and segmentation where the folder ``masks`` has a mask.

    Args:
        root: the recording.
        split: any name; a recording is one split.
        manifest: label manifest; None: every label.
        frame_ids: keep only these frames, in this order.
        every: take one image of so many.
        tolerance: seconds between image and depth, or image and mask, at most.
        masks: folder or file of masks, see ``bag_masks.read_masks``.
        derive_normals: compute normals from depth.
        registered: depth pixels are those of the colour image, although its frame is another.
        tolerant: depth that is not registered is taken where its surroundings are smooth.
        clean: take flying pixels, specks and depth beyond ``near`` to ``far`` (metres) out.
        near, far: range of the sensor that is believed, where ``clean`` is on.
        rectified: the images are rectified, so P of camera_info holds; None: where the topic's
            name has ``rect`` in it.
        camera: fx, fy, cx, cy, width and height in place of camera_info.
        image_topic, info_topic, depth_topic: guessed when None.

    Raises:
        BagError: the recording cannot be read or has no images.
        DataError: it has no usable camera_info, or depth that is not registered to the images.
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
        derive_normals: bool = True,
        registered: bool = False,
        tolerant: bool = False,
        clean: bool = False,
        near: float = 0.3,
        far: float = 10.0,
        rectified: bool | None = None,
        camera: Mapping[str, Any] | None = None,
        image_topic: str | None = None,
        info_topic: str | None = None,
        depth_topic: str | None = None,
    ) -> None:
        if every < 1 or not 0 <= tolerance < 10:
            raise DataError("every must be 1 or more, and tolerance 0 to 10 seconds")
        self.root = Path(root)
        self.derive_normals = derive_normals
        self._tolerant = tolerant
        self._range = (near, far) if clean else None
        self._recording = BagRecording(self.root, image_topic, info_topic, depth_topic)
        topics = self._recording.topics
        self._image_topic = topics.image.name
        self._depth_topic = topics.depth.name if topics.depth else None
        image_times, depth_times = self._times()
        stamps = list(image_times)[::every]
        self._image_time = {str(stamp): image_times[stamp] for stamp in stamps}
        limit = round(tolerance * _NS)
        self._depth_time = _matched(stamps, depth_times, limit)
        self._masks: dict[str, Mask] = {}
        self.label_set = NO_CLASSES
        if masks is not None:
            self._masks, self.label_set = _masks_of(Path(masks), stamps, limit)
        self.tasks = tuple(
            task
            for task, here in (
                ("segmentation", bool(self._masks)),
                ("depth", bool(self._depth_time)),
                ("normals", bool(self._depth_time) and derive_normals),
            )
            if here
        )
        self._camera = self._read_camera(camera, rectified)
        self.notes = tuple(self._check_depth(registered))
        self.frame_ids = select_frames(list(self._image_time), frame_ids, self.root)
        self.manifest = manifest_for(manifest, self.frame_ids)
        self._known = frozenset(self.frame_ids)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame has a label for and may use."""
        if frame_id not in self._known:
            raise DataError(f"{self.root} has no frame {frame_id!r}")
        may = allowed(self.manifest, frame_id, ("segmentation", "depth", "normals"))
        here = {
            "segmentation": "segmentation" in may and frame_id in self._masks,
            "depth": "depth" in may and frame_id in self._depth_time,
            "normals": self.derive_normals
            and bool({"depth", "normals"} & set(may))
            and frame_id in self._depth_time,
        }
        return tuple(task for task in self.tasks if here[task])

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        time = self._image_time[frame_id]
        rgb = decode_picture(self._message(self._image_topic, int(frame_id), time))
        height, width = rgb.shape[:2]
        camera = camera_for(self._camera, width, height, f"{self.root}: the image {frame_id}")
        names = self.has(frame_id)
        labels: dict[str, np.ndarray] = {}
        if "segmentation" in names:
            mask = self._masks[frame_id]()
            if mask.shape != (height, width):
                raise DataError(
                    f"the mask of {frame_id} is {mask.shape[1]}x{mask.shape[0]}, its image"
                    f" {width}x{height}; labels must have the size of the image"
                )
            labels["segmentation"] = mask
        if "depth" in names or "normals" in names:
            assert self._depth_topic is not None
            message = self._message(self._depth_topic, *self._depth_time[frame_id])
            metres, _ = DepthFrame(message.stamp, message).decode()
            if self._range is not None:
                metres = clean_depth(metres, *self._range)
            depth = resize(np.nan_to_num(metres, posinf=0, neginf=0), width, height, "nearest")
            normals = depth_to_normals(depth, camera) if "normals" in names else None
            if self._mask_edges:
                away = ~smooth_surroundings(depth, _LABEL_SHIFT, _LABEL_VARIATION)
                depth = np.where(away, np.float32(0), depth)
                if normals is not None:
                    normals[away] = 0
            if "depth" in names:
                labels["depth"] = depth
            if normals is not None:
                labels["normals"] = normals
        return Sample(frame_id, rgb, camera, labels)

    def pictures(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield stamp and image, uint8 [H, W, 3], of all frames, without their labels."""
        wanted = set(self.frame_ids)
        for message in self._recording.messages_of([self._image_topic]):
            if str(message.stamp) in wanted:
                wanted.discard(str(message.stamp))
                yield message.stamp, decode_picture(message)

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()

    def _times(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return stamp -> recorded time of images and of depth, in the order of the stamps."""
        found: dict[str | None, dict[int, int]] = {self._image_topic: {}, self._depth_topic: {}}
        names = [name for name in found if name is not None]
        for message in self._recording.messages_of(names):
            found[message.topic].setdefault(message.stamp, message.time)
        images, depths = found[self._image_topic], found[self._depth_topic]
        return dict(sorted(images.items())), dict(sorted(depths.items()))

    def _message(self, topic: str, stamp: int, time: int) -> BagMessage:
        for message in self._recording.messages_of([topic], time, time + 1):
            if message.stamp == stamp:
                return message
        raise BagError(f"{self.root} has changed since it was opened: open it again")

    def _read_camera(self, given: Mapping[str, Any] | None, rectified: bool | None) -> Camera:
        if given is not None:
            return camera_of(given, "camera")
        topic = self._recording.topics.camera_info
        advice = 'give camera: {"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., ...}'
        if topic is None:
            raise DataError(f"{self.root} has no camera_info beside {self._image_topic}: {advice}")
        if rectified is None:
            rectified = "rect" in self._image_topic
        try:
            camera = recorded_camera(self._recording, topic, rectified)
        except DataError as error:
            raise DataError(f"{error}; {advice}") from None
        if camera is None:
            raise DataError(f"the camera of {self.root} is not calibrated: {advice}")
        return camera

    def _check_depth(self, registered: bool) -> list[str]:
        """Return what is to be known of the depth; refuse what would label the wrong pixels."""
        self._mask_edges = False
        if not self._depth_time:
            return [f"No depth image lies within the tolerance of an image of {self.root.name}."]
        assert self._depth_topic is not None
        first = next(iter(self._depth_time.values()))
        message = self._message(self._depth_topic, *first)
        metres, frame = DepthFrame(message.stamp, message).decode()
        image_frame = self._recording.image_frame()
        if frame != image_frame and not registered and not self._tolerant:
            raise DataError(
                f"depth of {self._depth_topic} is in frame {frame}, the images in {image_frame}, "
                "so its pixels are not the image's: record depth that is aligned to colour, or "
                "set registered if it is, or tolerant to learn away from edges"
            )
        self._mask_edges = frame != image_frame and not registered
        camera_for(self._camera, metres.shape[1], metres.shape[0], f"depth of {self._depth_topic}")
        missing = len(self._image_time) - len(self._depth_time)
        return [f"{missing} images have no depth within the tolerance."] if missing else []


def _matched(
    stamps: Sequence[int], times: Mapping[int, int], limit: int
) -> dict[str, tuple[int, int]]:
    """Return frame id -> (stamp, recorded time) of the nearest message within ``limit`` ns."""
    others = list(times)
    found = {}
    for stamp in stamps:
        nearest = _nearest(others, stamp)
        if nearest is not None and abs(nearest - stamp) <= limit:
            found[str(stamp)] = (nearest, times[nearest])
    return found


def _nearest(ascending: Sequence[int], value: int) -> int | None:
    place = bisect.bisect_left(ascending, value)
    return min(ascending[max(place - 1, 0) : place + 1], key=lambda x: abs(x - value), default=None)


def _masks_of(where: Path, stamps: Sequence[int], limit: int) -> tuple[dict[str, Mask], LabelSet]:
    """Return frame id -> mask, of the frames that are near enough to one, and the classes."""
    found, label_set = read_masks(where)
    ascending = sorted(stamps)
    masks: dict[str, Mask] = {}
    for stamp, mask in sorted(found.items()):
        nearest = _nearest(ascending, stamp)
        if nearest is not None and abs(nearest - stamp) <= limit:
            masks[str(nearest)] = mask
    if not masks:
        raise DataError(
            f"none of the {len(found)} masks of {where} is named by the stamp of an image "
            f"(the first image has {ascending[0] if ascending else '?'})"
        )
    return masks, label_set
