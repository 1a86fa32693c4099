# SPDX-License-Identifier: Apache-2.0
"""Images of a recording with what was measured at the same time, in one pass over its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.recorded_frames import match_one_to_one
from proto_mtl_ros.data.bags.recording import BagRecording

_WAITING = 64
"""Images that wait for a partner, at most; messages lie close to the time of their stamps."""


@dataclass(frozen=True)
class StreamFrame:
    """An image and its partners, still serialised.

    Attributes:
        stamp: of the image, nanoseconds.
        image: the image.
        partners: topic -> the message that was matched to it, where there is one.
    """

    stamp: int
    image: BagMessage
    partners: Mapping[str, BagMessage]


class FrameStream:
    """The images of a recording in the order they were recorded, each stamp once.

    Stamps are read first, so that every image gets the partner that is nearest to it; the messages
    themselves pass by one after the other, so memory does not grow with the recording.

    Attributes:
        images: how many there are.
        span: first and last stamp of an image, nanoseconds; (0, 0) without one.
        repeated: images left out because an earlier one has their stamp.
        matched: topic -> how many images have a partner there.
    """

    def __init__(
        self, recording: BagRecording, partners: Collection[str], tolerance: float = 0.02
    ) -> None:
        """Read the stamps.

        Args:
            recording: with the topic of the images.
            partners: topics of messages with a header, to be matched.
            tolerance: seconds between an image and its partner, at most.
        """
        self._recording = recording
        self._image_topic = recording.topics.image.name
        stamps: dict[str, list[int]] = {name: [] for name in (self._image_topic, *partners)}
        for message in recording.messages_of(list(stamps)):
            stamps[message.topic].append(message.stamp)
        own = stamps.pop(self._image_topic)
        self.images = len(set(own))
        self.span = (min(own), max(own)) if own else (0, 0)
        self.repeated = len(own) - self.images
        limit = round(1e9 * tolerance)
        self._partner = {
            name: match_one_to_one(own, others, limit) for name, others in stamps.items()
        }
        self.matched = {name: len(pairs) for name, pairs in self._partner.items()}

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[StreamFrame]:
        """Yield the images with their partners."""
        waiting: deque[tuple[BagMessage, dict[str, BagMessage], set[str]]] = deque()
        wanted_by = {
            name: {other: one for one, other in pairs.items()}
            for name, pairs in self._partner.items()
        }
        early: dict[tuple[str, int], BagMessage] = {}
        seen: set[int] = set()
        for message in self._recording.messages_of([self._image_topic, *self._partner]):
            stamp = message.stamp
            if message.topic == self._image_topic:
                if stamp in seen:
                    continue
                seen.add(stamp)
                here, missing = {}, set()
                for name, pairs in self._partner.items():
                    if stamp in pairs:
                        partner = early.pop((name, pairs[stamp]), None)
                        if partner is None:
                            missing.add(name)
                        else:
                            here[name] = partner
                waiting.append((message, here, missing))
            else:
                image = wanted_by[message.topic].pop(stamp, None)
                if image is None:
                    continue
                for one, here, missing in waiting:
                    if one.stamp == image:
                        here[message.topic] = message
                        missing.discard(message.topic)
                        break
                else:
                    early[message.topic, stamp] = message
                    while len(early) > _WAITING:
                        del early[next(iter(early))]
            while waiting and (not waiting[0][2] or len(waiting) > _WAITING):
                one, here, _ = waiting.popleft()
                yield StreamFrame(one.stamp, one, here)
        for one, here, _ in waiting:
            yield StreamFrame(one.stamp, one, here)
