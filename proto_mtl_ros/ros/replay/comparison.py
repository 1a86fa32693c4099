# SPDX-License-Identifier: Apache-2.0
"""A recording and the results of its replay, read side by side, once.

Held against an offline pass over the same images, and against the depth that was measured beside
them; and of every image without a result, what became of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import Bag, BagMessage
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.pictures import decode_picture, image_arguments
from proto_mtl_ros.data.bags.recorded_frames import RecordedFrame, RecordedFrames
from proto_mtl_ros.data.bags.recording import BagRecording, Recording
from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.encodings import decode_image
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.evaluation.bag_pass import Progress
from proto_mtl_ros.evaluation.depth_error import DepthComparison, depth_error
from proto_mtl_ros.evaluation.frame_album import FrameAlbum
from proto_mtl_ros.ros.outcomes import PROCESSED
from proto_mtl_ros.ros.replay.session import CAMERA, RESULT_IMAGES, ReplayLogs
from proto_mtl_ros.ros.topics import result_topics
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import TopicSettings

LOST = "lost_in_transport"
"""Outcome of an image that was sent and never reached the node."""

RESULT_LOST = "result_not_recorded"
"""Outcome of an image that the node processed and of which no result was recorded."""

IDS, CONFIDENCE = "segmentation/image", "segmentation/confidence"
DEPTH, NORMALS = "depth/image", "normals/color"
_UNITS = {IDS: "of the pixels", DEPTH: "m", NORMALS: "of 255 in a colour"}


@dataclass
class MapComparison:
    """One result topic, live against offline: ``equal`` frames have the same value everywhere.

    ``largest`` is the largest difference of a value, in ``unit``; for class ids the largest share
    of other ids; None where the size differs, or one of the two has no value.
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
            difference = float(np.nan_to_num(gap, nan=np.inf).max())
        known = self.largest is not None and np.isfinite(difference)
        self.largest = max(self.largest or 0.0, difference) if known else None
        return False


