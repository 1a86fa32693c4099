# SPDX-License-Identifier: Apache-2.0
"""camera_info that comes late, or is at odds with the images or with itself.

That it is missing, uncalibrated, not finite or of another size is tried in test_node.py and
test_node_faults.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from live_diagnostics import Stream, counted, lines, told, well_again
from robot import (
    FX,
    Robot,
    camera_info,
    image,
    one_result,
    picture,
    pixels,
    running_robot,  # noqa: F401
)
from ros_harness import wait_for
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

pytestmark = pytest.mark.ros


def good() -> Image:
    return image(picture())


def test_camera_info_that_comes_late(robot: Robot, record_fault: Callable[..., None]) -> None:
    robot.start()
    depth = robot.collect("left/depth/image")
    points = robot.collect("left/points", PointCloud2)
    before = robot.process.output
    with Stream(robot, good, 10) as camera:
        message = told(robot, "camera_info_missing")
        assert "canonical camera" in message and "publish camera_info" in message
        assert depth.messages and not points.messages
        camera.info = camera_info(fx=2 * FX)
        wait_for(lambda: points.messages, "points")
        well_again(robot)
    assert counted(robot) in (0, 1)
    new = robot.process.output.removeprefix(before)
    assert lines(new, "left", "camera_info_missing") == (1, 1), new
    record_fault(
        "camera_info",
        "camera_info comes after the images",
        tried=1,
        survived=1,
        lost=0,
        seen="WARN camera_info_missing, depth is for the canonical camera; then points, OK",
    )


def test_two_publishers_of_camera_info_that_disagree(
    robot: Robot, record_fault: Callable[..., None]
) -> None:
    robot.start()
    depth = robot.collect("left/depth/image")
    other = robot.client.publisher(CameraInfo, "/left/camera_info")
    before = robot.process.output
    try:
        with Stream(robot, good, 10, info=camera_info()):
            wait_for(lambda: depth.messages, "results")
            for _ in range(12):
                other.publish(camera_info(fx=2 * FX))
                time.sleep(0.13)
            message = told(robot, "camera_info_contradictory")
            assert "64x48 with fx 150 and 64x48 with fx 300 take turns" in message
            assert "one node alone" in message
    finally:
        robot.client.run(lambda: robot.client.node.destroy_publisher(other))
    with Stream(robot, good, 10, info=camera_info()):
        well_again(robot)
    robot.settle(depth)
    plain = pixels(one_result(robot, image(rgb := picture()), depth))
    assert np.allclose(plain[20, 30], rgb[20, 30, 2] / 25.5, rtol=0.02)  # fx 150 counts again
    new = robot.process.output.removeprefix(before)
    assert lines(new, "left", "camera_info_contradictory") == (1, 1), new
    record_fault(
        "camera_info",
        "two publishers of camera_info that disagree",
        tried=1,
        survived=1,
        lost=0,
        seen="WARN camera_info_contradictory with both focal lengths; OK when one of them has left",
    )


def test_a_zoom_lens_is_no_contradiction(robot: Robot) -> None:
    robot.start()
    with Stream(robot, good, 10, info=camera_info()) as camera:
        well_again(robot)
        for step in range(10):
            camera.info = camera_info(fx=FX + step)
            time.sleep(0.1)
        assert "camera_info" not in robot.client.status("left").message
