# SPDX-License-Identifier: Apache-2.0
"""The node's lifecycle, parameters, services, QoS and diagnostics, over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from robot import (
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
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.ros.parameters import CONFIGURE, TABLE
from proto_mtl_ros.runtime.bundle import Bundle

pytestmark = pytest.mark.ros


def test_lifecycle(robot: Robot) -> None:
    client = robot.client
    robot.unconfigure()
    assert client.state() == "unconfigured"
    assert not client.change_state("activate")
    assert client.state() == "unconfigured" and "not possible" in robot.process.output
    robot.start()
    assert client.state() == "active"
    classes = list(Bundle.load(robot.models["tiny"]).classes)
    assert client.parameter("class_names") == classes
    assert client.values("engine")["state"] == "active"
    for _ in range(2):
        assert client.change_state("deactivate")
        assert client.state() == "inactive"
        assert client.change_state("activate")
    masks = robot.collect("left/segmentation/image")
    robot.flow(good, masks)
    robot.unconfigure()
    assert client.parameter("class_names") == [""]


def test_parameters_are_refused_with_a_reason(robot: Robot) -> None:
    robot.start()
    client = robot.client
    assert client.set_parameters(max_depth=5.0)[0].successful
    removed = "there is no parameter trouble_hold any more: a diagnostic stays for 5 s"
    configuring = [(row.name, row.default, "unconf") for row in TABLE if row.change == CONFIGURE]
    for name, value, reason in (
        ("confidence_threshold", 300, "300"),
        ("confidence_threshold", "high", "type"),
        ("max_depth", float("nan"), "nan"),
        ("min_depth", 6.0, "less than max_depth"),
        *configuring,
        ("class_names", ["cat"], "set by the node"),
        ("read_only", True, "when the node starts"),
        ("no_such_parameter", 1, "declared"),
        ("trouble_hold", 3.0, removed),
    ):
        (result,) = client.set_parameters(**{name: value})
        assert not result.successful and reason in result.reason, (name, result.reason)
    assert client.parameter("confidence_threshold") == client.parameter("min_depth") == 0
    assert client.descriptor("confidence_threshold").integer_range[0].to_value == 255
    (line,) = [line for line in robot.process.output.splitlines() if removed in line]
    assert "[WARN]" in line  # at start


def test_dynamic_parameters_act_at_once(robot: Robot) -> None:
    masks, depth = robot.begin("segmentation/image", "depth/image")
    assert (pixels(one_result(robot, image(picture()), masks)) < 13).all()
    client = robot.client
    assert client.set_parameters(confidence_threshold=201)[0].successful  # all have 200
    assert (pixels(one_result(robot, image(picture()), masks)) == 255).all()
    assert client.set_parameters(confidence_threshold=200)[0].successful
    assert (pixels(one_result(robot, image(picture()), masks)) < 13).all()
    plain = pixels(one_result(robot, image(picture()), depth))
    assert client.set_parameters(max_depth=4.0)[0].successful
    assert client.set_parameters(min_depth=3.0)[0].successful
    limited = pixels(one_result(robot, image(picture()), depth))
    assert np.array_equal(np.isneginf(limited), plain < 3.0)
    assert np.array_equal(np.isposinf(limited), plain > 4.0)
    assert np.isneginf(limited).any() and np.isposinf(limited).any()


def test_enable_service(robot: Robot) -> None:
    (masks,) = robot.begin("segmentation/image")
    client = robot.client
    assert client.call(SetBool, "enable", SetBool.Request(data=False)).success
    assert client.parameter("enabled") is False
    robot.publish("left/image", image(picture()))
    wait_for(lambda: "skipped.disabled" in client.values("left"), "a skipped image")
    assert not masks.messages
    assert "disabled" in client.values("left")["state"]
    assert client.call(SetBool, "enable", SetBool.Request(data=True)).success
    one_result(robot, image(picture()), masks)


def test_reload_keeps_the_old_model_when_the_new_one_fails(robot: Robot) -> None:
    (masks,) = robot.begin("segmentation/image")
    client = robot.client
    broken = write_tiny_bundle(robot.models["broken"].parent, "broken")
    graph = broken / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-50])
    for model, reason in ((broken, "damaged"), (broken / "nothing", "there is no")):
        assert client.set_parameters(model=str(model))[0].successful
        answer = client.call(Trigger, "reload_model", Trigger.Request())
        assert not answer.success
        assert reason in answer.message and "old model keeps running" in answer.message
        assert client.state() == "active"
        one_result(robot, image(picture()), masks)
        assert client.values("engine")["model"] == "tiny"
    assert client.set_parameters(model=str(robot.models["other"]))[0].successful
    answer = client.call(Trigger, "reload_model", Trigger.Request())
    assert answer.success and "other" in answer.message
    one_result(robot, image(picture()), masks)
    assert client.values("engine")["model"] == "other"
    robot.unconfigure()
    answer = client.call(Trigger, "reload_model", Trigger.Request())
    assert not answer.success and "configure" in answer.message


def test_unknown_backend_or_model_leaves_the_node_unconfigured(robot: Robot) -> None:
    robot.unconfigure()
    client = robot.client
    for name, value in (("backend", "abacus"), ("model", "no_such_model")):
        robot.start()
        robot.unconfigure()
        assert client.set_parameters(**{name: value})[0].successful
        before = robot.process.output
        assert not client.change_state("configure")
        new = robot.process.output.removeprefix(before).strip().splitlines()
        assert len(new) == 1 and "configure failed" in new[0] and value in new[0]
        assert client.state() == "unconfigured"
        status = client.status("engine")
        assert status.level == b"\x02" and value in status.message
    robot.start()
    assert client.status("engine").level == b"\x00"


def test_a_jump_back_of_the_clock_resets_the_cameras(robot: Robot) -> None:
    from rosgraph_msgs.msg import Clock

    robot.start()
    client = robot.client
    masks = robot.collect("left/segmentation/image")
    with_info(robot, camera_info(), "calibrated")
    robot.flow(good, masks)
    assert client.set_parameters(use_sim_time=True)[0].successful
    try:
        clock = Clock()
        for second in (100, 101, 50):
            clock.clock.sec = second
            robot.publish("clock", clock)
            time.sleep(0.1)
        wait_for(lambda: "time jumped back" in robot.process.output, "the reset")
        assert client.values("left")["camera_info"] == "missing"
        one_result(robot, image(picture()), masks)
    finally:
        assert client.set_parameters(use_sim_time=False)[0].successful


def test_incompatible_qos_is_told(robot: Robot) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    robot.start()
    demanding = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    collector = robot.client.collect(Image, "/left/depth/image", demanding)
    try:
        wait_for(
            lambda: "DURABILITY" in robot.client.status("left").message.upper(), "the mismatch"
        )
        assert "left/depth/image: a peer's QoS does not match" in robot.process.output
    finally:
        collector.close()
    wait_for(lambda: "DURABILITY" not in robot.client.status("left").message, "its end")


def test_a_camera_with_incompatible_qos_is_told_until_the_next_activation(robot: Robot) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    client = robot.client
    robot.start(cameras=["strict"])  # whose subscription is reliable by an override
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = client.node.create_publisher(Image, "/strict/image", profile)
    wait_for(lambda: "RELIABILITY" in client.status("strict").message, "the mismatch")
    client.run(lambda: client.node.destroy_publisher(publisher))
    assert client.change_state("deactivate") and client.change_state("activate")
    assert "RELIABILITY" not in client.status("strict").message


def test_qos_is_as_documented_and_overridable(robot: Robot) -> None:
    robot.start()
    node = robot.client.node

    def reliability(topic: str) -> str:
        (endpoint,) = wait_for(lambda: node.get_publishers_info_by_topic(topic), topic)
        return str(endpoint.qos_profile.reliability.name)

    assert reliability("/left/depth/image") == "RELIABLE"
    assert reliability("/left/normals/image") == "BEST_EFFORT"  # by the override at start
    (endpoint,) = wait_for(lambda: node.get_subscriptions_info_by_topic("/left/image"), "input")
    assert endpoint.qos_profile.reliability.name == "BEST_EFFORT"
    assert robot.client.parameter("qos_overrides./left/image.subscription.depth") == 5


def test_a_fallback_is_loud(robot: Robot, record_fault: Callable) -> None:
    robot.start(backend="onnxruntime", device="cuda:7")
    status = robot.client.status("engine")
    values = {p.key: p.value for p in status.values}
    assert values["device"] == "cpu"
    assert status.level == b"\x01" and "fallback" in status.message
    assert "[WARN]" in robot.process.output and "not the engine" in robot.process.output
    record_fault(
        "engine",
        "the GPU that is asked for is absent",
        seen=f"WARN: {status.message}; runs on the CPU",
    )


@pytest.mark.parametrize(
    ("bad", "transition", "state"),
    [("bad_output", "configure", "unconfigured"), ("bad_input", "activate", "inactive")],
)
def test_a_transition_that_fails_halfway_is_undone(
    robot: Robot, bad: str, transition: str, state: str
) -> None:
    client = robot.client
    robot.unconfigure()
    assert client.set_parameters(cameras=["right", bad])[0].successful
    assert transition == "configure" or client.change_state("configure")
    for _ in range(2):
        before = robot.process.output
        assert not client.change_state(transition)
        new = robot.process.output.removeprefix(before).splitlines()
        (line,) = [line for line in new if "[ERROR]" in line]
        assert f"{transition} failed" in line and "perhaps" in line
        assert client.state() == client.values("engine")["state"] == state
    if transition == "configure":
        assert "perhaps" in client.status("engine").message
        gone, topics = (
            client.node.count_publishers,
            ("right/depth/image", f"{bad}/segmentation/image"),
        )
    else:
        gone, topics = client.node.count_subscribers, ("right/image", f"{bad}/image")
    for topic in topics:
        wait_for(lambda t=topic: not gone(f"/{t}"), f"{topic} to be gone")
    (masks,) = robot.begin("segmentation/image")
    one_result(robot, image(picture()), masks)


def test_cleaning_up_during_a_reload_answers_it(robot: Robot) -> None:
    robot.start()
    client = robot.client
    folder = robot.models["tiny"].parent
    endless = write_tiny_bundle(folder, "endless", delay_loops=4000)
    assert client.set_parameters(model=str(endless))[0].successful
    answer = client.send(Trigger, "reload_model", Trigger.Request())
    wait_for(lambda: client.values("engine")["loading"] == "true", "the reload")
    second = client.call(Trigger, "reload_model", Trigger.Request())
    assert not second.success and "another reload is going on" in second.message
    assert client.change_state("deactivate") and client.change_state("cleanup")
    wait_for(answer.done, "an answer", 10.0)
    assert not answer.result().success
    assert "cleaned up" in answer.result().message and "old model" not in answer.result().message
    robot.start()
    assert client.set_parameters(model=str(robot.models["other"]))[0].successful
    assert client.call(Trigger, "reload_model", Trigger.Request()).success
    assert client.values("engine")["model"] == "other"


def test_a_reload_that_takes_too_long_is_ended_with_the_reason(robot: Robot) -> None:
    (masks,) = robot.begin("segmentation/image", load_timeout=8.0)
    client = robot.client
    endless = write_tiny_bundle(robot.models["tiny"].parent, "for_ever", delay_loops=10**9)
    assert client.set_parameters(model=str(endless))[0].successful
    answer = client.call(Trigger, "reload_model", Trigger.Request(), timeout=30.0)
    assert not answer.success and "took more than 8 s" in answer.message
    one_result(robot, image(picture()), masks)
    # neither a process nor a thread goes on with it
    tree = psutil.Process(robot.process.process.pid)
    wait_for(lambda: not tree.children(), "the end of the process that tried it")
    assert client.set_parameters(model=str(robot.models["other"]))[0].successful
    answer = client.call(Trigger, "reload_model", Trigger.Request(), timeout=30.0)
    assert answer.success, answer.message


def test_a_latched_camera_info_is_received(robot: Robot) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    client = robot.client
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = client.node.create_publisher(CameraInfo, "/left/camera_info", latched)
    try:
        publisher.publish(camera_info())
        (masks,) = robot.begin("segmentation/image")
        robot.flow(good, masks)
        wait_for(lambda: client.values("left")["camera_info"] == "calibrated", "the camera_info")
    finally:
        client.run(lambda: client.node.destroy_publisher(publisher))
