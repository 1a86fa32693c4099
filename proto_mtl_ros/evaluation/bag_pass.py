# SPDX-License-Identifier: Apache-2.0
"""A model run over a recording, frame by frame, and what each frame's results are worth.

Every image takes the way it takes in the node, and the recording is read once. Records lie in a
file of lines as they come, so a pass that was stopped goes on where it was, with the same figures
as one that was not.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recorded_frames import RecordedFrame, RecordedFrames
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.errors import BagError, DataError
from proto_mtl_ros.evaluation.bag_figures import FrameRecord, bag_figures, frame_record
from proto_mtl_ros.evaluation.frame_album import FrameAlbum
from proto_mtl_ros.evaluation.stability import Stability
from proto_mtl_ros.files import named, write_text
from proto_mtl_ros.runtime.predictor import Prediction, Predictor, Prepared

_AHEAD = 3
"""Frames that may wait for their figures while the network runs on the next."""

_RECORD = TypeAdapter(FrameRecord)

In = TypeVar("In")
Out = TypeVar("Out")
Progress = Callable[[int, int], None]
"""Called with the frames done, and of how many."""


@dataclass(frozen=True)
class PassOptions:
    """What a recording is compared with, and how.

    ``labels_topic`` has images of class ids. ``every``: take one image of so many. ``part``:
    stretch of the recording, from and to, as parts of its duration. Predicted depth is multiplied
    by ``depth_scale``.
    """

    labels_topic: str | None = None
    every: int = 1
    part: tuple[float, float] = (0.0, 1.0)
    depth_scale: float = 1.0


class BagPass:
    """Runs a model over a recording; what was left out of its ``frames`` is known after a run."""

    def __init__(
        self,
        recording: BagRecording,
        predictor: Predictor,
        calibration: Calibration,
        options: PassOptions | None = None,
    ) -> None:
        self.options = options or PassOptions()
        self._recording, self._predictor, self._calibration = recording, predictor, calibration
        labels, every, part = self.options.labels_topic, self.options.every, self.options.part
        self.frames = RecordedFrames(recording, calibration, labels, every=every, part=part)
        tasks = predictor.bundle.manifest.tasks
        self._album = FrameAlbum(0)
        self._stamps: list[int] = []
        self._by_depth = recording.topics.depth is not None and "depth" in tasks

    def key(self) -> str:
        """Return what must be the same for a stopped pass to go on, as text."""
        calibration = self._calibration
        content = {
            "recording": str(self._recording.path.resolve()),
            "topics": asdict(self._recording.topics),
            "model": self._predictor.bundle.manifest.files,
            "engine": self._predictor.engine.choice,
            "input_size": list(self._predictor.input_size),
            "camera": None if calibration.camera is None else calibration.camera.K.tolist(),
            "calibration": calibration.notes,
            "options": asdict(self.options),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def run(self, records: Path, progress: Progress = lambda done, of: None) -> int:
        """Write the records of all frames and return how many there are.

        ``records`` is a file of one JSON object a line, the first one the key; those of the same
        pass that it holds stay. Raises DataError when it is of another pass, BagError when there is
        no image that can be used, OSError when it cannot be written; the records before stay.
        """
        with named(records):
            return self._run(records, progress)

    def figures(self, records: Path, progress: Progress = lambda done, of: None) -> dict[str, Any]:
        """Run, see ``run``, and return the figures of all frames, see ``bag_figures``."""
        count = self.run(records, progress)
        figures = bag_figures(read_records(records), self._predictor.bundle.classes)
        return {**figures, "damaged": self.frames.passed - count}

    def rows(self) -> dict[str, list[SheetRow]]:
        """Return the frames to show after a run, see ``FrameAlbum.chosen``.

        Best and worst are those of the least and largest depth error; where there is no depth to
        compare with, those of the highest and lowest confidence.
        """
        return self._album.chosen(self._row_again)

    def _run(self, records: Path, progress: Progress) -> int:
        self._album, self._stamps = FrameAlbum(len(self.frames)), []
        for place, record in enumerate(self._begun(records)):
            self._stamps.append(record.stamp)
            self._album.add(place, self._error(record))
        stability = Stability()
        frames = self.frames.starting_at(self._stamps[-1] if self._stamps else None)
        with records.open("a", encoding="utf-8") as file:
            if self._stamps:  # that one again, for the stability of the next
                for frame in islice(frames, 1):
                    last = self._predicted(frame)
                    stability.add(frame.rgb, last.get("segmentation"), last.get("depth"))
            prepared = _ahead(self._prepared, frames)
            inferred = ((frame, self._predictor.run([ready])[0]) for frame, ready in prepared)
            for line in _ahead(partial(self._record, stability), inferred):
                file.write(line + "\n")
                file.flush()
                done = len(self._stamps)
                progress(done, max(done, len(self.frames)))
        if not self._stamps:
            raise BagError(f"{self._recording.path} has no image that can be used")
        return len(self._stamps)

    def _begun(self, records: Path) -> list[FrameRecord]:
        """Return the records that there are, after taking away what was half written."""
        key = json.dumps({"key": self.key()})
        if not records.exists():
            write_text(records, key + "\n")
            return []
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
        return list(read_records(records))

    def _prepared(self, frame: RecordedFrame) -> tuple[RecordedFrame, Prepared]:
        return frame, self._predictor.prepare(frame.rgb, frame.camera)

    def _predicted(self, frame: RecordedFrame) -> Prediction:
        _, ready = self._prepared(frame)
        return self._finish(self._predictor.run([ready])[0])

    def _finish(self, inferred: Prepared) -> Prediction:
        prediction = self._predictor.finish(inferred)
        if "depth" in prediction and self.options.depth_scale != 1.0:
            scaled = prediction["depth"] * np.float32(self.options.depth_scale)
            prediction = replace(prediction, maps={**prediction, "depth": scaled})
        return prediction

    def _record(self, stability: Stability, found: tuple[RecordedFrame, Prepared]) -> str:
        frame, inferred = found
        prediction = self._finish(inferred)
        steady = stability.add(frame.rgb, prediction.get("segmentation"), prediction.get("depth"))
        registered = self._calibration.registration != "none"
        classes = self._predictor.bundle.classes
        record = frame_record(frame, prediction, registered, steady, classes)
        row = partial(self._row, frame, prediction)
        self._album.add(len(self._stamps), self._error(record), row)
        self._stamps.append(frame.stamp)
        return _RECORD.dump_json(record).decode()

    def _error(self, record: FrameRecord) -> float | None:
        """Return what the best and the worst frames are told by."""
        if self._by_depth:
            return None if record.depth is None else record.depth.abs_err
        return None if record.confidence is None else -record.confidence

    def _row(self, frame: RecordedFrame, prediction: Prediction) -> SheetRow:
        return SheetRow(
            f"{(frame.stamp - self._stamps[0]) / 1e9:.2f} s" if self._stamps else "0.00 s",
            frame.rgb,
            prediction.get("segmentation"),
            prediction.get("depth"),
            prediction.get("normals"),
            frame.depth,
        )

    def _row_again(self, place: int) -> SheetRow | None:
        """Return a frame that was recorded before this pass went on."""
        if place >= len(self._stamps):
            return None
        frame = self.frames.at(self._stamps[place])
        return self._row(frame, self._predicted(frame))


def _ahead(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield the results of ``work`` in order, done in a thread a few items ahead."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_records(records: Path) -> Iterator[FrameRecord]:
    """Yield the records that a pass has written."""
    with records.open(encoding="utf-8") as file:
        next(file, None)
        for line in file:
            yield _RECORD.validate_json(line)
