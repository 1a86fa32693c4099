# SPDX-License-Identifier: Apache-2.0
"""From a camera's messages to what the network takes: pixels of an image, and its camera."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from proto_mtl_ros.encodings import EncodingError, decode_compressed, to_rgb
from proto_mtl_ros.errors import one_line
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros.messages import scaled_info

try:
    from cv_bridge import CvBridge
except ImportError:  # optional: only for encodings that this package does not know
    CvBridge = None

_TURNS_WITHIN = 5.0
"""Seconds within which a calibration that comes back has taken turns with another."""

_REMEMBERED = 8  # calibrations that are remembered, to see that one comes back

_NO_PIXELS: Any = partial(np.empty, (0, 0, 3), np.uint8)

_CANONICAL = "depth is for the model's canonical camera"


@dataclass(eq=False)
class Frame:
    """An image on its way through the node."""

    message: Image | CompressedImage
    received: float  # steady time of its arrival
    topics: frozenset[str] = frozenset()  # results that it is wanted for
    maps: frozenset[str] = frozenset()  # maps of the network that these are made from
    outcome: str = ""  # empty while it is on its way
    rgb: npt.NDArray[np.uint8] = field(default_factory=_NO_PIXELS)  # [H, W, 3], once decoded
    camera: Camera | None = None
    info: CameraInfo | None = None  # of its size
    latencies: dict[str, float] = field(default_factory=dict)  # milliseconds by stage


def read_image(message: Image | CompressedImage, max_pixels: int) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of an image message; a view of it where the encoding allows.

    Raises EncodingError, whose `cause` names what is wrong.
    """
    data = np.frombuffer(message.data, np.uint8)
    if isinstance(message, CompressedImage):
        return decode_compressed(message.format, data, max_pixels)
    size = message.height, message.width, message.step
    if message.height * message.width > max_pixels:
        text = f"image of {message.width}x{message.height} is above {max_pixels} pixels"
        raise EncodingError("too_large", text)
    try:
        return to_rgb(message.encoding, *size, bool(message.is_bigendian), data)
    except EncodingError as error:
        if error.cause != "unknown_encoding" or CvBridge is None:
            raise
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # whatever it raises, the message is at fault
        raise EncodingError("unknown_encoding", f"cv_bridge: {error}") from error


def read_camera(
    message: CameraInfo, rectified: bool, size: tuple[int, int] = (0, 0)
) -> Camera | None:
    """Camera of a camera_info, None when it is uncalibrated; one without a size has ``size``.

    Raises ValueError when its numbers cannot be a camera.
    """
    roi = message.roi
    return Camera.from_info(
        height=message.height or size[1],
        width=message.width or size[0],
        K=message.k.tolist(),
        D=list(message.d),
        P=message.p.tolist(),
        distortion_model=message.distortion_model,
        binning_x=message.binning_x,
        binning_y=message.binning_y,
        roi=(roi.x_offset, roi.y_offset, roi.height, roi.width),
        rectified=rectified,
    )


@dataclass(frozen=True)
class _Received:
    """A camera_info and what follows from it alone."""

    message: CameraInfo
    identity: tuple[object, ...]
    camera: Camera | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Fitted:
    """What a camera_info is worth for images of one size."""

    received: _Received
    size: str
    state: str
    camera: Camera | None = None
    info: CameraInfo | None = None
    finding: tuple[str, str] | None = None  # cause and text of what is not in order


