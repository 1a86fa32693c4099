# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine: takes the newest frames, infers, publishes."""

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
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros import messages
from proto_mtl_ros.ros.camera import CameraPort, Frame
from proto_mtl_ros.ros.results import ResultPublisher, needs
from proto_mtl_ros.ros.topics import OUTPUTS
from proto_mtl_ros.runtime.predictor import Prediction, Predictor

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


class Worker:
    """Processes the cameras' newest frames, the one served longest ago first.

    values: gives the current parameters. logger: the node's.
    """

    def __init__(
        self, predictor: Predictor, values: Callable[[], dict[str, Any]], logger: Any
    ) -> None:
        self.inferences = 0
        """Images that went through the network."""
        self.holds = False
        """Whether frames are left out until a better engine is there."""
        self._ports: list[CameraPort] = []
        self._values = values
        self._logger = logger
        self._condition = threading.Condition()
        self._running = self._busy = self._stop = False
        self._predictor = predictor
        self._next_predictor: Predictor | None = None
        self._publisher = ResultPublisher(predictor.bundle.palette)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def predictor(self) -> Predictor:
        """The model in use, or the one that is about to be."""
        return self._next_predictor or self._predictor

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

    def pause(self, timeout: float = 30.0) -> bool:
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

    def stop(self, timeout: float = 30.0) -> bool:
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

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
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
                    self._publisher = ResultPublisher(new.bundle.palette)
                self._busy = self._running
            if new is not None:
                self._close(old)
            if self._busy:
                self._serve()
        self._close(self._predictor)
        if self._next_predictor is not None:
            self._close(self._next_predictor)

    def _close(self, predictor: Predictor) -> None:
        try:
            predictor.close()
        except Exception as error:
            self._logger.error(f"closing the engine failed: {error}")

    def _serve(self) -> None:
        """Take and process the frames of up to max_batch cameras."""
        values = self._values()
        jobs: list[_Job] = []
        for port in list(self._ports):
            if len(jobs) >= values["max_batch"]:
                break
            frame = port.take()
            if frame is None:
                continue
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
        try:
            predictions = self._predict(jobs, values)
        except Exception as error:
            for job in jobs:
                self._fail(job.port, job.frame, error)
            return
        for job, prediction in zip(jobs, predictions, strict=True):
            try:
                self._finish(job, prediction, values)
            except Exception as error:
                self._fail(job.port, job.frame, error)

    def _prepare(self, port: CameraPort, frame: Frame, values: dict[str, Any]) -> _Job | None:
        """Decode a frame that somebody wants results of."""
        if not values["enabled"]:
            port.skip(frame.message, "disabled")
            return None
        if self.holds:
            port.skip(frame.message, "engine_building")
            return None
        wanted = set(_ALL) if values["force_inference"] else port.wanted()
        if not wanted:
            port.skip(frame.message, "no_subscribers")
            return None
        start = time.monotonic()
        message = frame.message
        try:
            rgb = (
                messages.read_compressed(message)
                if isinstance(message, CompressedImage)
                else messages.read_image(message)
            )
        except EncodingError as error:
            port.report_bad(message, error.cause, str(error))
            return None
        camera, info = port.calibration.camera_for(rgb.shape[1], rgb.shape[0])
        latencies = {
            "wait": 1e3 * (start - frame.received),
            "decode": 1e3 * (time.monotonic() - start),
        }
        return _Job(port, frame, wanted, needs(wanted), rgb, camera, info, latencies)

    def _predict(self, jobs: list[_Job], values: dict[str, Any]) -> list[Prediction]:
        """Run the network once for all jobs."""
        self._predictor.confidence_threshold = values["confidence_threshold"] / 255.0
        predictions = self._predictor.predict_batch(
            [job.rgb for job in jobs], [job.camera for job in jobs], [job.needs for job in jobs]
        )
        self.inferences += len(jobs)
        return predictions

    def _finish(self, job: _Job, prediction: Prediction, values: dict[str, Any]) -> None:
        start = time.monotonic()
        self._publisher.publish(
            job.port, job.frame.message.header, job.rgb, prediction, job.info, job.wanted, values
        )
        end = time.monotonic()
        job.port.finish(
            job.frame.message,
            job.latencies
            | prediction.timings
            | {"publish": 1e3 * (end - start), "total": 1e3 * (end - job.frame.received)},
        )

    def _fail(self, port: CameraPort, frame: Frame, error: Exception) -> None:
        """The engine or our own code failed on a frame: say so, go on with the next."""
        port.fail(frame.message, f"{type(error).__name__}: {error}")
