# SPDX-License-Identifier: Apache-2.0
"""Which camera holds and where depth pixels belong: decided once, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proto_mtl_ros.data.bags.calibration import Calibration, is_rectified, recorded_transform
from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import DataError
from recordings import COLOUR_FRAME, DEPTH_FRAME, START, image_message, info_message, write_messages

FX = 60.0


def transforms(*edges: tuple[str, str, tuple[float, float, float], float]) -> Any:
    """Return a TFMessage of (parent, child, translation, w of the rotation)."""
    types = typestore().types
    stated = [
        types["geometry_msgs/msg/TransformStamped"](
            types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), parent),
            child,
            types["geometry_msgs/msg/Transform"](
                types["geometry_msgs/msg/Vector3"](*moved),
                types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, w),
            ),
        )
        for parent, child, moved, w in edges
    ]
    return types["tf2_msgs/msg/TFMessage"](stated)


def write(
    path: Path, tf: Any = None, frame: str = DEPTH_FRAME, infos: tuple[str, ...] = ("c", "d")
) -> Path:
    """Write a wall at 2 m, seen by a colour and a depth camera."""
    rgb = np.full((48, 64, 3), 90, np.uint8)
    wall = np.full((48, 64), 2000, np.uint16)
    wall[:, 32:] = 4000
    messages = [
        ("/c/image_rect", START, image_message(rgb, "rgb8", START)),
        ("/d/image", START, image_message(wall, "16UC1", START, frame)),
        *((f"/{name}/camera_info", START, info_message(64, 48, FX, START)) for name in infos),
    ]
    return write_messages(path, messages + ([("/tf_static", START, tf)] if tf else []))


BASE = (
    ("base", "/mast", (0.0, 0.0, 1.0), 1.0),
    ("mast", COLOUR_FRAME, (0.1, 0.0, 0.0), 1.0),
    ("mast", DEPTH_FRAME, (0.0, 0.0, 0.0), 1.0),
    ("mast", "broken", (0.0, 0.0, 0.0), 0.0),  # a rotation of length zero
)


def test_depth_comes_to_the_image_by_the_transforms_of_the_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", transforms(*BASE))
    with BagRecording(path) as recording:
        found = Calibration.of(recording)
        assert found.registration == "extrinsics" and found.transform is not None
        np.testing.assert_allclose(found.transform[:3, 3], [-0.1, 0, 0])
        assert f"brought from {DEPTH_FRAME} to {COLOUR_FRAME} by /tf_static" in found.notes[1]
        assert "(P, the images are rectified)" in found.notes[0]
        assert recorded_transform(recording, "broken", COLOUR_FRAME) is None
        assert recorded_transform(recording, "base", "nowhere") is None
        moved = Calibration.of(recording, extrinsics=np.eye(4))
        assert moved.registration == "extrinsics" and "by the extrinsics" in moved.notes[1]
        assert Calibration.of(recording, registered=True).registration == "same camera"
    frames = BagFrames(path)
    depth = frames[0].labels["depth"]
    # 0.1 m to the side are 3 pixels at 2 m, and the edge has moved by so much
    assert (depth[10:40, 2:27] == 2).all() and (depth[10:40, 34:58] == 4).all()
    frames.close()


@pytest.mark.parametrize(
    ("options", "registration", "said"),
    [
        ({"frame": COLOUR_FRAME}, "same camera", f"both are in {COLOUR_FRAME}"),
        ({}, "none", "right away from edges alone"),
        ({"tf": transforms(*BASE[:2])}, "none", "right away from edges alone"),
        ({"tf": transforms(*BASE), "infos": ("c",)}, "none", "right away from edges alone"),
        ({"infos": ("d",)}, "none", "no camera_info beside /c/image_rect"),
    ],
    ids=["one frame", "no transforms", "no way", "no depth camera", "no camera"],
)
def test_what_a_recording_does_not_say_is_not_made_up(
    options: dict[str, Any], registration: str, said: str, tmp_path: Path
) -> None:
    with BagRecording(write(tmp_path / "bag", **options)) as recording:
        found = Calibration.of(recording)
        assert found.registration == registration
        assert any(said in note for note in found.notes)
        if "infos" in options:
            with pytest.raises(DataError, match="extrinsics need the camera_info"):
                Calibration.of(recording, extrinsics=np.eye(4))


def test_rectified_is_a_word_of_the_topic() -> None:
    topics = {
        "/camera/image_rect_color": True,
        "/camera/image_rect": True,
        "/rectified/image": True,
        "/indirect_light_cam/image_raw": False,
        "/rectangle/image": False,
    }
    assert {topic: is_rectified(topic) for topic in topics} == topics
