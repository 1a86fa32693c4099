# SPDX-License-Identifier: Apache-2.0
"""Others in the graph that misbehave: a subscriber that hangs, a node of the same name.

PROTO_MTL_CAMPAIGN=1 lets the subscriber hang five times, and longer.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from live_diagnostics import CAMPAIGN, OK, WARN, Stream, counted, lines, well_again
from robot import (
    Robot,
    camera_info,
    image,
    picture,
    running_robot,  # noqa: F401
)
from ros_harness import NodeProcess, wait_for
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros

LISTENER = """
import rclpy
from sensor_msgs.msg import Image, PointCloud2
rclpy.init()
node = rclpy.create_node("listener")
def hear(message):
    print("heard", flush=True)
for kind, topic in ((Image, "depth/image"), (Image, "normals/color"), (PointCloud2, "points")):
    node.create_subscription(kind, "/left/" + topic, hear, 5)
rclpy.spin(node)
"""


def vga() -> Image:
    return image(picture(640, 480))


@pytest.mark.slow
def test_a_subscriber_that_hangs_holds_nobody_up(
    robot: Robot, tmp_path: Path, record_fault: Callable
) -> None:
    """A reliable subscriber is stopped in mid-air; a cloud of VGA size fills any queue soon."""
    times, results = (5, 125) if CAMPAIGN else (1, 15)
    robot.start()
    depth = robot.collect("left/depth/image")
    heard = tmp_path / "heard"
    with heard.open("wb") as sink:
        listener = subprocess.Popen(
            [sys.executable, "-c", LISTENER], stdout=sink, stdin=subprocess.DEVNULL
        )

    def hears() -> None:
        before = heard.stat().st_size
        wait_for(lambda: heard.stat().st_size > before, "the listener")

    hung = 0
    try:
        with Stream(robot, vga, 5, info=camera_info(640, 480)):
            for _ in range(times):
                hears()
                well_again(robot)
                listener.send_signal(signal.SIGSTOP)
                before = len(depth.messages)
                wait_for(lambda n=before: len(depth.messages) >= n + results, "results beside it")
                assert robot.client.status("left").level == OK
                hung += len(depth.messages) - before
                listener.send_signal(signal.SIGCONT)
            hears()
    finally:
        listener.send_signal(signal.SIGCONT)
        listener.kill()
        listener.wait()
    assert counted(robot) in (0, 1)
    record_fault(
        "peers",
        "a reliable subscriber that hangs (SIGSTOP)",
        tried=times,
        seen=f"nothing: the node stays OK, the other subscriber gets its results ({hung} of them)",
    )


@pytest.mark.slow
def test_two_nodes_of_one_name(robot: Robot, tmp_path: Path, record_fault: Callable) -> None:
    robot.start()
    before = robot.process.output
    assert robot.client.status("engine").level == OK
    begun = len(robot.client.diagnostics.messages)
    twin = NodeProcess(tmp_path / "log")
    try:
        wait_for(lambda: "name_clash" in robot.process.output, "the first node's warning")
        wait_for(lambda: "name_clash" in twin.output, "the second node's warning")
        status = robot.client.status("engine")
        assert status.level == WARN
        assert "2 nodes are called /proto_mtl; end one of them" in status.message
    finally:
        assert twin.end() == 0, twin.output

    wait_for(lambda: robot.client.status("engine").level == OK, "its end")
    wait_for(lambda: lines(robot.process.output, "node", "name_clash")[1], "the line that says so")
    new = robot.process.output.removeprefix(before)
    assert lines(new, "node", "name_clash") == (1, 1), new
    assert lines(twin.output, "node", "name_clash") == (1, 0), twin.output
    levels = [m.status[0].level for m in robot.client.diagnostics.messages[begun:]]
    assert set(levels) == {OK, WARN}
    record_fault(
        "peers",
        "a second node of the same name",
        seen="WARN name_clash from both, one line in each log; OK 5 s after one has ended",
    )
