# SPDX-License-Identifier: Apache-2.0
"""The recording that ships: complete, small, and geometrically exact."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals

ROOM = Path(__file__).resolve().parents[2] / "recordings" / "room"
COLOR = "/camera/color/image_raw/compressed"
COLOR_INFO = "/camera/color/camera_info"
DEPTH = "/camera/depth/image_rect_raw"
DEPTH_INFO = "/camera/depth/camera_info"
LABELS = "/camera/segmentation/image"
NORMALS = "/camera/normals/image"
TOPICS = (COLOR, COLOR_INFO, DEPTH, DEPTH_INFO, LABELS, NORMALS)
CEILING, FLOOR, WALL = 2, 4, 11
UP = np.array([0.0, -1.0, 0.0])


@dataclass
class Room:
    """Everything in the recording that is small, and every tenth frame decoded."""

    stamps: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    log_times: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    frame_ids: set[str] = field(default_factory=set)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)
    depth_range: tuple[float, float] = (np.inf, -np.inf)
    holes: int = 0
    frames: list[dict[str, Any]] = field(default_factory=list)


def pixels(message: Any, dtype: Any, channels: int) -> np.ndarray:
    shape = (message.height, message.width, channels)
    return np.frombuffer(message.data.tobytes(), dtype).reshape(shape).squeeze()


@pytest.fixture(scope="module")
def room() -> Room:
    store = get_typestore(Stores.ROS2_HUMBLE)
    found = Room()
    counts: dict[str, int] = defaultdict(int)
    with Reader(ROOM) as reader:
        for connection, log_time, raw in reader.messages():
            message: Any = store.deserialize_cdr(raw, connection.msgtype)
            topic, index = connection.topic, counts[connection.topic]
            counts[topic] += 1
            stamp = message.header.stamp
            found.stamps[topic].append(stamp.sec * 10**9 + stamp.nanosec)
            found.log_times[topic].append(log_time)
            found.frame_ids.add(message.header.frame_id)
            value: Any = message
            if topic == COLOR:
                if index % 10 == 0:
                    value = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
                    found.sizes.add(value.shape[:2])
            else:
                found.sizes.add((message.height, message.width))
            if topic == DEPTH:
                assert message.encoding == "16UC1"
                value = pixels(message, np.uint16, 1)
                low, high = found.depth_range
                found.depth_range = (min(low, value.min()), max(high, value.max()))
                found.holes += int((value == 0).sum())
            elif topic == LABELS:
                assert message.encoding == "mono8"
                value = pixels(message, np.uint8, 1)
                found.classes |= set(np.unique(value).tolist())
            elif topic == NORMALS:
                assert message.encoding == "8SC3"
                value = pixels(message, np.int8, 3).astype(np.float32)
                value = value / np.linalg.norm(value, axis=2, keepdims=True)
            if index % 10 == 0:
                if len(found.frames) <= index // 10:
                    found.frames.append({})
                found.frames[index // 10][topic] = value
    return found


def camera_of(info: Any) -> Camera:
    camera = Camera.from_info(
        info.height, info.width, info.k, info.d, info.p, info.distortion_model
    )
    assert camera is not None
    return camera


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors."""
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def inside(mask: np.ndarray, margin: int = 21) -> np.ndarray:
    """The part of a region at least half ``margin`` pixels away from everything else."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.erode(padded, np.ones((margin, margin), np.uint8))[1:-1, 1:-1] > 0


def test_it_is_small_and_credits_its_sources() -> None:
    assert sum(path.stat().st_size for path in ROOM.iterdir()) < 12e6
    credits = (ROOM / "CREDITS.md").read_text(encoding="utf-8")
    for word in ("CC BY 3.0", "CC0", "Scopia", "Kator", "Sweet Home 3D"):
        assert word in credits


def test_every_frame_has_every_topic_at_one_stamp(room: Room) -> None:
    assert set(room.stamps) == set(TOPICS)
    stamps = room.stamps[COLOR]
    assert 60 <= len(stamps) <= 120
    assert all(room.stamps[topic] == stamps for topic in TOPICS)
    assert all(room.log_times[topic] == stamps for topic in TOPICS)
    steps = np.diff(stamps)
    assert (steps > 0).all() and np.ptp(steps) < 1e6, "an even rate"
    assert room.frame_ids == {"camera_color_optical_frame"}
    assert room.sizes == {(480, 640)}


def test_camera_is_calibrated_and_depth_registered_to_colour(room: Room) -> None:
    for frame in room.frames:
        color, depth = frame[COLOR_INFO], frame[DEPTH_INFO]
        np.testing.assert_array_equal(color.k, depth.k)
        np.testing.assert_array_equal(color.p.reshape(3, 4)[:, :3].reshape(-1), color.k)
        assert color.k[0] == color.k[4] > 400
        assert (color.k[2], color.k[5]) == (319.5, 239.5)
        assert not color.d.any()


def test_depth_is_that_of_a_room_without_holes(room: Room) -> None:
    low, high = room.depth_range
    assert room.holes == 0
    assert low > 500 and high < 9000, "millimetres"


def test_labels_are_nyu_classes_and_many_of_them(room: Room) -> None:
    assert room.classes <= set(range(13)) | {255}
    assert len(room.classes - {255}) >= 10
    for frame in room.frames:
        assert (frame[LABELS] != 255).mean() > 0.99


def test_colour_looks_like_a_photograph(room: Room) -> None:
    for frame in room.frames:
        grey = cv2.cvtColor(frame[COLOR], cv2.COLOR_BGR2GRAY)
        assert 60 < grey.mean() < 180, "exposed"
        assert (grey < 3).mean() < 0.05 and (grey > 252).mean() < 0.10
        # Edges of colour lie on edges of the labels: image and labels share the camera.
        edges = cv2.dilate(cv2.Canny(grey, 60, 120), np.ones((3, 3), np.uint8)) > 0
        labels = frame[LABELS]
        border = np.zeros(labels.shape, bool)
        border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        assert edges[border].mean() > 2 * edges.mean()


def test_floor_points_up_and_ceiling_down(room: Room) -> None:
    seen = 0
    for frame in room.frames:
        for label, expected in ((FLOOR, UP), (CEILING, -UP)):
            region = inside(frame[LABELS] == label)
            if region.sum() < 500:
                continue
            seen += 1
            off = angle(frame[NORMALS][region], expected.astype(np.float32))
            # The camera is pitched and rolled by a hand, so up is only near -y.
            assert np.median(off) < 8
    assert seen >= 4


def test_normals_agree_with_the_depth_on_planes(room: Room) -> None:
    for frame in room.frames:
        depth = frame[DEPTH].astype(np.float32) / 1000
        camera = camera_of(frame[DEPTH_INFO])
        computed = depth_to_normals(depth, camera)
        flat = inside(np.isin(frame[LABELS], (CEILING, WALL))) & (computed != 0).any(2)
        assert flat.sum() > 5000
        off = angle(computed, frame[NORMALS])[flat]
        assert np.median(off) < 0.6
        assert np.percentile(off, 95) < 3.0


def test_normals_face_the_camera(room: Room) -> None:
    for frame in room.frames:
        rays = camera_of(frame[DEPTH_INFO]).rays()
        facing = (frame[NORMALS] * rays).sum(-1)
        assert (facing < 0.02).all(), "but for the rounding to eight bits"


def test_the_same_wall_is_at_one_place_in_every_frame(room: Room) -> None:
    """The ceiling's height above the floor, measured in each frame, is that of one room."""
    heights = []
    for frame in room.frames:
        depth = frame[DEPTH].astype(np.float64) / 1000
        points = camera_of(frame[DEPTH_INFO]).rays() * depth[..., None]
        ceiling = inside(frame[LABELS] == CEILING)
        floor = (frame[LABELS] == FLOOR) & (angle(frame[NORMALS], UP.astype(np.float32)) < 15)
        if ceiling.sum() < 500 or floor.sum() < 2000:
            continue
        down = -frame[NORMALS][inside(floor)].astype(np.float64).mean(0)
        down /= np.linalg.norm(down)
        heights.append(np.median(points[floor] @ down) - np.median(points[ceiling] @ down))
    assert len(heights) >= 2
    assert all(abs(height - 2.6) < 0.05 for height in heights)
