# SPDX-License-Identifier: Apache-2.0
"""One face for every kind of recording: a rosbag2, a video file, a folder of images.

A recording gives its messages as they are published (serialised, in the order of their times),
and its pictures as arrays for those who look at them later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from proto_mtl_ros.data.bags.bag import Bag, BagMessage, Topic
from proto_mtl_ros.data.bags.topics import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    CameraTopics,
    choose_topics,
    nearest_info,
)
from proto_mtl_ros.encodings import (
    EncodingError,
    decode_compressed,
    decode_compressed_depth,
    to_depth,
    to_rgb,
)
from proto_mtl_ros.errors import BagError


@dataclass(frozen=True)
class DepthFrame:
    """A measured depth image, its stamp in nanoseconds, that is decoded when it is needed."""

    stamp: int
    message: BagMessage

    def decode(self) -> tuple[np.ndarray, str]:
        """Return float32[H, W] metres along the optical axis, NaN where invalid, and its frame."""
        message = self.message.decode()
        with one_line_errors(self.message):
            if self.message.type == COMPRESSED_IMAGE:
                depth = decode_compressed_depth(message.format, message.data)
            else:
                depth = to_depth(*image_arguments(message))
        return depth, str(message.header.frame_id)


_NS = 1_000_000_000

R = TypeVar("R", bound="Recording")


class Recording(ABC):
    """A stream of colour images of one camera, with what was recorded beside them.

    ``kind`` is "bag", "video" or "images"; ``frames`` counts colour images, ``duration`` is seconds
    from the first to the last; ``notes`` say what is missing, one line each.
    """

    path: Path
    kind: str
    topics: CameraTopics
    frames: int
    duration: float
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Colour images per second."""
        return (self.frames - 1) / self.duration if self.duration > 0 and self.frames > 1 else 0.0

    @abstractmethod
    def messages(self) -> Iterator[BagMessage]:
        """Yield colour images and their camera_info in the order of their times."""

    @abstractmethod
    def pictures(self, stamps: Collection[int]) -> dict[int, np.ndarray]:
        """Return the colour images of these stamps, uint8[H, W, 3] RGB, by stamp (ns)."""

    def depth_frames(self) -> Iterator[DepthFrame]:
        """Yield the measured depth images in the order of their times, if there are any."""
        return iter(())

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Close the files."""

    def __enter__(self: R) -> R:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class BagRecording(Recording):
    """The colour camera of a bag; raises BagError when it has none."""

    kind = "bag"

    def __init__(
        self,
        path: Path | Bag,
        image_topic: str | None = None,
        info_topic: str | None = None,
        depth_topic: str | None = None,
    ) -> None:
        self._bag = path if isinstance(path, Bag) else Bag(path)
        self.path = self._bag.path
        try:
            self.topics = choose_topics(self._bag, image_topic, info_topic, depth_topic)
        except BagError:
            self._bag.close()
            raise
        self.notes = self._bag.notes
        self.frames = self.topics.image.count
        self.duration = self._bag.duration

    def messages(self) -> Iterator[BagMessage]:
        names = [self.topics.image.name]
        if self.topics.camera_info is not None:
            names.append(self.topics.camera_info.name)
        return self._bag.messages(names)

    @property
    def depth_info(self) -> Topic | None:
        """The CameraInfo of the depth topic, None where there is none."""
        infos = [t for t in self._bag.topics if t.type == CAMERA_INFO and t.count]
        return nearest_info(self.topics.depth, infos) if self.topics.depth else None

    def image_frame(self) -> str:
        """Return the frame of the colour images, "" when it is not known."""
        first = next((m for m in self.messages() if m.topic == self.topics.image.name), None)
        return str(first.decode().header.frame_id) if first else ""

    def depth_frame(self) -> str:
        """Return the frame of the measured depth images, "" when it is not known."""
        first = next(self.depth_frames(), None)
        return str(first.message.decode().header.frame_id) if first else ""

    def messages_of(
        self, names: Collection[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of any topics, recorded from ``start`` to before ``stop`` (ns)."""
        return self._bag.messages(names, start, stop)

    def image_span(self) -> tuple[int, int]:
        """Return the first and the last stamp of an image, ns; only both ends are read."""
        name, (start, end) = self.topics.image.name, self._bag.span
        reach = _NS
        while True:
            parts = ((None, start + reach), (end - reach, None))
            found = [[m.stamp for m in self._bag.messages([name], *part)] for part in parts]
            if all(found) or start + reach > end:
                return min(found[0], default=0), max(found[1], default=0)
            reach *= 8

    def pictures(self, stamps: Collection[int]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        for message in self._bag.messages([self.topics.image.name]):
            if message.stamp in stamps and message.stamp not in found:
                found[message.stamp] = decode_picture(message)
                if len(found) == len(stamps):
                    break
        return found

    def depth_frames(self) -> Iterator[DepthFrame]:
        if self.topics.depth is None:
            return
        for message in self._bag.messages([self.topics.depth.name]):
            yield DepthFrame(message.stamp, message)

    def close(self) -> None:
        self._bag.close()


def image_arguments(image: Any) -> tuple[str, int, int, int, bool, Any]:
    """Return the fields of a decoded Image message in the order that ``encodings`` takes them."""
    size = image.height, image.width
    return (image.encoding, *size, image.step, bool(image.is_bigendian), image.data)


def decode_picture(message: BagMessage) -> np.ndarray:
    """Return the image of a message as uint8 [H, W, 3] RGB; BagError where it is damaged."""
    image = message.decode()
    with one_line_errors(message):
        if message.type == COMPRESSED_IMAGE:
            return decode_compressed(image.format, image.data)
        return to_rgb(*image_arguments(image))


@contextmanager
def one_line_errors(message: BagMessage) -> Iterator[None]:
    """Make a BagError of what is wrong with the image of a message."""
    try:
        yield
    except EncodingError as error:
        why = f"an image of {message.topic} cannot be decoded ({error}): record it again"
        raise BagError(why) from None
