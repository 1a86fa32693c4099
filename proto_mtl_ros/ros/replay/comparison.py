# SPDX-License-Identifier: Apache-2.0
"""What a replay has recorded, read once: held against an offline pass over the same images, and
against the depth that was measured beside them; and of every image without a result, what became
of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import Bag, BagMessage
from proto_mtl_ros.data.bags.calibration import recorded_camera
from proto_mtl_ros.data.bags.recording import (
    BagRecording,
    DepthFrame,
    Recording,
    decode_picture,
    image_arguments,
)
from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.encodings import decode_image
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.evaluation.depth_error import DepthComparison, depth_error, with_nearest
from proto_mtl_ros.evaluation.frame_album import FrameAlbum
from proto_mtl_ros.ros.outcomes import PROCESSED
from proto_mtl_ros.ros.replay.session import CAMERA, RESULT_IMAGES, ReplayLogs
from proto_mtl_ros.ros.topics import result_topics
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import TopicSettings

LOST = "lost_in_transport"
"""Fate of an image that was sent and never reached the node."""

RESULT_LOST = "result_not_recorded"
"""Fate of an image that the node processed and of which no result was recorded."""

DEPTH_TOLERANCE_NS = 20_000_000
"""Colour and depth images that are farther apart in time are not compared."""

IDS, CONFIDENCE = "segmentation/image", "segmentation/confidence"
DEPTH, NORMALS = "depth/image", "normals/color"
_UNITS = {IDS: "of the pixels", DEPTH: "m", NORMALS: "of 255 in a colour"}


@dataclass
class MapComparison:
    """One result topic, live against offline.

    Attributes:
        unit: of ``largest``.
        frames: compared.
        equal: frames of which every value is the same.
        largest: largest difference of a value, None for another size; for class ids the largest
            share of other ids.
    """

    unit: str = ""
    frames: int = 0
    equal: int = 0
    largest: float | None = 0.0

    def add(self, live: np.ndarray, offline: np.ndarray, ids: bool) -> bool:
        """Compare a frame and return whether it is equal; NaN is equal to NaN."""
        self.frames += 1
        if live.shape != offline.shape:
            self.largest = None
            return False
        if np.array_equal(live, offline, equal_nan=live.dtype.kind == "f"):
            self.equal += 1
            return True
        if ids:
            difference = float((live != offline).mean())
        else:
            with np.errstate(invalid="ignore"):  # inf - inf
                gap = np.abs(live.astype(np.float64) - offline.astype(np.float64))
            gap[(live == offline) | (np.isnan(live) & np.isnan(offline))] = 0
            difference = float(np.nan_to_num(gap).max())
        self.largest = None if self.largest is None else max(self.largest, difference)
        return False


@dataclass
class LiveComparison:
    """What a live run and an offline pass have in common.

    Attributes:
        maps: by result topic below the camera.
        different: stamps (ns) of the images of which some map is not equal.
        fates: stamp (ns) -> what became of an image without a whole set of results.
        sent: images that were sent.
        first: stamp (ns) of the first of them.
    """

    maps: dict[str, MapComparison] = field(default_factory=dict)
    different: list[int] = field(default_factory=list)
    fates: dict[int, str] = field(default_factory=dict)
    sent: int = 0
    first: int = 0

    def figures(self) -> dict[str, Any]:
        """Return all figures, ready for JSON; frames are told by their time in the run."""
        frames = max((one.frames for one in self.maps.values()), default=0)
        seconds = [
            [round((stamp - self.first) / 1e9, 6), fate]
            for stamp, fate in sorted(self.fates.items())
        ]
        return {
            "sent": self.sent,
            "compared": frames,
            "equal": frames - len(self.different),
            "maps": {name: asdict(one) for name, one in self.maps.items()},
            "different_at_s": [round((one - self.first) / 1e9, 6) for one in self.different],
            "without_result": dict(Counter(self.fates.values())),
            "without_result_at_s": seconds,
        }


class ResultReader:
    """Goes through a recording and the results of its replay side by side, once.

    Attributes:
        live: live results against the offline pass.
        album: frames to show, of the first round: later ones show the same again.
    """

    def __init__(
        self,
        recording: Recording,
        logs: ReplayLogs,
        predictor: Predictor | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare.

        Args:
            recording: what was played.
            logs: of the replay.
            predictor: for the offline pass, like the node's; None for no such pass.
            parameters: of the node, by name.
        """
        self._recording, self._logs = recording, logs
        parameters = parameters or {}
        self._predictor = predictor
        self._settings = TopicSettings(
            np.zeros((0, 3), np.uint8),
            parameters.get("min_depth", 0.0),
            parameters.get("max_depth", 0.0),
        )
        self._sent = next(iter(logs.sent.stamps.values()), [])
        self._period = int(logs.sent.notes.get("period_ns", 0))
        self.live = LiveComparison(sent=len(self._sent), first=min(self._sent, default=0))
        own = [set(logs.received.stamps.get(name, ())) for name in RESULT_IMAGES]
        answered = set().union(*own).intersection(self._sent)
        self.album = FrameAlbum(len([one for one in answered if self._first_round(one)]))
        self._place = 0
        self._camera = None
        if isinstance(recording, BagRecording):
            rectified = bool(parameters.get("rectified", False))
            self._camera = recorded_camera(recording, recording.topics.camera_info, rectified)
        self._depth = DepthComparison()
        self._depth_frame = ""
        self._gaps: list[float] = []
        self._confidence: list[list[float]] = []

    def _first_round(self, stamp: int) -> bool:
        return not self._period or stamp < self.live.first + self._period

    def read(
        self, results: Path, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> None:
        """Read everything.

        Args:
            results: rosbag2 of the results.
            progress: called with the images done, and of how many.
        """
        place = {stamp: number for number, stamp in enumerate(self._sent)}
        known: set[int] = set()
        with Bag(results) as bag:
            present = {topic.name for topic in bag.topics if topic.count}
            topics = {
                name.removeprefix(f"/{CAMERA}/"): _InOrder(bag, name, place)
                for name in RESULT_IMAGES
                if name in present
            }
            if self._predictor is not None:
                self.live.maps = {
                    name: MapComparison(_UNITS.get(name, "of 255")) for name in topics
                }
            for number, (image, measured) in enumerate(self._images()):
                found = {name: topic.at(number) for name, topic in topics.items()}
                live = {
                    name: decode_image(*image_arguments(own.decode()))
                    for name, own in found.items()
                    if own is not None
                }
                if live:
                    known.add(self._sent[number])
                    self._add(self._sent[number], image, live, measured)
                progress(number + 1, len(self._sent))
        for stamp in self._sent:
            if stamp not in known:
                fate = self._logs.fates.get(stamp, LOST)
                self.live.fates[stamp] = RESULT_LOST if fate == PROCESSED else fate

    def _images(self) -> Iterator[tuple[BagMessage, DepthFrame | None]]:
        """Yield the images as they were sent, again for every loop, with the nearest depth."""
        number = shift = 0

        def of_this_round() -> Iterator[BagMessage]:
            nonlocal number
            for message in self._recording.messages():
                if number == len(self._sent):
                    return
                own = message.topic == self._recording.topics.image.name
                if own and message.stamp + shift == self._sent[number]:
                    number += 1
                    yield message

        while number < len(self._sent):
            before = number
            depths = self._recording.depth_frames()
            yield from with_nearest(of_this_round(), depths, DEPTH_TOLERANCE_NS)
            if number == before:
                return
            shift += self._period

    def _add(
        self,
        stamp: int,
        image: BagMessage,
        live: Mapping[str, np.ndarray],
        measured: DepthFrame | None,
    ) -> None:
        seconds = (stamp - self.live.first) / 1e9
        if CONFIDENCE in live:
            self._confidence.append([round(seconds, 6), float(live[CONFIDENCE].mean()) / 255])
        if self._predictor is not None:
            self._compare(self._predictor, stamp, decode_picture(image), live)
        truth, error = self._measured(measured), None
        if truth is not None and measured is not None and DEPTH in live:
            of_frame = depth_error(live[DEPTH], truth)
            self._depth.add(stamp, of_frame)
            self._gaps.append((measured.stamp - image.stamp) / 1e6)
            error = of_frame.abs_err
        if self._first_round(stamp):
            self.album.add(
                self._place,
                error,
                lambda: SheetRow(
                    f"{seconds:.2f} s",
                    decode_picture(image),
                    live.get(IDS),
                    live.get(DEPTH),
                    _unit_vectors(live[NORMALS]) if NORMALS in live else None,
                    truth,
                ),
            )
            self._place += 1

    def _compare(
        self, predictor: Predictor, stamp: int, rgb: np.ndarray, live: Mapping[str, np.ndarray]
    ) -> None:
        height, width = rgb.shape[:2]
        prediction = predictor.predict(rgb, self._camera and self._camera.fitted(width, height))
        equal = []
        for topic in result_topics():
            if topic.name in live and topic.make is not None:
                offline = topic.make(prediction, rgb, self._settings)
                one = self.live.maps[topic.name]
                equal.append(one.add(live[topic.name], offline, topic.name == IDS))
        if not all(equal):
            self.live.different.append(stamp)

    def _measured(self, frame: DepthFrame | None) -> np.ndarray | None:
        """Return measured depth, None where there is none or it is damaged."""
        if frame is None:
            return None
        try:
            depth, self._depth_frame = frame.decode()
        except BagError:
            return None
        return depth

    def figures(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        return {
            "live_and_offline": None if self._predictor is None else self.live.figures(),
            "confidence_by_s": self._confidence,
            "depth": self._depth_figures(),
        }

    def _depth_figures(self) -> dict[str, Any]:
        """Return the figures of depth, and how the two were matched; or why there are none."""
        topic = self._recording.topics.depth
        reason = ""
        if topic is None:
            reason = "the recording has no depth topic"
        elif not self._depth.frames:
            limit = DEPTH_TOLERANCE_NS / 1e6
            reason = f"no depth image within {limit:g} ms of a predicted one"
        elif not self._depth.scales:
            frames = self._depth.frames
            reason = f"in {frames} frames no pixel has both predicted and measured depth"
        if topic is None or reason:
            return {"available": False, "reason": reason}
        image_frame = self._recording.image_frame()
        return {
            "available": True,
            "topic": topic.name,
            "image_frame": image_frame,
            "depth_frame": self._depth_frame,
            "registered": self._depth_frame == image_frame,
            "tolerance_ms": DEPTH_TOLERANCE_NS / 1e6,
            "median_gap_ms": float(np.median(self._gaps)),
            **self._depth.figures(),
        }


class _InOrder:
    """The messages of one topic, asked for by the number of the image that they answer."""

    def __init__(self, bag: Bag, topic: str, place: Mapping[int, int]) -> None:
        self._messages = ((place[m.stamp], m) for m in bag.messages([topic]) if m.stamp in place)
        self._next = next(self._messages, None)

    def at(self, number: int) -> BagMessage | None:
        """Return the message of this image; numbers must ascend."""
        while self._next is not None and self._next[0] < number:
            self._next = next(self._messages, None)
        if self._next is None or self._next[0] != number:
            return None
        return self._next[1]


def _unit_vectors(colours: np.ndarray) -> np.ndarray:
    """Return float32[H, W, 3] normals from their recorded colours, (0, 0, 0) where invalid."""
    normals = (colours.astype(np.float32) - 128.0) * np.array([1, -1, -1], np.float32) / 127.5
    normals[~colours.any(axis=-1)] = 0
    return normals
