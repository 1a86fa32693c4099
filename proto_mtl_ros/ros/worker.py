# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine: takes the newest frames, infers, publishes.

A thread inside a backend's native code cannot be ended. One that does not return is left behind:
its frames are counted, another worker takes over the cameras, and if it does return it publishes
nothing any more, closes its engine and ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage

from proto_mtl_ros.encodings import EncodingError
from proto_mtl_ros.errors import (
    EngineError,
    ProtoMtlError,
    one_line,
)
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros import messages
from proto_mtl_ros.ros.camera import (
    CameraPort,
    Frame,
)
from proto_mtl_ros.ros.heap import return_freed_memory
from proto_mtl_ros.ros.input_choice import smaller_predictor
from proto_mtl_ros.ros.results import (
    ResultPublisher,
    needs,
)
from proto_mtl_ros.ros.topics import OUTPUTS
from proto_mtl_ros.runtime.map_check import description
from proto_mtl_ros.runtime.predictor import (
    Prediction,
    Predictor,
)

THREAD = "engine"
"""Name of the workers' threads."""

_ALL = frozenset(output.name for output in OUTPUTS)


@dataclass
class _Job:
    """A frame on its way through the worker; `latencies` are milliseconds by stage."""

    port: CameraPort
    frame: Frame
    wanted: set[str]
    needs: frozenset[str]
    rgb: npt.NDArray[np.uint8]
    camera: Camera | None
    info: CameraInfo | None
    latencies: dict[str, float]


@dataclass(frozen=True)
class Failures:
    """Failures of the engine one after the other, with no success between them.

    count: how many. since: steady time of the first. text: of the newest, one line.
    """

    count: int = 0
    since: float = 0.0
    text: str = ""


