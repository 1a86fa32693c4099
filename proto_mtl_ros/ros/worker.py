# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine: takes the newest frames, infers, publishes.

A thread inside a backend's native code cannot be ended. One that does not return is left behind:
its frames are counted, another worker takes over the cameras, and if it does return it publishes
nothing any more, closes its engine and ends.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from proto_mtl_ros.encodings import EncodingError
from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.ros.camera_stream import CameraStream
from proto_mtl_ros.ros.decoding import Frame
from proto_mtl_ros.ros.heap import return_freed_memory
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.runtime.predictor import Prediction, Predictor

THREAD = "engine"  # name of the workers' threads

_CLOSING = "closing the old engine"
_PATIENCE = 4  # times a timeout that a frame may take which is not in the engine

Taken = list[tuple[CameraStream, Frame]]


@dataclass(frozen=True)
class Failures:
    """Failures of the engine one after the other, with no success between them.

    since: steady time of the first. text: of the newest, one line.
    """

    count: int = 0
    since: float = 0.0
    text: str = ""


class Worker:
    """Processes the cameras' newest frames, that of the one served longest ago first.

    predictor: None while there is no engine; `holds` then says why frames are left out.
    waiting: frames that a former worker has not taken.
    """

    def __init__(
        self,
        predictor: Predictor | None,
        parameters: Parameters,
        logger: Any,
        waiting: dict[CameraStream, Frame] | None = None,
    ) -> None:
        self.parameters = parameters  # may be replaced at any time
        self.inferences = self.round = 0  # how many frames, and how often some were taken
        self.holds, self.stage = "", "waiting"
        self.failures = Failures()
        self.waiting = waiting or {}
        self.busy = False
        self._logger = logger
        self._condition = threading.Condition()
        self._running = self._stop = self._given_up = False
        self._in_work: Taken = []
        self._served: dict[CameraStream, int] = {}
        self._adopt(predictor)
        self._next_predictor: Predictor | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)

    @property
    def predictor(self) -> Predictor | None:
        return self._next_predictor or self._predictor

    @property
    def in_engine(self) -> bool:
        """Whether the backend's code is at work: nothing else may run for ever."""
        predictor = self._predictor
        return self.stage == _CLOSING or (predictor is not None and predictor.in_engine)

    def _adopt(self, predictor: Predictor | None) -> None:
        self._predictor = predictor
        self._palette = None if predictor is None else predictor.bundle.palette

    def start(self) -> None:
        self._thread.start()

    def put(self, stream: CameraStream, frame: Frame) -> None:
        """Make this the camera's newest frame; one that waits is overwritten."""
        with self._condition:
            overwritten = self.waiting.get(stream)
            self.waiting[stream] = frame
            self._condition.notify_all()
        if overwritten is not None:
            stream.outcomes.drop(overwritten, "overwritten")

    def withdraw(self, stream: CameraStream) -> Frame | None:
        with self._condition:
            return self.waiting.pop(stream, None)

    def resume(self) -> None:
        with self._condition:
            self._running = True
            self._condition.notify_all()

    def pause(self, timeout: float) -> bool:
        """Process no more frames; False where the engine does not return from the current one."""
        with self._condition:
            self._running = False
            for _ in range(_PATIENCE):
                done = self._condition.wait_for(lambda: not self.busy, timeout)
                if done or self.in_engine:
                    break
            return done

    def swap(self, predictor: Predictor) -> None:
        """Use another model from the next frame on; the old one is closed."""
        with self._condition:
            superseded, self._next_predictor = self._next_predictor, predictor
            self._condition.notify_all()
        if superseded is not None:
            superseded.close()

    def stop(self, timeout: float) -> bool:
        """End the thread, which closes the engine. Returns whether it has ended."""
        if self._thread.ident is None:  # never started: configuring has failed before
            self._close(self._predictor)
            return True
        with self._condition:
            self._stop = True
            self._running = False
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def give_up(self, cause: str) -> Predictor | None:
        """Leave the thread to itself; it publishes nothing more, and its frames are dropped.

        Returns a model that it was about to use, which now belongs to the caller.
        """
        with self._condition:
            self._stop = self._given_up = True
            self._running = False
            unused, self._next_predictor = self._next_predictor, None
            self._condition.notify_all()
            lost, self._in_work = self._in_work, []
        if self._predictor is not None and self.in_engine:
            self._predictor.engine.cancel()  # where it can, its thread comes back and ends
        for stream, frame in lost:
            stream.outcomes.drop(frame, cause)
        return unused

    def _run(self) -> None:
        while True:
            with self._condition:
                self.busy, self.stage = False, "waiting"
                self._in_work = []
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._stop or self._next_predictor or (self._running and self.waiting)
                )
                if self._stop:
                    break
                old, new, self._next_predictor = self._predictor, self._next_predictor, None
                if new is not None:
                    self._adopt(new)
                    self.failures = Failures()
                self.busy = self._running
                self.round += 1
                turn = sorted(self.waiting, key=lambda stream: self._served.get(stream, 0))
                for stream in turn[: self.parameters.max_batch if self.busy else 0]:
                    self._in_work.append((stream, self.waiting.pop(stream)))
                    self._served[stream] = self.round
            if new is not None:
                self.stage = _CLOSING
                self._close(old)
            self._serve(list(self._in_work))
        self._close(self._predictor)
        self._close(self._next_predictor)

    def _close(self, predictor: Predictor | None) -> None:
        try:
            if predictor is not None:
                predictor.close()
        except Exception as error:
            self._logger.error(f"closing the engine failed: {error}")
        return_freed_memory()

    def _serve(self, taken: Taken) -> None:
        self.stage = "decode"
        jobs = [(stream, frame) for stream, frame in taken if self._decode(stream, frame)]
        if not jobs:
            return
        self.stage = "inference"
        try:
            predictions = self._predict([frame for _, frame in jobs])
        except Exception as error:
            if isinstance(error, EngineError):  # else what is before or after the engine
                before = self.failures
                since = before.since if before.count else time.monotonic()
                self.failures = Failures(before.count + 1, since, one_line(error))
            for stream, frame in jobs:
                stream.fail(frame, error)
            return
        self.failures = Failures()
        self.stage = "publishing"
        for (stream, frame), prediction in zip(jobs, predictions, strict=True):
            with self._condition:
                if self._given_up:
                    return
                self._in_work.remove((stream, frame))  # from here on it is not given up
            self._publish(stream, frame, prediction)

    def _decode(self, stream: CameraStream, frame: Frame) -> bool:
        if self.holds:
            stream.outcomes.drop(frame, self.holds)
            return False
        start = time.monotonic()
        try:
            stream.decoder.decode(frame, self.parameters.max_pixels)
        except EncodingError as error:
            stream.refuse(frame, error.cause, str(error))
            return False
        except Exception as error:
            stream.fail(frame, error)
            return False
        frame.latencies["wait"] = 1e3 * (start - frame.received)
        frame.latencies["decode"] = 1e3 * (time.monotonic() - start)
        return True

    def _predict(self, frames: list[Frame]) -> list[Prediction]:
        predictor = self._predictor
        assert predictor is not None  # else it holds
        predictor.confidence_threshold = self.parameters.confidence_threshold / 255.0
        predictions = predictor.predict_batch(
            [frame.rgb for frame in frames],
            [frame.camera for frame in frames],
            [frame.maps for frame in frames],
        )
        self.inferences += len(frames)
        return predictions

    def _publish(self, stream: CameraStream, frame: Frame, prediction: Prediction) -> None:
        start = time.monotonic()
        assert self._palette is not None  # as there was a prediction
        try:
            stream.results.publish(frame, prediction, self._palette, self.parameters)
        except Exception as error:
            stream.fail(frame, error)
            return
        end = time.monotonic()
        frame.latencies |= prediction.timings
        frame.latencies["publish"] = 1e3 * (end - start)
        frame.latencies["total"] = 1e3 * (end - frame.received)
        stream.outcomes.finish(frame)
        for cause, share in prediction.invalid.items():
            text = f"in {100 * share:.3g} % of the network's pixels; published as invalid"
            stream.diagnostics.count(cause, text)
