# SPDX-License-Identifier: Apache-2.0
"""ROS messages <-> arrays."""

from __future__ import annotations

import array
import os
import sys

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from proto_mtl_ros.encodings import EncodingError, encode_compressed
from proto_mtl_ros.geometry import Camera, depth_to_points
from proto_mtl_ros.ros import decoding, messages


def header(sec: int = 7) -> Header:
    return Header(frame_id="camera_optical", stamp=Time(sec=sec, nanosec=5))


@pytest.mark.parametrize("compressed", [False, True])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(compressed: bool) -> None:
    rgb = np.zeros((40, 50, 3), np.uint8)
    message = Image(height=40, width=50, step=150, encoding="rgb8")
    message.data = array.array("B", rgb.tobytes())
    if compressed:
        message = CompressedImage(format="png")
        message.data = array.array("B", encode_compressed(rgb, "png").tobytes())
    assert decoding.read_image(message, 2000).shape == (40, 50, 3)
    with pytest.raises(EncodingError, match="above 1999 pixels") as caught:
        decoding.read_image(message, 1999)
    assert caught.value.cause == "too_large"


def test_an_rgb_image_is_not_copied() -> None:
    message = Image(height=4, width=4, encoding="rgb8", step=12, data=array.array("B", bytes(48)))
    pixels = decoding.read_image(message, 10_000)
    np.frombuffer(message.data, np.uint8)[0] = 9
    assert pixels[0, 0, 0] == 9


def test_messages_are_filled_in_place_and_follow_the_size() -> None:
    message = Image()
    messages.write_image(message, header(), np.zeros((4, 6), np.uint8), "mono8")
    buffer = message.data
    messages.write_image(message, header(8), np.full((4, 6), 3, np.uint8), "mono8")
    assert message.data is buffer
    assert set(buffer) == {3}
    assert message.header.stamp.sec == 8
    messages.write_image(message, header(), np.ones((2, 3), np.uint8), "mono8")
    assert (message.height, message.width, message.step, len(message.data)) == (2, 3, 3, 6)


def test_points_are_organised_and_pixel_aligned() -> None:
    depth = np.array([[1.0, 2.0, np.nan], [4.0, np.inf, 0.5]], np.float32)
    camera = Camera(np.array([[2.0, 0, 1], [0, 2.0, 0.5], [0, 0, 1]]), 3, 2)
    points = depth_to_points(depth, camera)
    rgb = np.random.default_rng(2).integers(0, 255, (2, 3, 3), np.uint8)
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    confidence = labels + 100
    message = PointCloud2()
    messages.write_points(message, header(), points, rgb, labels, confidence)
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert (received.height, received.width) == (2, 3)
    assert received.row_step == 3 * received.point_step
    assert not received.is_dense
    fields = {f.name: (f.offset, f.datatype) for f in received.fields}
    assert set(fields) == {"x", "y", "z", "rgb", "label", "confidence"}
    cloud = np.frombuffer(received.data, messages.POINT).reshape(2, 3)
    assert cloud["z"][1, 0] == 4.0
    assert cloud["x"][1, 0] == pytest.approx(4.0 * (0 - 1) / 2)
    assert np.isnan(cloud["x"][0, 2]) and np.isnan(cloud["z"][1, 1])
    assert np.array_equal(cloud["label"], labels)
    assert np.array_equal(cloud["confidence"], confidence)
    assert np.array_equal(cloud["rgb"] >> 16 & 255, rgb[..., 0])
    assert np.array_equal(cloud["rgb"] & 255, rgb[..., 2])


def info(width: int = 640, height: int = 480) -> CameraInfo:
    return CameraInfo(
        header=header(),
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.1, -0.2, 0.0, 0.0, 0.0],
        k=[500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        p=[450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def test_camera_of_raw_and_rectified_images() -> None:
    raw = decoding.read_camera(info(), rectified=False)
    rectified = decoding.read_camera(info(), rectified=True)
    assert raw is not None and rectified is not None
    assert (raw.fx, raw.cy) == (500.0, 240.0)
    assert raw.D is not None
    assert (rectified.fx, rectified.cy) == (450.0, 230.0)
    assert not rectified.distorted


def test_region_of_interest_and_binning_are_honoured() -> None:
    message = info()
    message.roi.x_offset, message.roi.y_offset = 100, 40
    message.roi.width, message.roi.height = 320, 240
    message.binning_x = message.binning_y = 2
    camera = decoding.read_camera(message, rectified=False)
    assert camera is not None
    assert (camera.width, camera.height) == (160, 120)
    assert camera.fx == 250.0
    assert camera.cx == pytest.approx((220.0 + 0.5) / 2 - 0.5)


@pytest.mark.skipif(messages.LabelInfo is None, reason="vision_msgs is not installed")
def test_label_info() -> None:
    message = messages.label_info(["wall", "floor"], 51)
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, "wall"), (1, "floor")]
    assert message.threshold == pytest.approx(0.2)