class Worker:
    """Processes the cameras' newest frames, the one served longest ago first.

    predictor: None while there is no engine; `holds` then says why frames are left out.
    values: gives the current parameters. logger: the node's.
    """

    def __init__(
        self, predictor: Predictor | None, values: Callable[[], dict[str, Any]], logger: Any
    ) -> None:
        self.inferences = 0
        """Images that went through the network."""
        self.holds = ""
        """The cause by which frames are left out, empty when they are processed."""
        self.failures = Failures()
        """Of the engine, since it last worked."""
        self.stage = "waiting"
        """What the thread is at, one word."""
        self.round = 0
        """Counts the times that frames were taken."""
        self.busy_seconds = 0.0
        """Spent on frames so far."""
        self.small = False
        """Whether the network shall be run at a smaller input; False again if it cannot be."""
        self.small_problem = ""
        """Why it cannot be."""
        self._ports: list[CameraPort] = []
        self._values = values
        self._logger = logger
        self._condition = threading.Condition()
        self._running = self._busy = self._stop = self._given_up = False
        self._in_work: dict[int, tuple[CameraPort, Frame]] = {}
        self._predictor = predictor
        self._next_predictor: Predictor | None = None
        self._smaller: Predictor | None = None
        self._publisher = _publisher(predictor)
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)

    @property
    def predictor(self) -> Predictor | None:
        """The model in use, or the one that is about to be."""
        return self._next_predictor or (self._smaller if self.small else None) or self._predictor

    @property
    def busy(self) -> bool:
        """Whether frames are in work."""
        return self._busy

    def start(self, ports: list[CameraPort]) -> None:
        """Start the thread, paused."""
        self._ports = list(ports)
        self._thread.start()

    def wake(self) -> None:
        """A frame has come."""
        with self._condition:
            self._condition.notify_all()

    def resume(self) -> None:
        """Process frames from now on."""
        with self._condition:
            self._running = True
            self._condition.notify_all()

    def pause(self, timeout: float) -> bool:
        """Process no more frames; returns once the current one is done (False: it is not)."""
        with self._condition:
            self._running = False
            self._condition.notify_all()
            return self._condition.wait_for(lambda: not self._busy, timeout)

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
        """Leave the thread to itself; it publishes and counts nothing from now on.

        cause: by which the frames in its work are counted as dropped.

        Returns a model that it was about to use, which now belongs to the caller.
        """
        with self._condition:
            self._stop = self._given_up = True
            self._running = False
            lost, self._in_work = list(self._in_work.values()), {}
            unused, self._next_predictor = self._next_predictor, None
            self._condition.notify_all()
        for port, frame in lost:
            port.renew_messages()
            port.drop(frame.message, cause)
        return unused

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self.stage = "waiting"
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: (
                        self._stop
                        or self._next_predictor is not None
                        or (self._running and any(port.waiting for port in self._ports))
                    )
                )
                if self._stop:
                    break
                new, self._next_predictor = self._next_predictor, None
                if new is not None:
                    old, self._predictor = self._predictor, new
                    self._publisher = _publisher(new)
                    self._smaller = None
                    self.small, self.small_problem = False, ""
                    self.failures = Failures()
                self._busy = self._running
                self.round += 1
            if new is not None:
                self.stage = "closing the old engine"
                self._close(old)
            if self._busy:
                begin = time.monotonic()
                self._serve()
                self.busy_seconds += time.monotonic() - begin
        self._close(self._predictor)
        self._close(self._next_predictor)

    def _close(self, predictor: Predictor | None) -> None:
        try:
            if predictor is not None:
                predictor.close()
        except Exception as error:
            self._logger.error(f"closing the engine failed: {error}")
        return_freed_memory()

    def _serve(self) -> None:
        """Take and process the frames of up to max_batch cameras."""
        values = self._values()
        jobs: list[_Job] = []
        self.stage = "decode"
        for port in list(self._ports):
            if len(jobs) >= values["max_batch"]:
                break
            frame = port.take()
            if frame is None:
                continue
            with self._condition:
                self._in_work[id(frame)] = port, frame
            self._ports.remove(port)  # to the end of the line
            self._ports.append(port)
            try:
                job = self._prepare(port, frame, values)
            except Exception as error:
                self._fail(port, frame, error)
                continue
            if job is not None:
                jobs.append(job)
        if not jobs:
            return
        self.stage = "inference"
        try:
            predictions = self._predict(jobs, values)
        except Exception as error:
            before = self.failures
            since = before.since if before.count else time.monotonic()
            self.failures = Failures(before.count + 1, since, one_line(error))
            for job in jobs:
                self._fail(job.port, job.frame, error)
            return
        self.failures = Failures()
        self.stage = "publishing"
        for job, prediction in zip(jobs, predictions, strict=True):
            if self._given_up:
                return
            try:
                self._finish(job, prediction, values)
            except Exception as error:
                self._fail(job.port, job.frame, error)

    def _done(self, frame: Frame, count: Callable[[], None]) -> None:
        """Count what became of a frame, but for one that was counted when it was given up."""
        with self._condition:
            ours = self._in_work.pop(id(frame), None) is not None
        if ours:
            count()

    def _prepare(self, port: CameraPort, frame: Frame, values: dict[str, Any]) -> _Job | None:
        """Decode a frame that somebody wants results of."""
        message = frame.message
        wanted = set(_ALL) if values["force_inference"] else port.wanted()
        unwanted = "disabled" if not values["enabled"] else "" if wanted else "no_subscribers"
        if unwanted:
            self._done(frame, lambda: port.skip(message, unwanted))
            return None
        if self.holds:
            cause = self.holds
            self._done(frame, lambda: port.drop(message, cause))
            return None
        start = time.monotonic()
        try:
            rgb = (
                messages.read_compressed(message)
                if isinstance(message, CompressedImage)
                else messages.read_image(message)
            )
        except EncodingError as error:
            cause, text = error.cause, str(error)
            self._done(frame, lambda: port.report_bad(message, cause, text))
            return None
        camera, info = port.calibration.camera_for(rgb.shape[1], rgb.shape[0])
        latencies = {
            "wait": 1e3 * (start - frame.received),
            "decode": 1e3 * (time.monotonic() - start),
        }
        return _Job(port, frame, wanted, needs(wanted), rgb, camera, info, latencies)

    def _predict(self, jobs: list[_Job], values: dict[str, Any]) -> list[Prediction]:
        """Run the network once for all jobs."""
        predictor = self._predictor
        assert predictor is not None  # else it holds
        if self.small:
            predictor = self._small_predictor(predictor)
        predictor.confidence_threshold = values["confidence_threshold"] / 255.0
        predictions = predictor.predict_batch(
            [job.rgb for job in jobs], [job.camera for job in jobs], [job.needs for job in jobs]
        )
        self.inferences += len(jobs)
        return predictions

    def _small_predictor(self, whole: Predictor) -> Predictor:
        """The same engine at the smaller input, or `whole` where it takes no other size."""
        if self._smaller is None:
            try:
                self._smaller = smaller_predictor(whole)
            except EngineError as error:
                self.small, self.small_problem = False, one_line(error)
                return whole
        return self._smaller

    def _finish(self, job: _Job, prediction: Prediction, values: dict[str, Any]) -> None:
        start = time.monotonic()
        assert self._publisher is not None  # as there was a prediction
        self._publisher.publish(
            job.port, job.frame.message.header, job.rgb, prediction, job.info, job.wanted, values
        )
        end = time.monotonic()
        latencies = (
            job.latencies
            | prediction.timings
            | {"publish": 1e3 * (end - start), "total": 1e3 * (end - job.frame.received)}
        )
        self._done(job.frame, lambda: job.port.finish(job.frame.message, latencies))
        for cause, share in prediction.invalid.items():
            job.port.report_info(cause, description(cause, share))

    def _fail(self, port: CameraPort, frame: Frame, error: Exception) -> None:
        """The engine or our own code failed on a frame: say so, go on with the next."""
        kind = "" if isinstance(error, ProtoMtlError) else f"{type(error).__name__}: "
        text = kind + one_line(error)
        self._done(frame, lambda: port.fail(frame.message, text))


def _publisher(predictor: Predictor | None) -> ResultPublisher | None:
    return None if predictor is None else ResultPublisher(predictor.bundle.palette)