class ResultReader:
    """Goes through the images that were sent, with what was measured and what was answered.

    Live results are held against the offline pass of a predictor like the node's. The ``album``
    has frames to show, of the first round: later ones show the same again. ``parameters`` are the
    node's, by name.
    """

    def __init__(
        self,
        recording: Recording,
        logs: ReplayLogs,
        predictor: Predictor,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        parameters = parameters or {}
        self._recording, self._predictor = recording, predictor
        near, far = parameters.get("min_depth", 0.0), parameters.get("max_depth", 0.0)
        self._settings = TopicSettings(np.zeros((0, 3), np.uint8), near, far)
        self._calibration = None
        if isinstance(recording, BagRecording):
            rectified = bool(parameters.get("rectified", False))
            self._calibration = Calibration.of(recording, rectified)
        sent = next(iter(logs.sent.stamps.values()), [])
        self._place = {stamp: number for number, stamp in enumerate(sent)}
        self._period = int(logs.sent.notes.get("period_ns", 0))
        self._sent, self._first = len(sent), min(sent, default=0)
        self._outcomes = {stamp: logs.outcomes.get(stamp, LOST) for stamp in sent}
        """Of the images without a result, by stamp (ns)."""
        self._maps: dict[str, MapComparison] = {}
        self._different: list[int] = []
        own = [set(logs.received.stamps.get(name, ())) for name in RESULT_IMAGES]
        answered = set().union(*own).intersection(sent)
        self.album = FrameAlbum(len([stamp for stamp in answered if self._is_first_round(stamp)]))
        self._shown = 0
        self._depth = DepthComparison()
        self._confidence: list[list[float]] = []

    def _is_first_round(self, stamp: int) -> bool:
        return not self._period or stamp < self._first + self._period

    def read(self, results: Path, progress: Progress = lambda done, of: None) -> None:
        with Bag(results) as bag:
            present = {topic.name for topic in bag.topics if topic.count}
            topics = {
                name.removeprefix(f"/{CAMERA}/"): _InOrder(bag, name, self._place)
                for name in RESULT_IMAGES
                if name in present
            }
            self._maps = {n: MapComparison(_UNITS.get(n, "of 255")) for n in topics}
            for stamp, frame in self._sent_frames():
                number = self._place[stamp]
                found = {name: topic.at(number) for name, topic in topics.items()}
                live = {
                    name: decode_image(*image_arguments(own.decode()))
                    for name, own in found.items()
                    if own is not None
                }
                if live:
                    del self._outcomes[stamp]
                    self._add(stamp, frame, live)
                progress(number + 1, len(self._place))

    def _sent_frames(self) -> Iterator[tuple[int, RecordedFrame]]:
        """Yield stamp and frame of the images that were sent, again for every loop."""
        last, shift, count = max(self._place, default=0), 0, -1
        while count and self._first + shift <= last:
            count = 0
            for frame in self._frames():
                stamp = frame.stamp + shift
                if stamp > last:
                    break
                if stamp in self._place:
                    count += 1
                    yield stamp, frame
            if not self._period:
                return
            shift += self._period

    def _frames(self) -> Iterator[RecordedFrame]:
        if isinstance(self._recording, BagRecording) and self._calibration is not None:
            frames = RecordedFrames(self._recording, self._calibration)
            yield from frames.starting_at(self._first)
            return
        for message in self._recording.messages():
            if message.topic == self._recording.topics.image.name:
                with suppress(BagError):  # the node has counted it
                    rgb, camera = decode_picture(message), self._recording.camera or None
                    fitted = camera and camera.fitted(rgb.shape[1], rgb.shape[0])
                    yield RecordedFrame(message.stamp, rgb, fitted)

    def _add(self, stamp: int, frame: RecordedFrame, live: Mapping[str, np.ndarray]) -> None:
        seconds, error = self._seconds(stamp), None
        if CONFIDENCE in live:
            self._confidence.append([seconds, float(live[CONFIDENCE].mean()) / 255])
        self._compare(stamp, frame, live)
        if frame.depth is not None and DEPTH in live:
            of_frame = depth_error(live[DEPTH], frame.depth)
            self._depth.add(stamp, of_frame)
            error = of_frame.abs_err
        if self._is_first_round(stamp):
            self.album.add(
                self._shown,
                error,
                lambda: SheetRow(
                    f"{seconds:.2f} s",
                    frame.rgb,
                    live.get(IDS),
                    live.get(DEPTH),
                    _unit_vectors(live[NORMALS]) if NORMALS in live else None,
                    frame.depth,
                ),
            )
            self._shown += 1

    def _compare(self, stamp: int, frame: RecordedFrame, live: Mapping[str, np.ndarray]) -> None:
        prediction = self._predictor.predict(frame.rgb, frame.camera)
        equal = [
            self._maps[topic.name].add(
                live[topic.name],
                topic.make(prediction.maps, frame.rgb, self._settings)
                if topic.make
                else prediction.maps[topic.needs[0]],
                topic.name == IDS,
            )
            for topic in result_topics()
            if topic.name in live and topic.encoding
        ]
        if not all(equal):
            self._different.append(stamp)

    def _seconds(self, stamp: int) -> float:
        return round((stamp - self._first) / 1e9, 6)

    def figures(self) -> dict[str, Any]:
        """Return all figures, ready for JSON; frames are told by their time in the run."""
        calibration = self._calibration
        frames = max((one.frames for one in self._maps.values()), default=0)
        missing = {
            stamp: RESULT_LOST if outcome == PROCESSED else outcome
            for stamp, outcome in sorted(self._outcomes.items())
        }
        live = {
            "sent": self._sent,
            "compared": frames,
            "equal": frames - len(self._different),
            "maps": {name: asdict(one) for name, one in self._maps.items()},
            "different_at_s": [self._seconds(stamp) for stamp in self._different],
            "without_result": dict(Counter(missing.values())),
            "without_result_at_s": [[self._seconds(at), cause] for at, cause in missing.items()],
        }
        return {
            "live_and_offline": live,
            "confidence_by_s": self._confidence,
            "depth": self._depth.figures() if self._depth.scales else None,
            "registration": "" if calibration is None else calibration.registration,
            "notes": [*self._recording.notes, *(calibration.notes if calibration else ())],
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
        return self._next[1] if self._next and self._next[0] == number else None


def _unit_vectors(colours: np.ndarray) -> np.ndarray:
    """Return float32[H, W, 3] normals from their recorded colours, (0, 0, 0) where invalid."""
    normals = (colours.astype(np.float32) - 128.0) * np.array([1, -1, -1], np.float32) / 127.5
    normals[~colours.any(axis=-1)] = 0
    return normals
