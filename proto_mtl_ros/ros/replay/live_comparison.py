# SPDX-License-Identifier: Apache-2.0
"""A live run held against an offline pass over the same images: are the values equal?

And of every image that has no result: what became of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from proto_mtl_ros import drawing
from proto_mtl_ros.data.bags.bag import (
    Bag,
    BagMessage,
)
from proto_mtl_ros.data.bags.calibration import recorded_camera
from proto_mtl_ros.data.bags.recording import (
    BagRecording,
    Recording,
    decode_picture,
    image_arguments,
)
from proto_mtl_ros.encodings import decode_image
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros.outcomes import PROCESSED
from proto_mtl_ros.ros.replay.session import (
    CAMERA,
    ReplayLogs,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import (
    Prediction,
    Predictor,
)
from proto_mtl_ros.tasks.depth import out_of_range

LOST = "lost_in_transport"
"""Fate of an image that was sent and never reached the node."""

RESULT_LOST = "result_not_recorded"
"""Fate of an image that the node processed and of which no result was recorded."""


@dataclass
class MapComparison:
    """One kind of result, live against offline.

    Attributes:
        frames: compared.
        equal: frames of which every value is the same.
        largest: largest difference of a value; for class ids the largest share of other ids.
    """

    frames: int = 0
    equal: int = 0
    largest: float = 0.0

    def add(self, live: np.ndarray, offline: np.ndarray, ids: bool) -> bool:
        """Compare a frame and return whether it is equal; NaN is equal to NaN."""
        self.frames += 1
        if live.shape != offline.shape:
            self.largest = float("inf")
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
        self.largest = max(self.largest, difference)
        return False


@dataclass
class LiveComparison:
    """What a live run and an offline pass have in common.

    Attributes:
        maps: by result topic without the camera.
        confidence: stamp (ns) -> mean confidence of the classes, 0..1.
        different: stamps (ns) of the images of which some map is not equal.
        fates: stamp (ns) -> what became of an image without a whole set of results.
        sent: images that were sent.
        first: stamp (ns) of the first of them.
    """

    maps: dict[str, MapComparison] = field(default_factory=dict)
    confidence: dict[int, float] = field(default_factory=dict)
    different: list[int] = field(default_factory=list)
    fates: dict[int, str] = field(default_factory=dict)
    sent: int = 0
    first: int = 0

    def figures(self) -> dict[str, Any]:
        """Return all figures, ready for JSON; frames are told by their time in the run."""
        frames = max((one.frames for one in self.maps.values()), default=0)

        def seconds(stamp: int) -> float:
            return round((stamp - self.first) / 1e9, 6)

        return {
            "sent": self.sent,
            "compared": frames,
            "equal": frames - len(self.different),
            "maps": {
                name: {**vars(one), "largest": one.largest if np.isfinite(one.largest) else None}
                for name, one in self.maps.items()
            },
            "different_at_s": [seconds(stamp) for stamp in self.different],
            "confidence_by_s": [
                [seconds(stamp), value] for stamp, value in self.confidence.items()
            ],
            "without_result": dict(Counter(self.fates.values())),
            "without_result_at_s": [
                [seconds(stamp), fate] for stamp, fate in sorted(self.fates.items())
            ],
        }


def compare_live(
    recording: Recording,
    results: Path,
    logs: ReplayLogs,
    bundle: Bundle,
    parameters: Mapping[str, str],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> LiveComparison:
    """Run the images of a replay through the predictor again and compare with what was recorded.

    The engine is of the same backend, precision and threads as the node's, its camera the one that
    the recording's camera_info gives.

    Args:
        recording: what was played.
        results: rosbag2 of the results.
        logs: of the replay.
        bundle: the node's model.
        parameters: of the node, by name, in YAML spelling.
        progress: called with the images done, and of how many.
    """
    values = {name: yaml.safe_load(value) for name, value in parameters.items()}
    sent = next(iter(logs.sent.stamps.values()), [])
    found = LiveComparison(sent=len(sent), first=min(sent, default=0))
    camera = _camera(recording, bool(values.get("rectified", False)))
    predictor = _predictor(bundle, logs.status, values)
    place = {stamp: number for number, stamp in enumerate(sent)}
    known: set[int] = set()
    with Bag(results) as bag:
        courses = {
            name: _Course(bag, f"/{CAMERA}/{name}", place)
            for name in _MAPS
            if any(t.name == f"/{CAMERA}/{name}" and t.count for t in bag.topics)
        }
        found.maps = {name: MapComparison() for name in courses}
        for number, message in enumerate(_sent_images(recording, sent, logs.sent.notes)):
            here = {name: course.at(number) for name, course in courses.items()}
            live = {name: own for name, own in here.items() if own is not None}
            progress(number + 1, len(sent))
            if not live:
                continue
            known.add(sent[number])
            rgb = decode_picture(message)
            height, width = rgb.shape[:2]
            prediction = predictor.predict(rgb, camera and camera.fitted(width, height))
            if "confidence" in prediction:
                found.confidence[sent[number]] = float(prediction["confidence"].mean()) / 255
            equal = [
                found.maps[name].add(_pixels(own), _MAPS[name](prediction, values), name in _IDS)
                for name, own in live.items()
            ]
            if not all(equal):
                found.different.append(sent[number])
    predictor.close()
    for stamp in sent:
        if stamp not in known:
            fate = logs.fates.get(stamp, LOST)
            found.fates[stamp] = RESULT_LOST if fate == PROCESSED else fate
    return found


class _Course:
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


def _sent_images(
    recording: Recording, sent: list[int], notes: Mapping[str, float]
) -> Iterator[BagMessage]:
    """Yield the images as they were sent, from the first one on, again for every loop."""
    topic = recording.topics.image.name
    period = int(notes.get("period_ns", 0))
    number = shift = 0
    while number < len(sent):
        before = number
        for message in recording.messages():
            if message.topic != topic or number >= len(sent):
                continue
            if message.stamp + shift == sent[number]:
                number += 1
                yield message
        if number == before:
            return
        shift += period


def _camera(recording: Recording, rectified: bool) -> Camera | None:
    if not isinstance(recording, BagRecording):
        return None
    return recorded_camera(recording, recording.topics.camera_info, rectified)


def _predictor(
    bundle: Bundle, status: Mapping[str, Mapping[str, str]], values: Mapping[str, Any]
) -> Predictor:
    engine = next((own for name, own in status.items() if name.endswith(": engine")), {})
    size = values.get("input_size", [0, 0])
    input_size = (int(size[0]), int(size[1])) if size[0] else None
    return Predictor(
        bundle,
        create_engine(
            bundle,
            engine.get("backend", "auto"),
            engine.get("device", "auto"),
            int(values.get("threads", 0)),
            precision=engine.get("precision", "auto"),
            input_size=input_size,
        ),
        input_size,
        values.get("output_size", "input"),
        values.get("confidence_threshold", 0) / 255,
    )


def _depth(prediction: Prediction, values: Mapping[str, Any]) -> Any:
    assert "depth" in prediction
    near, far = values.get("min_depth", 0.0), values.get("max_depth", 0.0)
    return out_of_range(prediction["depth"], near, far)


def _normals(prediction: Prediction, _: Mapping[str, Any]) -> Any:
    assert "normals" in prediction
    return drawing.draw_normals(prediction["normals"])


_MAPS: dict[str, Callable[[Prediction, Mapping[str, Any]], Any]] = {
    "segmentation/image": lambda prediction, _: prediction["segmentation"],
    "segmentation/confidence": lambda prediction, _: prediction["confidence"],
    "depth/image": _depth,
    "normals/color": _normals,
}
"""Result topic -> the pixels that the node makes of a prediction."""

_IDS = ("segmentation/image",)


def _pixels(message: BagMessage) -> np.ndarray:
    return decode_image(*image_arguments(message.decode()))
