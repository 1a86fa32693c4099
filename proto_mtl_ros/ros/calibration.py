# SPDX-License-Identifier: Apache-2.0
"""What the camera_info of a camera is worth for the images that come with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from proto_mtl_ros.errors import one_line
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros import messages

_TURNS_WITHIN = 5.0
"""Seconds within which a calibration that comes back has taken turns with another."""

_REMEMBERED = 8
"""Calibrations that are remembered, to see that one comes back."""


@dataclass(frozen=True)
class _Received:
    """A camera_info and what follows from it alone; `kind` is what it is counted by."""

    message: CameraInfo
    identity: tuple[object, ...]
    kind: str
    camera: Camera | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Fitted:
    """What a camera_info is worth for images of one size.

    Attributes:
        state: one line.
        trouble: cause and text of what is not in order.
    """

    camera: Camera | None
    info: CameraInfo | None
    state: str
    trouble: tuple[str, str] | None = None


class Calibration:
    """The newest camera_info, and the camera that follows from it.

    `receive` and `reset` belong to the executor's thread, `camera_for` to the worker.

    Attributes:
        image_size: of the last image, such as "640x480"; "" before one.
    """

    def __init__(
        self,
        rectified: bool,
        count: Callable[[str], None],
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is received yet.

        Args:
            rectified: the images are rectified, so P holds.
            count: called with "calibrated", "uncalibrated" or "bad" for each message.
            report: called with cause and text of what is wrong.
            clock: seconds of a steady clock.
        """
        self.image_size = ""
        self._rectified = rectified
        self._count = count
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._received: _Received | None = None
        self._fitted: _Fitted | None = None
        self._fitted_from: _Received | None = None
        self._fitted_to = ""
        self._last_seen: dict[tuple[object, ...], float] = {}
        self._returns: deque[float] = deque(maxlen=2)

    @property
    def state(self) -> str:
        """One line for /diagnostics: "missing", "received", "calibrated" or what is wrong."""
        fitted, received = self._fitted, self._received
        if fitted is not None:
            return fitted.state
        return "missing" if received is None else "received"

    @property
    def trouble(self) -> tuple[str, str] | None:
        """Cause and text of what the newest images lack; None while all is well."""
        if not self.image_size:
            return None
        fitted, received = self._fitted, self._received
        if fitted is not None:
            return fitted.trouble
        if received is None:
            return "camera_info_missing", "depth is for the model's canonical camera"
        return None

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._clear()
            self.image_size = ""

    def receive(self, message: CameraInfo) -> None:
        """Keep a message; what it is worth for an image shows with the next one."""
        identity = _identity(message)
        received = self._received
        changed = received is None or received.identity != identity
        if received is None or changed:
            former, received = received, self._read(message, identity)
            with self._lock:
                self._received = received
            self._watch_turns(former, received)
        self._last_seen[identity] = self._clock()
        self._count(received.kind)
        if received.problem:
            self._report("bad_camera_info", received.problem)

    def _read(self, message: CameraInfo, identity: tuple[object, ...]) -> _Received:
        try:
            camera = messages.read_camera(message, self._rectified)
        except ValueError as error:
            return _Received(message, identity, "bad", problem=one_line(error))
        kind = "calibrated" if camera is not None else "uncalibrated"
        return _Received(message, identity, kind, camera)

    def _watch_turns(self, former: _Received | None, new: _Received) -> None:
        """Tell of two that take turns. One that changes on and on is a zoom lens at work."""
        now, seen = self._clock(), self._last_seen
        if former is not None and now - seen.get(new.identity, -_TURNS_WITHIN) < _TURNS_WITHIN:
            self._returns.append(now)
            if len(self._returns) == 2 and now - self._returns[0] < _TURNS_WITHIN:
                texts = sorted(_describe(one.message) for one in (former, new))
                self._report("camera_info_contradictory", f"{' and '.join(texts)} take turns")
        while len(seen) >= _REMEMBERED:
            del seen[min(seen, key=lambda identity: seen[identity])]

    def camera_for(self, width: int, height: int) -> tuple[Camera | None, CameraInfo | None]:
        """Camera of an image of this size, and a camera_info of this size; None where unknown."""
        size = f"{width}x{height}"
        with self._lock:
            received = self._received
            former, self.image_size = self.image_size, size
        if former not in ("", size):
            self._report("resolution_changed", f"images were {former} and are {size} now")
        if received is None:
            return None, None
        # camera_info arrives with every frame and hardly ever changes: keep the ray table.
        fitted = self._fitted
        if fitted is None or self._fitted_from is not received or self._fitted_to != size:
            fitted = _fit(received, width, height)
            with self._lock:
                if self._received is received:  # neither replaced nor reset meanwhile
                    self._fitted, self._fitted_from, self._fitted_to = fitted, received, size
            if fitted.trouble is not None and fitted.trouble[0] == "camera_info_size":
                self._report(*fitted.trouble)
        return fitted.camera, fitted.info


def _identity(info: CameraInfo) -> tuple[object, ...]:
    """All that a calibration is made from; bytes, as a NaN is not equal to itself."""
    roi = info.roi
    return (
        (info.width, info.height, info.binning_x, info.binning_y, info.distortion_model),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(values.tobytes() for values in (info.k, info.d, info.p)),
    )


def _describe(info: CameraInfo) -> str:
    return f"{info.width}x{info.height} with fx {info.k[0]:g}"


def _fit(received: _Received, width: int, height: int) -> _Fitted:
    info, camera = received.message, received.camera
    canonical = "depth is for the model's canonical camera"
    if received.problem:
        trouble = "bad_camera_info", f"{received.problem}: {canonical}"
        return _Fitted(None, None, f"unusable ({received.problem})", trouble)
    if camera is None:
        fitting = info if (info.width, info.height) == (width, height) else None
        trouble = "camera_info_uncalibrated", f"K[0] = 0: {canonical}"
        return _Fitted(None, fitting, "uncalibrated (K[0] = 0)", trouble)
    if (camera.width, camera.height) == (width, height):
        return _Fitted(camera, info, "calibrated")
    of = f"camera_info is for {camera.width}x{camera.height}, images are {width}x{height}"
    fitted = camera.fitted(width, height)
    if fitted is not None:
        scaled = messages.scaled_info(info, info.header, fitted)
        return _Fitted(fitted, scaled, f"{of}: scaled", ("camera_info_scaled", of))
    return _Fitted(None, None, f"{of}: not used", ("camera_info_size", f"{of}: {canonical}"))
