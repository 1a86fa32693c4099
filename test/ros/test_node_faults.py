# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a node, or comes at a bad time: it says why and goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnx", reason="the tiny model is made with onnx")

from robot import (
    FX,
    Robot,
    camera_info,
    image,
    one_result,
    picture,
    running_robot,  # noqa: F401
    with_info,
)
from ros_harness import wait_for
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger
from tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.ros


def new_lines(robot: Robot, before: str) -> list[str]:
    """What the node has written since its output was `before`."""
    return robot.process.output.removeprefix(before).strip().splitlines()


def test_configuring_that_fails_halfway_leaves_nothing(robot: Robot) -> None:
    client = robot.client
    robot.unconfigure()
    assert client.set_parameters(cameras=["right", "bad_output"])[0].successful
    for _ in range(2):
        before = robot.process.output
        assert not client.change_state("configure")
        (line,) = [line for line in new_lines(robot, before) if "[ERROR]" in line]
        assert "configure failed" in line and "perhaps" in line
        assert client.state() == "unconfigured"
        assert "perhaps" in client.status("engine").message
    for topic in ("/right/depth/image", "/bad_output/segmentation/image"):
        wait_for(lambda t=topic: not client.node.count_publishers(t), f"{topic} to be gone")
    robot.start()
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    one_result(robot, image(picture()), masks)


def test_activating_that_fails_halfway_is_undone(robot: Robot) -> None:
    client = robot.client
    robot.unconfigure()
    assert client.set_parameters(cameras=["right", "bad_input"])[0].successful
    assert client.change_state("configure")
    for _ in range(2):
        before = robot.process.output
        assert not client.change_state("activate")
        (line,) = [line for line in new_lines(robot, before) if "[ERROR]" in line]
        assert "activate failed" in line and "perhaps" in line
        assert client.state() == "inactive"
        assert client.values("engine")["state"] == "inactive"
    for topic in ("/right/image", "/bad_input/image"):
        wait_for(lambda t=topic: not client.node.count_subscribers(t), f"{topic} to be gone")
    robot.start()
    assert client.values("engine")["state"] == "active"


def test_cleaning_up_during_a_reload_answers_it(robot: Robot) -> None:
    robot.start()
    client = robot.client
    folder = robot.models["tiny"].parent
    endless = write_tiny_bundle(folder, "endless", delay_loops=4000)
    assert client.set_parameters(model=str(endless))[0].successful
    answer = client.send(Trigger, "reload_model", Trigger.Request())
    wait_for(lambda: client.values("engine")["loading"] == "true", "the reload")
    assert client.change_state("deactivate") and client.change_state("cleanup")
    wait_for(answer.done, "an answer", 10.0)
    assert not answer.result().success
    assert "cleaned up" in answer.result().message and "old model" not in answer.result().message
    robot.start()
    assert client.set_parameters(model=str(robot.models["other"]))[0].successful
    assert client.call(Trigger, "reload_model", Trigger.Request()).success
    assert client.values("engine")["model"] == "other"


def test_camera_info_of_depth_describes_the_depth_image(
    robot: Robot, record_fault: Callable[..., None]
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
        survived=2,
        lost=0,
        seen="WARN camera_info_scaled where the shape is the same; WARN camera_info_size and not "
        "used where it is not",
    )
