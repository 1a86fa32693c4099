# SPDX-License-Identifier: Apache-2.0
"""One face for every kind of recording: a rosbag2, a video file, a folder of images.

A recording gives its messages as they are published (serialised, in the order of their times),
and its pictures as arrays for those who look at them later.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from proto_mtl_ros.data.bags.bag import Bag, BagMessage, Topic, stamped
from proto_mtl_ros.data.bags.message_types import VIDEO_PACKET, typestore
from proto_mtl_ros.data.bags.pictures import CAMERA_INFO, IMAGE, decode_picture
from proto_mtl_ros.data.bags.stamp_log import shifted
from proto_mtl_ros.data.bags.topics import (
    CameraTopics,
    TopicLook,
    choose_topics,
    look_at,
    nearest_info,
)
from proto_mtl_ros.data.bags.video_packets import decoded_video
from proto_mtl_ros.data.camera_file import read_camera
from proto_mtl_ros.errors import BagError, ConfigError
from proto_mtl_ros.geometry import Camera

_NS = 1_000_000_000

R = TypeVar("R", bound="Recording")
GivenCamera = Camera | Literal[False] | None
"""A camera in place of what is recorded, False: none, None: as it is recorded."""


class Recording(ABC):
    """A stream of colour images of one camera, with what was recorded beside them.

    ``kind`` is "bag", "video" or "images"; ``frames`` counts colour images, ``duration`` is seconds
    from the first to the last; ``notes`` say what is missing, one line each. ``camera`` was given.
    """

    path: Path
    kind: str
    topics: CameraTopics
    camera: GivenCamera = None
    frames: int
    duration: float
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        return (self.frames - 1) / self.duration if self.duration > 0 and self.frames > 1 else 0.0

    @property
    @abstractmethod
    def image_frame(self) -> str:
        """Frame of the colour images without a leading slash, "" where it is unknown."""

    @abstractmethod
    def images(self) -> Iterator[BagMessage]:
        """Yield the colour images, and what is recorded of their camera, in the order of time."""

    def messages(self) -> Iterator[BagMessage]:
        """Yield colour images and their camera_info, recorded or given, in the order of time."""
        for message in self.images():
            if isinstance(self.camera, Camera):
                yield self._info_of(self.camera, message)
            yield message

    def pictures(self, stamps: Collection[int]) -> dict[int, np.ndarray]:
        """Return the colour images of these stamps, uint8[H, W, 3] RGB, by stamp (ns); what cannot
        be decoded is left out.
        """
        found: dict[int, np.ndarray] = {}
        for message in self.images():
            if message.topic == self.topics.image.name and message.stamp in stamps:
                with suppress(BagError):
                    found.setdefault(message.stamp, decode_picture(message))
            if len(found) == len(stamps):
                break
        return found

    def depth_frames(self) -> Iterator[BagMessage]:
        """Yield the measured depth images in the order of their times, if there are any."""
        return iter(())

    def _info_of(self, camera: Camera, image: BagMessage) -> BagMessage:
        assert self.topics.camera_info is not None
        everything = typestore().types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        return stamped(
            self.topics.camera_info.name, CAMERA_INFO, image.time, image.stamp, self.image_frame,
            height=camera.height, width=camera.width,
            distortion_model=camera.distortion_model or "plumb_bob",
            d=np.zeros(5) if camera.D is None else camera.D,
            k=camera.K.reshape(-1), r=np.eye(3).reshape(-1),
            p=np.hstack([camera.K, np.zeros((3, 1))]).reshape(-1),
            binning_x=0, binning_y=0, roi=everything,
        )  # fmt: skip

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Close the files."""

    def __enter__(self: R) -> R:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class BagRecording(Recording):
    """The colour camera of a bag; raises BagError when it has none.

    Where all images, depth images or labels have one stamp, such as 0, they get the times of their
    recording as stamps, everywhere, and ``notes`` say so.
    """

    kind = "bag"

    def __init__(
        self,
        path: Path | Bag,
        image_topic: str | None = None,
        info_topic: str | None = None,
        depth_topic: str | None = None,
        camera: GivenCamera = None,
        looks: Mapping[str, TopicLook] | None = None,
    ) -> None:
        self._bag = path if isinstance(path, Bag) else Bag(path)
        self.path = self._bag.path
        self.by_time: frozenset[str] = frozenset()
        self._whole: set[int] = set()
        self._has_video = any(topic.type == VIDEO_PACKET for topic in self._bag.topics)
        try:
            if looks is None:
                looks = {topic.name: look_at(self._bag, topic) for topic in self._bag.topics}
            topics = choose_topics(self._bag, image_topic, info_topic, depth_topic, looks)
            self.notes = (*self._bag.notes, *self._distrust_stamps(topics))
        except BagError:
            self._bag.close()
            raise
        image = topics.image
        if image.type == VIDEO_PACKET:
            image = replace(image, type=IMAGE)  # which is what becomes of it
        self.camera, self._looks = camera, looks
        info = info_topic_of(image, camera, topics.camera_info)
        self.topics = replace(topics, image=image, camera_info=info)
        self.frames = self.topics.image.count
        self.duration = self._bag.duration

    def _distrust_stamps(self, topics: CameraTopics) -> Iterator[str]:
        """Find out whether stamps tell images apart; yield a note where they do not."""
        pictures = [one.name for one in (topics.image, topics.depth, topics.labels) if one]
        constant = [name for name in pictures if self._has_one_stamp(name)]
        if constant:
            infos = (topics.camera_info, topics.depth and self._nearest_info(topics.depth))
            self.by_time = frozenset((*pictures, *(info.name for info in infos if info)))
            names = " and ".join(constant)
            yield f"all messages of {names} have one stamp: times of recording are used"

    def _has_one_stamp(self, name: str) -> bool:
        stamps = (message.stamp for message in self._bag.messages([name]))
        first = next(stamps, None)
        return next(stamps, None) == first is not None and all(one == first for one in stamps)

    def messages_of(
        self, names: Collection[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of any topics, recorded from ``start`` to before ``stop`` (ns)."""
        begin = start
        if start is not None and self._has_video:
            begin = max((time for time in self._whole if time <= start), default=None)
        for message in decoded_video(self._bag.messages(names, begin, stop), self._whole):
            if start is not None and message.time < start:
                continue  # needed to decode what comes later
            if message.topic in self.by_time:
                cdr = shifted(message.cdr, message.time - message.stamp)
                message = replace(message, cdr=cdr)
            yield message

    def images(self) -> Iterator[BagMessage]:
        names = [self.topics.image.name]
        if self.topics.camera_info is not None and self.camera is None:
            names.append(self.topics.camera_info.name)
        return self.messages_of(names)

    def _nearest_info(self, topic: Topic) -> Topic | None:
        infos = [t for t in self._bag.topics if t.type == CAMERA_INFO and t.count]
        return nearest_info(topic, infos)

    @property
    def depth_info(self) -> Topic | None:
        return self._nearest_info(self.topics.depth) if self.topics.depth else None

    def size_of(self, topic: Topic) -> tuple[int, int] | None:
        """Return width and height of a topic's images, None where none can be read."""
        size = re.fullmatch(r"(\d+)x(\d+)", self._looks[topic.name].size)
        return (int(size[1]), int(size[2])) if size else None

    def frame_of(self, topic: Topic | None) -> str:
        """Return the frame of a topic's images without a leading slash, "" when it is not known."""
        return self._looks[topic.name].frame_id.lstrip("/") if topic else ""

    @property
    def image_frame(self) -> str:
        return self.frame_of(self.topics.image)

    def image_span(self) -> tuple[int, int]:
        """Return the first and the last stamp of an image, ns; only both ends are read."""
        name, (start, end) = self.topics.image.name, self._bag.span
        reach = _NS
        while True:
            parts = ((None, start + reach), (end - reach, None))
            found = [[m.stamp for m in self.messages_of([name], *part)] for part in parts]
            if all(found) or start + reach > end:
                return min(found[0], default=0), max(found[1], default=0)
            reach *= 8

    def depth_frames(self) -> Iterator[BagMessage]:
        return self.messages_of([self.topics.depth.name] if self.topics.depth else [])

    def close(self) -> None:
        self._bag.close()


def given_camera(file: Path | None, none: bool) -> GivenCamera:
    """Return the camera that options give: a file, or that there is none."""
    if none and file is not None:
        raise ConfigError("--camera and --no-camera exclude each other")
    if none:
        return False
    return None if file is None else read_camera(file)


def info_topic_of(image: Topic, camera: GivenCamera, recorded: Topic | None) -> Topic | None:
    """Return the topic of the CameraInfo of images, whether it is recorded or given."""
    if camera is None or camera is False:
        return recorded if camera is None else None
    name = image.name.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"
    return recorded or Topic(name, CAMERA_INFO, image.count)
