# SPDX-License-Identifier: Apache-2.0
"""What the camera_info of a camera is worth for the images that come with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros import messages


class Calibration:
    """The newest camera_info, and the camera that follows from it.

    `receive` and `reset` belong to the executor's thread, `camera_for` to the worker.

    Attributes:
        state: one line for /diagnostics: "missing", "received", "calibrated" or what is wrong.
        image_size: of the last image, such as "640x480"; "" before one.
    """

    def __init__(self, rectified: bool, report: Callable[[str, str], None]) -> None:
        """Nothing is received yet.

        Args:
            rectified: the images are rectified, so P holds.
            report: called with cause and text of what is wrong.
        """
        self.state = "missing"
        self.image_size = ""
        self._rectified = rectified
        self._report = report
        self._lock = threading.Lock()
        self._info: CameraInfo | None = None
        self._info_key = ""
        self._known: tuple[Camera | None, CameraInfo | None] = None, None

    @property
    def has_camera(self) -> bool:
        """Whether the last images had a camera."""
        return self._known[0] is not None

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._info, self._info_key = None, ""
            self._known = None, None
            self.state = "missing"
            self.image_size = ""

    def receive(self, message: CameraInfo) -> None:
        """Keep a message; what it is worth shows with the next image."""
        with self._lock:
            self._info = message
            if self.state == "missing":
                self.state = "received"

    def camera_for(self, width: int, height: int) -> tuple[Camera | None, CameraInfo | None]:
        """Camera of an image of this size, and a camera_info of this size; None where unknown."""
        size = f"{width}x{height}"
        with self._lock:
            info = self._info
            former, self.image_size = self.image_size, size
        if former not in ("", size):
            self._report("resolution_changed", f"images were {former} and are {size} now")
        if info is None:
            return None, None
        # camera_info arrives with every frame and hardly ever changes: keep the ray table.
        roi = info.roi
        key = (
            width,
            height,
            info.width,
            info.height,
            tuple(info.k),
            tuple(info.d),
            tuple(info.p),
            info.distortion_model,
            info.binning_x,
            info.binning_y,
            roi.x_offset,
            roi.y_offset,
            roi.width,
            roi.height,
        )
        if repr(key) != self._info_key:  # repr: a NaN is not equal to itself
            camera, fitting, calibration = self._calibrate(info, width, height)
            with self._lock:
                if self._info is not info:  # replaced or reset meanwhile: say nothing about it
                    return camera, fitting
                self._info_key, self.state = repr(key), calibration
                self._known = camera, fitting
        return self._known

    def _calibrate(
        self, info: CameraInfo, width: int, height: int
    ) -> tuple[Camera | None, CameraInfo | None, str]:
        try:
            camera = messages.read_camera(info, self._rectified)
        except ValueError as error:
            self._report("bad_camera_info", f"camera_info: {error}")
            return None, None, f"unusable ({error})"
        if camera is None:
            fitting = info if (info.width, info.height) == (width, height) else None
            return None, fitting, "uncalibrated (K[0] = 0)"
        if (camera.width, camera.height) == (width, height):
            return camera, info, "calibrated"
        of = f"camera_info is for {camera.width}x{camera.height}, images are {width}x{height}"
        fitted = camera.fitted(width, height)
        if fitted is not None:
            return fitted, messages.scaled_info(info, info.header, fitted), f"{of}: scaled"
        self._report("camera_info_size", of)
        return None, None, f"{of}: not used"
