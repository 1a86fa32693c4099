# SPDX-License-Identifier: Apache-2.0
"""A model run over a recording, frame by frame, and what each frame's results are worth.

Every image takes the way it takes in the node. Records lie in a file of lines as they come, so a
pass that was stopped goes on where it was, with the same figures as one that was not.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.frame_stream import (
    FrameStream,
    StreamFrame,
)
from proto_mtl_ros.data.bags.recording import (
    BagRecording,
    DepthFrame,
    decode_picture,
    image_arguments,
)
from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.encodings import (
    EncodingError,
    decode_image,
)
from proto_mtl_ros.errors import (
    BagError,
    DataError,
)
from proto_mtl_ros.evaluation.bag_figures import bag_figures
from proto_mtl_ros.evaluation.bag_frame import (
    Measured,
    frame_record,
)
from proto_mtl_ros.evaluation.stability import (
    FrameStability,
    Stability,
)
from proto_mtl_ros.files import (
    named,
    write_text,
)
from proto_mtl_ros.geometry import (
    Camera,
    resize,
)
from proto_mtl_ros.geometry.registration import register_depth
from proto_mtl_ros.runtime.predictor import (
    Prediction,
    Predictor,
    Prepared,
)

_AHEAD = 3
"""Frames that may wait for their figures while the network runs on the next."""


@dataclass(frozen=True)
class PassOptions:
    """What a recording is compared with, and how.

    Attributes:
        labels_topic: images of class ids, None for none.
        tolerance: seconds between an image and what it is compared with, at most.
        every: take one image of so many.
        registered: depth pixels are those of the image, although their frames have other names.
        transform: 4x4 from the depth camera's frame to the image's, None for unknown.
        part: stretch of the recording, from and to, as parts of its duration.
        depth_scale: predicted depth is multiplied by it.
    """

    labels_topic: str | None = None
    tolerance: float = 0.02
    every: int = 1
    registered: bool = False
    transform: tuple[tuple[float, ...], ...] | None = None
    part: tuple[float, float] = (0.0, 1.0)
    depth_scale: float = 1.0


class BagPass:
    """Runs a model over a recording.

    Attributes:
        registration: how depth was brought to the image: "same camera", "extrinsics", or "none"
            (compare tolerant figures), "" without depth.
        stream: the frames.
    """

    def __init__(
        self,
        recording: BagRecording,
        predictor: Predictor,
        camera: Camera | None,
        depth_camera: Camera | None = None,
        options: PassOptions | None = None,
    ) -> None:
        """Read the stamps of the recording.

        Args:
            recording: with an image topic.
            predictor: of the model.
            camera: of the images, None when it is unknown.
            depth_camera: of the depth images where they are not those of ``camera``; needed to
                register them.
            options: see ``PassOptions``.

        Raises:
            DataError: extrinsics are given, and a camera that they need is missing.
        """
        self.options = options or PassOptions()
        self._recording, self._predictor = recording, predictor
        self._camera, self._depth_camera = camera, depth_camera
        depth = recording.topics.depth
        self._depth_topic = depth.name if depth else None
        partners = [name for name in (self._depth_topic, self.options.labels_topic) if name]
        self.stream = FrameStream(recording, partners, self.options.tolerance)
        self.registration = "" if depth is None else self._how_registered()
        self._classes = predictor.bundle.classes

    def _how_registered(self) -> str:
        if self.options.registered:
            return "same camera"
        if self.options.transform is not None:
            if self._camera is None or self._depth_camera is None:
                raise DataError("extrinsics need the camera_info of the images and of the depth")
            return "extrinsics"
        same = self._recording.depth_frame() == self._recording.image_frame()
        return "same camera" if same else "none"

    def key(self) -> str:
        """Return what must be the same for a stopped pass to go on, as text."""
        manifest = self._predictor.bundle.manifest
        content = {
            "recording": str(self._recording.path.resolve()),
            "images": len(self.stream),
            "topics": asdict(self._recording.topics),
            "model": manifest.files,
            "engine": self._predictor.engine.choice,
            "input_size": list(self._predictor.input_size),
            "camera": None if self._camera is None else self._camera.K.tolist(),
            "options": asdict(self.options),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def run(
        self, records: Path, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> int:
        """Write the records of all frames and return how many there are.

        Args:
            records: file of one JSON object a line, the first one the key. If it holds some records
                of the same pass, these stay.
            progress: called with the frames done, and of how many.

        Raises:
            DataError: the file is of another pass.
            BagError: there is no image that can be used.
        OSError: the file cannot be written; the records before stay.
        """
        with named(records):
            return self._run(records, progress)

    def _run(self, records: Path, progress: Callable[[int, int], None]) -> int:
        done = self._begun(records)
        start, end = self.options.part
        total = round((end - start) * len(self.stream) / self.options.every)
        stability = Stability()
        with records.open("a", encoding="utf-8") as file, ThreadPoolExecutor(1) as figures:
            waiting: deque[Future[str]] = deque()

            def write() -> None:
                file.write(waiting.popleft().result() + "\n")
                file.flush()

            count = max(0, done - 1)  # that one again, for the stability of the next
            for frame, rgb, prepared in self._prepared(count):
                count += 1
                (inferred,) = self._predictor.run([prepared])
                if count == done:
                    prediction = self._finish(inferred)
                    stability.add(rgb, prediction.get("segmentation"), prediction.get("depth"))
                    continue
                waiting.append(figures.submit(self._record, frame, rgb, inferred, stability))
                if len(waiting) > _AHEAD:
                    write()
                progress(count, max(count, total))
            while waiting:
                write()
        if not count:
            raise BagError(f"{self._recording.path} has no image that can be used")
        return count

    def figures(
        self, records: Path, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> dict[str, Any]:
        """Run, see ``run``, and return the figures of all frames, see ``bag_figures``."""
        self.run(records, progress)
        return bag_figures(read_records(records), self._classes)

    def rows(self, places: Collection[int]) -> dict[int, SheetRow]:
        """Return what to show of the frames at these places (from 0), by running them again."""
        wanted = set(places)
        found: dict[int, SheetRow] = {}
        first: int | None = None
        for place, frame in enumerate(self._frames()):
            first = frame.stamp if first is None else first
            if place in wanted:
                rgb = decode_picture(frame.image)
                prediction = self._predict(rgb)
                measured = self._measured(frame, rgb.shape[:2])
                found[place] = SheetRow(
                    f"{(frame.stamp - first) / 1e9:.2f} s",
                    rgb,
                    prediction.get("segmentation"),
                    prediction.get("depth"),
                    prediction.get("normals"),
                    measured.depth,
                )
        return found

    def _begun(self, records: Path) -> int:
        """Return how many records there are, after taking away what was half written."""
        key = json.dumps({"key": self.key()})
        if not records.exists():
            write_text(records, key + "\n")
            return 0
        content = records.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if not lines or lines[0].decode(errors="replace") != key:
            raise DataError(
                f"{records} is of another model, recording or setting: give another --out, or"
                " delete it"
            )
        if whole != content:
            with records.open("r+b") as file:
                file.truncate(len(whole))
        return len(lines) - 1

    def _frames(self) -> Iterator[StreamFrame]:
        first, last = self.stream.span
        # in whole nanoseconds: as floats, stamps of this century are hundreds of them apart
        start, end = (first + round(part * (last - first)) for part in self.options.part)
        for number, frame in enumerate(self.stream):
            if number % self.options.every == 0 and start <= frame.stamp <= end:
                yield frame

    def _prepared(self, skip: int) -> Iterator[tuple[StreamFrame, np.ndarray, Prepared]]:
        """Yield all frames but the first ones, their pictures, and these prepared ahead."""

        def prepare(frame: StreamFrame) -> tuple[StreamFrame, np.ndarray, Prepared]:
            rgb = decode_picture(frame.image)
            return frame, rgb, self._predictor.prepare(rgb, self._fitted(rgb))

        with ThreadPoolExecutor(1) as preparing:
            ahead: deque[Future[tuple[StreamFrame, np.ndarray, Prepared]]] = deque()
            for frame in islice(self._frames(), skip, None):
                ahead.append(preparing.submit(prepare, frame))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _fitted(self, rgb: np.ndarray) -> Camera | None:
        height, width = rgb.shape[:2]
        return None if self._camera is None else self._camera.fitted(width, height)

    def _predict(self, rgb: np.ndarray) -> Prediction:
        (inferred,) = self._predictor.run([self._predictor.prepare(rgb, self._fitted(rgb))])
        return self._finish(inferred)

    def _finish(self, inferred: Prepared) -> Prediction:
        prediction = self._predictor.finish(inferred)
        if "depth" in prediction and self.options.depth_scale != 1.0:
            scaled = prediction["depth"] * np.float32(self.options.depth_scale)
            prediction = replace(prediction, maps={**prediction, "depth": scaled})
        return prediction

    def _record(
        self, frame: StreamFrame, rgb: np.ndarray, inferred: Prepared, stability: Stability
    ) -> str:
        prediction = self._finish(inferred)
        steady: FrameStability | None = stability.add(
            rgb, prediction.get("segmentation"), prediction.get("depth")
        )
        measured = self._measured(frame, rgb.shape[:2])
        record = frame_record(frame.stamp, prediction, measured, steady, self._classes)
        return json.dumps(record, allow_nan=False)

    def _measured(self, frame: StreamFrame, shape: tuple[int, ...]) -> Measured:
        height, width = shape[:2]
        depth = labels = None
        message = frame.partners.get(self._depth_topic or "")
        if message is not None:
            depth, _ = DepthFrame(message.stamp, message).decode()
            if self.registration == "extrinsics":
                assert self._camera is not None and self._depth_camera is not None
                depth = register_depth(
                    depth,
                    self._depth_camera.resized(depth.shape[1], depth.shape[0]),
                    self._camera.resized(width, height),
                    np.array(self.options.transform),
                )
            depth = resize(depth, width, height, "nearest")
        message = frame.partners.get(self.options.labels_topic or "")
        if message is not None:
            labels = resize(_ids(message), width, height, "nearest")
        return Measured(depth, self.registration != "none", labels)


def _ids(message: BagMessage) -> np.ndarray:
    """Return class ids uint8 [H, W] of an Image message."""
    try:
        ids = decode_image(*image_arguments(message.decode()))
    except EncodingError as error:
        raise BagError(f"{message.topic} cannot be decoded: {error}") from None
    if ids.dtype != np.uint8 or ids.ndim != 2:
        raise BagError(f"{message.topic} has no class ids: they are mono8 or 8UC1")
    return ids


def read_records(records: Path) -> Iterator[dict[str, Any]]:
    """Yield the records that a pass has written."""
    with records.open(encoding="utf-8") as file:
        next(file, None)
        for line in file:
            yield json.loads(line)
