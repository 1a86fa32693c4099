# SPDX-License-Identifier: Apache-2.0
"""Small ROS 1 bags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

OLD = get_typestore(Stores.ROS1_NOETIC)


def ros1_header() -> Any:
    time = OLD.types["builtin_interfaces/msg/Time"](sec=5, nanosec=7)
    return OLD.types["std_msgs/msg/Header"](seq=3, stamp=time, frame_id="cam")


def ros1_image(pixels: np.ndarray) -> Any:
    return OLD.types["sensor_msgs/msg/Image"](
        ros1_header(), 40, 60, "rgb8", 0, 180, pixels.reshape(-1)
    )


def write_ros1(path: Path, messages: list[tuple[str, Any]], types: Any = OLD) -> Path:
    with Writer(path) as writer:
        for topic, message in messages:
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 9, bytes(types.serialize_ros1(message, kind)))
    return path
