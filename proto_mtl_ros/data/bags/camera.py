# SPDX-License-Identifier: Apache-2.0
"""The camera that a recording's camera_info describes."""

from __future__ import annotations

from proto_mtl_ros.data.bags.bag import Topic
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera


def recorded_camera(
    recording: BagRecording, topic: Topic | None, rectified: bool = False
) -> Camera | None:
    """Return the camera of the first camera_info of a topic; None if uncalibrated or not there.

    Args:
        topic: of camera_info, None where the recording has none.
        rectified: the images are rectified, so P holds.

    Raises:
        DataError: its numbers cannot be a camera.
    """
    if topic is None:
        return None
    info = next((m.decode() for m in recording.messages_of([topic.name])), None)
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
        raise DataError(f"{topic.name} of {recording.path} cannot be used: {error}") from None