class Decoder:
    """Decodes the images of one camera, beside its newest camera_info.

    `receive` and `reset` belong to the executor's thread, `decode` to the worker.
    report: called with cause and text of what is wrong with a message.
    """

    def __init__(self, rectified: bool, report: Callable[[str, str], None]) -> None:
        self.image_size = ""  # of the last image, such as "640x480"
        self._rectified, self._report = rectified, report
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._clear()

    def _clear(self) -> None:
        self._received: _Received | None = None
        self._fitted: _Fitted | None = None
        self._last_seen: dict[tuple[object, ...], float] = {}
        self._returns: deque[float] = deque(maxlen=2)

    def values(self) -> dict[str, str]:
        fitted = self._fitted
        state = "missing" if self._received is None else "received"
        values = {f"camera_info.{kind}": str(n) for kind, n in sorted(self._counts.items())}
        return values | {
            "camera_info.received": str(self._counts.total()),
            "camera_info": state if fitted is None else fitted.state,
            "image_size": self.image_size,
        }

    @property
    def finding(self) -> tuple[str, str] | None:
        """Cause and text of what the newest images lack; None while all is well."""
        if not self.image_size:
            return None
        if self._fitted is not None:
            return self._fitted.finding
        return ("camera_info_missing", _CANONICAL) if self._received is None else None

    @property
    def informed(self) -> bool:
        """Whether a camera_info has come."""
        return self._received is not None

    def reset(self) -> None:
        with self._lock:
            self._clear()
            self.image_size = ""

    def receive(self, message: CameraInfo) -> None:
        """Keep a camera_info; what it is worth for an image shows with the next one."""
        identity = _identity(message)
        received = self._received
        if received is None or received.identity != identity:
            former, received = received, self._read(message, identity)
            with self._lock:
                self._received = received
            self._watch_turns(former, received)
        self._last_seen[identity] = time.monotonic()
        if received.problem:
            self._counts["bad"] += 1
            self._report("bad_camera_info", received.problem)
        else:
            self._counts["uncalibrated" if received.camera is None else "calibrated"] += 1

    def _read(
        self, message: CameraInfo, identity: tuple[object, ...], size: tuple[int, int] = (1, 1)
    ) -> _Received:
        try:
            return _Received(message, identity, read_camera(message, self._rectified, size))
        except ValueError as error:
            return _Received(message, identity, problem=one_line(error))

    def _watch_turns(self, former: _Received | None, new: _Received) -> None:
        """Tell of two calibrations that take turns. One that changes on and on is a zoom lens."""
        now, seen = time.monotonic(), self._last_seen
        if former is not None and now - seen.get(new.identity, -_TURNS_WITHIN) < _TURNS_WITHIN:
            self._returns.append(now)
            if len(self._returns) == 2 and now - self._returns[0] < _TURNS_WITHIN:
                texts = sorted(
                    f"{m.width}x{m.height} with fx {m.k[0]:g}"
                    for m in (former.message, new.message)
                )
                self._report("camera_info_contradictory", f"{' and '.join(texts)} take turns")
        while len(seen) >= _REMEMBERED:
            del seen[min(seen, key=lambda identity: seen[identity])]

    def decode(self, frame: Frame, max_pixels: int) -> None:
        """Give a frame its pixels and their camera.

        Raises EncodingError, whose `cause` names what is wrong with the message.
        """
        frame.rgb = read_image(frame.message, max_pixels)
        height, width = frame.rgb.shape[:2]
        size = f"{width}x{height}"
        with self._lock:
            received = self._received
            former, self.image_size = self.image_size, size
        if former not in ("", size):
            self._report("resolution_changed", f"images were {former} and are {size} now")
        if received is None:
            return
        # camera_info comes with every frame and hardly ever changes: keep the ray table.
        fitted = self._fitted
        if fitted is None or fitted.received is not received or fitted.size != size:
            known = received
            if not (received.message.width and received.message.height):
                known = self._read(received.message, received.identity, (width, height))
            fitted = replace(_fit(known, width, height, size), received=received)
            with self._lock:
                if self._received is received:  # neither replaced nor reset meanwhile
                    self._fitted = fitted
            if fitted.finding is not None and fitted.finding[0] == "camera_info_size":
                self._report(*fitted.finding)
        frame.camera, frame.info = fitted.camera, fitted.info


def _identity(info: CameraInfo) -> tuple[object, ...]:
    """All that a calibration is made from; bytes, as a NaN is not equal to itself."""
    roi = info.roi
    return (
        (info.width, info.height, info.binning_x, info.binning_y, info.distortion_model),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(values.tobytes() for values in (info.k, info.d, info.p)),
    )


def _fit(received: _Received, width: int, height: int, size: str) -> _Fitted:
    info, camera = received.message, received.camera

    def found(state: str, cause: str, text: str, **more: Any) -> _Fitted:
        return _Fitted(received, size, state, finding=(cause, text), **more)

    if received.problem:
        text = f"{received.problem}: {_CANONICAL}"
        return found(f"unusable ({received.problem})", "bad_camera_info", text)
    if camera is None:
        fitting = info if (info.width, info.height) == (width, height) else None
        text = f"K[0] = 0: {_CANONICAL}"
        state = "uncalibrated (K[0] = 0)"
        return found(state, "camera_info_uncalibrated", text, info=fitting)
    if (camera.width, camera.height) == (width, height):
        if camera.approximate:
            state, text = f"approximate ({camera.approximate})", f"a pinhole: {camera.approximate}"
            return found(state, "bad_camera_info", text, camera=camera, info=info)
        return _Fitted(received, size, "calibrated", camera, info)
    of = f"camera_info is for {camera.width}x{camera.height}, images are {size}"
    fitted = camera.fitted(width, height)
    if fitted is None:
        return found(f"{of}: not used", "camera_info_size", f"{of}: {_CANONICAL}")
    scaled = scaled_info(info, info.header, fitted)
    return found(f"{of}: scaled", "camera_info_scaled", of, camera=fitted, info=scaled)
