# SPDX-License-Identifier: Apache-2.0
"""What is in a recording: rates, gaps, sizes, encodings, frames, and what can be used of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from proto_mtl_ros.data.bags.bag import Bag, Topic
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.pictures import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.topics import CameraTopics, TopicLook, look_at
from proto_mtl_ros.errors import BagError, DataError

_CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO)


@dataclass
class TopicSummary:
    """One topic, its figures counted in one pass, whatever its length.

    ``count`` are messages that could be read, ``rate`` their mean per second (0 for fewer than
    two), ``largest_gap`` seconds; ``backwards`` and ``repeated`` messages whose stamp is older
    than, or that of, the one before.
    """

    topic: Topic
    count: int = 0
    rate: float = 0.0
    largest_gap: float = 0.0
    backwards: int = 0
    repeated: int = 0
    look: TopicLook = TopicLook()
    _times: tuple[int, int] | None = field(default=None, repr=False)
    _stamp: int | None = field(default=None, repr=False)

    def add(self, time: int, stamp: int | None) -> None:
        """Count a message recorded at ``time`` with ``stamp``, nanoseconds."""
        self.count += 1
        first, last = self._times or (time, time)
        self.largest_gap = max(self.largest_gap, (time - last) / 1e9)
        self._times = first, time
        if self.count > 1 and time > first:
            self.rate = (self.count - 1) * 1e9 / (time - first)
        if stamp is not None and self._stamp is not None:
            self.backwards += stamp < self._stamp
            self.repeated += stamp == self._stamp
        self._stamp = stamp

    def oddities(self) -> list[str]:
        """Return what an evaluation would stumble over."""
        name, odd = self.topic.name, []
        if self.topic.count > self.count:
            lost = self.topic.count - self.count
            which = f"{lost} of its {self.topic.count}" if self.count else f"none of its {lost}"
            odd.append(f"{name}: {which} messages {'cannot' if self.count else 'can'} be read")
        if self.backwards:
            odd.append(f"{name}: {self.backwards} stamps go backwards")
        if self.repeated and self.repeated < self.count - 1:
            odd.append(f"{name}: {self.repeated} stamps are there twice")
        if self.rate and self.largest_gap > 5 / self.rate and self.look.use:
            odd.append(f"{name}: a gap of {self.largest_gap:.2f} s")
        return odd


@dataclass(frozen=True)
class BagSummary:
    """A recording: its topics by name; the ones that would be used, or the problem why there are
    none; what is missing or odd in ``notes``, and the ``decisions``, see ``Calibration.notes``.
    """

    duration: float
    topics: tuple[TopicSummary, ...]
    camera: CameraTopics | None
    problem: str
    notes: tuple[str, ...]
    decisions: tuple[str, ...]


def summarise(bag: Bag) -> BagSummary:
    found = {topic.name: TopicSummary(topic) for topic in bag.topics}
    for message in bag.messages():
        stamp = message.stamp if message.type in _CAMERA_TYPES else None
        found[message.topic].add(message.time, stamp)
    for summary in found.values():
        if summary.count:
            summary.look = look_at(bag, summary.topic)
    camera, problem, decisions, notes = None, "", tuple[str, ...](), bag.notes
    try:
        recording = BagRecording(bag, looks={name: one.look for name, one in found.items()})
        camera, notes = recording.topics, recording.notes
        decisions = Calibration.of(recording).notes
    except BagError as error:
        problem = str(error)
    except DataError as error:
        decisions = (str(error),)
    notes = (*notes, *(odd for summary in found.values() for odd in summary.oddities()))
    return BagSummary(bag.duration, tuple(found.values()), camera, problem, notes, decisions)
