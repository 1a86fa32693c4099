# SPDX-License-Identifier: Apache-2.0
"""The camera that a recording's camera_info describes."""

from __future__ import annotations

from proto_mtl_ros.data.recording import BagRecording
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera


def recorded_camera(
    recording: BagRecording, info_topic: str, rectified: bool = False
) -> Camera | None:
    """Return the camera of the first camera_info of a topic; None if uncalibrated or not there.

    Raises:
        DataError: its numbers cannot be a camera.
    """
    info = next((m.decode() for m in recording.messages_of([info_topic])), None)
    if info is None:
        return None
    roi = info.roi
    try:
        return Camera.from_info(
            info.height,
            info.width,
            info.k,
            info.d,
            info.p,
            info.distortion_model,
            info.binning_x,
            info.binning_y,
            (roi.x_offset, roi.y_offset, roi.height, roi.width),
            rectified,
        )
    except ValueError as error:
        raise DataError(f"{info_topic} of {recording.path} cannot be used: {error}") from None
