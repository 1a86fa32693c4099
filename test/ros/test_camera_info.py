# SPDX-License-Identifier: Apache-2.0
"""camera_info: what results it gives, and one that is missing, late, bad or contradictory."""

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
    good,
    image,
    one_result,
    picture,
    pixels,
    running_robot,  # noqa: F401
    with_info,
)
from ros_harness import wait_for
from sensor_msgs.msg import CameraInfo, PointCloud2

from proto_mtl_ros.geometry import Camera, depth_to_points
from proto_mtl_ros.ros import messages

pytestmark = pytest.mark.ros


def test_camera_info_that_comes_late(robot: Robot, record_fault: Callable) -> None:
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
        seen="WARN camera_info_missing, depth is for the canonical camera; then points, OK",
    )


def test_two_publishers_of_camera_info_that_disagree(robot: Robot, record_fault: Callable) -> None:
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


def test_camera_info_makes_depth_metric(robot: Robot, record_fault: Callable) -> None:
    robot.start()
    client = robot.client
    depth = robot.collect("left/depth/image")
    points = robot.collect("left/points", PointCloud2)
    robot.flow(lambda: image(picture()), depth)
    plain = pixels(one_result(robot, image(picture()), depth))
    status = client.status("left")
    assert status.level == b"\x01" and "camera_info_missing" in status.message
    assert not points.messages

    with_info(robot, camera_info(fx=FX), "calibrated")
    wait_for(lambda: client.status("left").level == b"\x00", "the end of the warning")
    wait_for(lambda: points.messages, "points")
    robot.settle(depth, points)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), plain, rtol=1e-5)

    with_info(robot, uncalibrated := CameraInfo(width=64, height=48), "uncalibrated")
    assert uncalibrated.k[0] == 0
    status = client.status("left")
    assert status.level == b"\x01" and "uncalibrated" in status.message
    robot.settle(depth, points)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), plain, rtol=1e-5)
    assert not points.messages

    broken = camera_info()
    broken.k = [float("nan")] * 9
    with_info(robot, broken, "unusable")
    values = client.values("left")
    assert values["info.bad_camera_info"] == values["camera_info.bad"] != "0"
    assert not any(key.startswith("bad.") for key in values)
    accounted = sum(int(values[key]) for key in ("processed", "dropped", "skipped"))
    assert int(values["received"]) - accounted in (0, 1)  # no image is lost by it

    zoomed = camera_info(128, 96, fx=4 * FX)
    zoomed.binning_x = zoomed.binning_y = 2  # 64x48 images, fx 300: twice as far
    with_info(robot, zoomed, "calibrated", size=(64, 48))
    robot.settle(depth)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), 2 * plain, rtol=1e-5)
    odd = camera_info(fx=2 * FX)  # K holds for the scale, and rays are those of a pinhole
    odd.distortion_model, odd.d = "magic", [0.1] * 5
    odd.width = odd.height = 0  # as a driver writes that thinks of K alone
    state = "approximate (distortion model 'magic' is not known)"
    with_info(robot, odd, state, size=(64, 48))
    robot.settle(depth)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), 2 * plain, rtol=1e-5)
    assert "bad_camera_info" in client.status("left").message
    record_fault(
        "camera_info",
        "camera_info missing, with K = 0, with NaN",
        tried=3,
        seen="WARN camera_info_missing, camera_info_uncalibrated, bad_camera_info; depth is for "
        "the canonical camera, no cloud; metric again with the next good one",
    )


def test_camera_info_of_depth_describes_the_depth_image(
    robot: Robot, record_fault: Callable
) -> None:
    robot.start()
    depth = robot.collect("left/depth/image")
    info = robot.collect("left/depth/camera_info", CameraInfo)
    twice = camera_info(128, 96, fx=2 * FX)
    twice.d = [0.1, -0.05, 0.0, 0.0, 0.0]
    with_info(robot, twice, "scaled", size=(64, 48))
    robot.flow(lambda: image(picture()), depth, info)
    message = image(picture())
    one_result(robot, message, depth)
    got = wait_for(lambda: info.messages, "camera_info")[-1]
    assert got.header == message.header
    assert (got.width, got.height) == (64, 48)
    assert np.allclose(got.k, camera_info().k) and np.allclose(got.p, camera_info().p)
    assert list(got.d) == list(twice.d) and got.distortion_model == "plumb_bob"

    with_info(robot, camera_info(128, 30), "not used", size=(64, 48))
    robot.settle(depth, info)
    one_result(robot, image(picture()), depth)
    robot.settle(depth)
    assert not info.messages
    assert "camera_info_size: camera_info is for 128x30" in robot.client.status("left").message
    record_fault(
        "camera_info",
        "camera_info of another size than the images",
        tried=2,
        seen="WARN camera_info_scaled where the shape is the same; WARN camera_info_size and not "
        "used where it is not",
    )


def test_results_at_the_networks_size(robot: Robot) -> None:
    robot.start(output_size="network")
    depth = robot.collect("left/depth/image")
    info = robot.collect("left/depth/camera_info", CameraInfo)
    points = robot.collect("left/points", PointCloud2)
    with_info(robot, camera_info(), "calibrated")
    robot.flow(lambda: image(picture()), depth, info, points)
    message = image(picture())
    result = one_result(robot, message, depth)
    assert (result.width, result.height) == (128, 96)
    scaled = wait_for(lambda: info.messages, "camera_info")[-1]
    assert (scaled.width, scaled.height) == (128, 96)
    assert scaled.k[0] == pytest.approx(2 * FX) and scaled.p[0] == pytest.approx(2 * FX)
    assert scaled.header == message.header
    cloud = wait_for(lambda: points.messages, "points")[-1]
    assert (cloud.width, cloud.height) == (128, 96)
    camera = Camera(np.array(scaled.k).reshape(3, 3), 128, 96)
    xyz = np.frombuffer(cloud.data, messages.POINT).reshape(96, 128)
    assert np.allclose(xyz["x"], depth_to_points(pixels(result), camera)[..., 0], atol=1e-4)
