# SPDX-License-Identifier: Apache-2.0
"""The images of a recording, each with what was measured at its time, in one pass over the bag.

Images and their partners lie near each other in the recording, so a few of them wait in memory
until every topic has passed the time of the first. Memory does not grow with the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.pictures import decode_depth, decode_ids, decode_picture
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.geometry.depth_cleaning import clean_depth

_WAITING = 32
"""Images, and messages of a partner, that wait for each other."""

_PATIENCE = 250_000_000
"""Nanoseconds of recording that an image waits at least: messages may be out of order."""

_NS = 1_000_000_000


@dataclass(frozen=True)
class RecordedFrame:
    """An image, uint8 [H, W, 3], and what was measured with it, all at its size: depth float32 in
    metres, NaN where invalid (``Calibration.registration`` says whether its pixels are the
    image's), class ids uint8. No two frames of a recording have one stamp (ns); no camera: not
    calibrated, or of another shape.
    """

    stamp: int
    rgb: np.ndarray
    camera: Camera | None
    depth: np.ndarray | None = None
    labels: np.ndarray | None = None


class RecordedFrames:
    """The frames of a recording, in the order of recording, each stamp once.

    Iterating reads the recording once. What cannot be decoded, an image or a partner of one, is
    left out and counted in ``damaged``, by topic and reason of the first. ``passed`` counts images,
    decoded or not, ``repeated`` those with the stamp of an earlier one, ``matched`` those with a
    partner in a topic. What has passed can be read again by its stamp with ``at``.
    """

    def __init__(
        self,
        recording: BagRecording,
        calibration: Calibration,
        labels_topic: str | None = None,
        tolerance: float = 0.02,
        every: int = 1,
        part: tuple[float, float] = (0.0, 1.0),
        believed: tuple[float, float] | None = None,
    ) -> None:
        """Read nothing yet. ``tolerance`` is in seconds; of ``every`` images one is taken; ``part``
        is the stretch of the recording, as parts of its duration. With a range of depth that is
        ``believed``, in metres, what a sensor makes up is taken out, see ``clean_depth``.
        """
        self._recording, self._calibration = recording, calibration
        self._image_topic = recording.topics.image.name
        depth = recording.topics.depth
        self._depth_topic = depth.name if depth is not None else None
        self._labels_topic = labels_topic
        self._partners = [name for name in (self._depth_topic, labels_topic) if name]
        # times of recording are as late as the way of a message was long
        self._limit = round(max(tolerance, 0.05 if recording.by_time else 0) * _NS)
        self._every, self._believed = every, believed
        self._part = None if part == (0.0, 1.0) else part
        count = recording.topics.image.count
        self._expected = max(1, round((part[1] - part[0]) * count / every)) if count else 0
        self._reset()

    def _reset(self) -> None:
        # stamp -> recorded time of the image; topic -> stamp and recorded time of its partner
        self._places: dict[int, tuple[int, dict[str, tuple[int, int]]]] = {}
        self.passed = self.repeated = 0
        self.matched = dict.fromkeys(self._partners, 0)
        self.damaged: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """How many frames are to be expected, as far as the recording's index says."""
        return self._expected

    def __iter__(self) -> Iterator[RecordedFrame]:
        return self.starting_at(None)

    def starting_at(self, stamp: int | None) -> Iterator[RecordedFrame]:
        """Yield the frames from the one with this stamp on, None: all; none before is decoded."""
        for image, partners in self._chosen():
            if stamp is None or image.stamp == stamp:
                stamp = None
                try:
                    rgb = decode_picture(image)
                except BagError as error:
                    self._note_damage(image, error)
                    continue
                yield self._frame(rgb, image.stamp, partners)

    def index(self) -> list[int]:
        """Pass over the recording without decoding; return the stamps of all frames."""
        return [image.stamp for image, _ in self._chosen()]

    def has_partner(self, stamp: int, topic: str) -> bool:
        return topic in self._places[stamp][1]

    def at(self, stamp: int, only: Collection[str] | None = None) -> RecordedFrame:
        """Return a frame that has passed, read again, with its partners in some topics (all);
        BagError where its image cannot be decoded, or the recording has changed.
        """
        time, partners = self._places[stamp]
        found = {
            name: self._message(name, *where)
            for name, where in partners.items()
            if only is None or name in only
        }
        rgb = decode_picture(self._message(self._image_topic, stamp, time))
        return self._frame(rgb, stamp, found)

    def images(self, stamps: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield stamp and uint8 [H, W, 3] of these images in the order of recording, in a pass."""
        wanted = set(stamps)
        for message in self._recording.messages_of([self._image_topic]):
            if message.stamp in wanted:
                wanted.discard(message.stamp)
                try:
                    yield message.stamp, decode_picture(message)
                except BagError as error:
                    self._note_damage(message, error)

    def notes(self) -> list[str]:
        """Return what was left out so far, one line each."""
        notes = [
            f"{count} messages of {topic} cannot be decoded and are left out, the first: {reason}"
            for (topic, reason), count in self.damaged.items()
        ]
        if self.repeated:
            notes.append(f"{self.repeated} images have the stamp of an earlier one: left out")
        if self._depth_topic is not None and self.passed > self.matched[self._depth_topic]:
            without = self.passed - self.matched[self._depth_topic]
            notes.append(f"{without} images have no depth within the tolerance")
        return notes

    def _chosen(self) -> Iterator[tuple[BagMessage, dict[str, BagMessage]]]:
        self._reset()
        first, last = 0, None
        if self._part is not None:
            begin, end = self._recording.image_span()
            # in whole nanoseconds: as floats, stamps of this century are hundreds of them apart
            first, last = (begin + round(share * (end - begin)) for share in self._part)
        for number, (image, partners) in enumerate(self._matched()):
            stamp = image.stamp
            if number % self._every or (last is not None and not first <= stamp <= last):
                continue
            self.passed += 1
            for name in partners:
                self.matched[name] += 1
            places = {name: (own.stamp, own.time) for name, own in partners.items()}
            self._places[stamp] = image.time, places
            yield image, partners

    def _matched(self) -> Iterator[tuple[BagMessage, dict[str, BagMessage]]]:
        """Yield every image once with its partners, in one pass."""
        images: dict[int, BagMessage] = {}
        waiting: dict[str, dict[int, BagMessage]] = {name: {} for name in self._partners}
        newest = dict.fromkeys(self._partners, -_NS)
        seen: set[int] = set()

        def settled() -> tuple[BagMessage, dict[str, BagMessage]]:
            """Take the first image, and the partners that are nearer to it than to another."""
            stamp = next(iter(images))
            found = {}
            for name, others in waiting.items():
                partner = match_one_to_one(images, others, self._limit).get(stamp)
                if partner is not None:
                    found[name] = others.pop(partner)
            return images.pop(stamp), found

        for message in self._recording.messages_of([self._image_topic, *self._partners]):
            stamp = message.stamp
            if message.topic == self._image_topic:
                if stamp in seen:
                    self.repeated += 1
                    continue
                seen.add(stamp)
                images[stamp] = message
            else:
                others = waiting[message.topic]
                others.setdefault(stamp, message)
                if len(others) > _WAITING:
                    del others[next(iter(others))]
                newest[message.topic] = max(newest[message.topic], stamp)
            while images and (len(images) > _WAITING or self._is_late(message, images, newest)):
                yield settled()
        while images:
            yield settled()

    def _is_late(
        self, message: BagMessage, images: Mapping[int, BagMessage], newest: Mapping[str, int]
    ) -> bool:
        """Tell whether no partner is to be expected any more for the first of the images."""
        stamp, image = next(iter(images.items()))
        waited = not newest or message.time - image.time > _PATIENCE
        return waited and all(at > stamp + 2 * self._limit for at in newest.values())

    def _frame(
        self, rgb: np.ndarray, stamp: int, partners: Mapping[str, BagMessage]
    ) -> RecordedFrame:
        height, width = rgb.shape[:2]
        depth = labels = None
        for name, message in partners.items():
            try:
                if name == self._depth_topic:
                    depth = decode_depth(message)
                else:
                    labels = resize(decode_ids(message), width, height, "nearest")
            except BagError as error:
                self._note_damage(message, error)
        if depth is not None:
            if self._believed is not None:
                depth = clean_depth(depth, *self._believed)
            depth = self._calibration.depth_of_image(depth, width, height)
        camera = self._calibration.fitted(width, height)
        return RecordedFrame(stamp, rgb, camera, depth, labels)

    def _note_damage(self, message: BagMessage, error: BagError) -> None:
        known = next((key for key in self.damaged if key[0] == message.topic), None)
        self.damaged[known or (message.topic, f"{message.stamp}: {error}")] += 1

    def _message(self, topic: str, stamp: int, time: int) -> BagMessage:
        for message in self._recording.messages_of([topic], time, time + 1):
            if message.stamp == stamp:
                return message
        raise BagError(f"{self._recording.path} has changed since it was opened: open it again")


def match_one_to_one(
    first: Collection[int], second: Collection[int], tolerance: int
) -> dict[int, int]:
    """Return stamp of ``first`` -> stamp of ``second``, each used once, nearest pairs first, none
    farther apart than the tolerance: the one way in which stamps are matched.
    """
    ones, others = sorted(set(first)), sorted(set(second))
    pairs: list[tuple[int, int, int]] = []
    start = 0
    for one in ones:
        while start < len(others) and others[start] < one - tolerance:
            start += 1
        for other in others[start:]:
            if other > one + tolerance:
                break
            pairs.append((abs(other - one), one, other))
    taken: dict[int, int] = {}
    used: set[int] = set()
    for _, one, other in sorted(pairs):
        if one not in taken and other not in used:
            taken[one] = other
            used.add(other)
    return taken
