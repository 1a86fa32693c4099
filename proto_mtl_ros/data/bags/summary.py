# SPDX-License-Identifier: Apache-2.0
"""What is in a recording: rates, gaps, sizes, encodings, frames, and what can be used of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from proto_mtl_ros.data.bags.bag import Bag, Topic
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.topics import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DEPTH_ENCODINGS,
    IMAGE,
    CameraTopics,
    is_colour,
)
from proto_mtl_ros.encodings import EncodingError, decode_compressed, decode_compressed_depth
from proto_mtl_ros.errors import BagError, DataError

_LABELS = re.compile(r"label|segment|mask|semantic")
_LABEL_ENCODINGS = ("mono8", "8UC1")
_CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO)


@dataclass
class TopicSummary:
    """One topic, its figures counted in one pass, whatever its length.

    ``count`` are messages that could be read, ``rate`` their mean per second (0 for fewer than
    two), ``largest_gap`` seconds; ``backwards`` and ``repeated`` messages whose stamp is older
    than, or that of, the one before. ``encoding`` is also the distortion model of a camera info,
    ``use`` what of ours it can be: "image", "camera_info", "depth", "labels" or "".
    """

    topic: Topic
    count: int = 0
    rate: float = 0.0
    largest_gap: float = 0.0
    backwards: int = 0
    repeated: int = 0
    size: str = ""
    encoding: str = ""
    frame_id: str = ""
    use: str = ""
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
        if self.topic.count and not self.count:
            odd.append(f"{name}: none of its {self.topic.count} messages can be read")
        if self.backwards:
            odd.append(f"{name}: {self.backwards} stamps go backwards")
        if self.repeated:
            odd.append(f"{name}: {self.repeated} stamps are there twice")
        if self.rate and self.largest_gap > 5 / self.rate and self.use:
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
    """Read a recording once and return what is in it."""
    found = {topic.name: TopicSummary(topic) for topic in bag.topics}
    for message in bag.messages():
        stamp = message.stamp if message.type in _CAMERA_TYPES else None
        found[message.topic].add(message.time, stamp)
    for summary in found.values():
        if summary.topic.type in _CAMERA_TYPES and summary.count:
            _describe(bag, summary)
    camera, problem, decisions = None, "", tuple[str, ...]()
    try:
        recording = BagRecording(bag)
        camera = recording.topics
        decisions = Calibration.of(recording).notes
    except BagError as error:
        problem = str(error)
    except DataError as error:
        decisions = (str(error),)
    notes = (*bag.notes, *(odd for summary in found.values() for odd in summary.oddities()))
    return BagSummary(bag.duration, tuple(found.values()), camera, problem, notes, decisions)


def _describe(bag: Bag, summary: TopicSummary) -> None:
    message = bag.first(summary.topic.name)
    assert message is not None
    content = message.decode()
    summary.frame_id = str(content.header.frame_id)
    if summary.topic.type == COMPRESSED_IMAGE:
        summary.encoding = str(content.format)
        is_depth = "compressedDepth" in summary.encoding
        summary.use = "depth" if is_depth else "image"
        decode = decode_compressed_depth if is_depth else decode_compressed
        try:
            height, width = decode(content.format, content.data).shape[:2]
            summary.size = f"{width}x{height}"
        except EncodingError as error:
            summary.size = f"not readable ({error.cause})"
        return
    summary.size = f"{content.width}x{content.height}"
    if summary.topic.type == CAMERA_INFO:
        calibrated = content.k[0] > 0
        summary.encoding = str(content.distortion_model) if calibrated else "not calibrated"
        summary.use = "camera_info" if calibrated else ""
        return
    summary.encoding = str(content.encoding)
    name = summary.topic.name.lower()
    if summary.encoding in DEPTH_ENCODINGS:
        summary.use = "depth"
    elif summary.encoding in _LABEL_ENCODINGS and _LABELS.search(name):
        summary.use = "labels"
    elif is_colour(summary.topic, summary.encoding):
        summary.use = "image"
