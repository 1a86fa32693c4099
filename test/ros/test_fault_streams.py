# SPDX-License-Identifier: Apache-2.0
"""Cameras that misbehave, over real DDS: what /diagnostics says, what is lost, and the recovery.

PROTO_MTL_CAMPAIGN=1 repeats what is quick, and holds a bad camera for a whole minute.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from live_diagnostics import (
    CAMPAIGN,
    ERROR,
    OK,
    STALE,
    WARN,
    Stream,
    counted,
    lines,
    resident_mib,
    told,
    well_again,
)
from robot import (
    Robot,
    bad_images,
    camera_info,
    good,
    image,
    one_result,
    pixels,
    running_robot,  # noqa: F401
)
from ros_harness import wait_for
from sensor_msgs.msg import Image
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.encodings import ENCODINGS

pytestmark = pytest.mark.ros

NANOSECONDS = 1_000_000_000


@pytest.mark.slow
def test_a_camera_stops_and_returns(robot: Robot, record_fault: Callable) -> None:
    times = 5 if CAMPAIGN else 1
    for _ in range(times):
        robot.start(input_timeout=0.5)
        before = robot.process.output
        depth = robot.collect("left/depth/image")
        with Stream(robot, good, 10, info=camera_info()):
            wait_for(lambda c=depth: c.messages, "results")
        message = told(robot, "no_image")
        assert "publishers of /left/image: 1" in message and "driver" in message
        told(robot, "no_image", STALE)
        robot.settle(depth)
        with Stream(robot, good, 10, info=camera_info()) as camera:
            wait_for(lambda c=depth: c.messages, "results again")
            well_again(robot)
            new = robot.process.output.removeprefix(before)
        sent = camera.sent
        robot.settle()
        assert len(depth.messages) >= 0.8 * sent - 2  # two cores have other work at times
        assert counted(robot) == 0
        begun, over = lines(new, "left", "no_image")
        assert 1 <= over <= begun <= 2, new
    record_fault(
        "camera",
        "camera stops and returns",
        tried=times,
        seen="WARN no_image with the topic's publishers, then STALE; OK 5 s after its return",
    )


@pytest.mark.slow
def test_a_camera_at_ten_times_its_rate(
    robot: Robot, tmp_path: Path, record_fault: Callable
) -> None:
    """Beside another one, at its usual rate, on an engine that can do 15 images a second."""
    model = write_tiny_bundle(tmp_path, "slower", delay_loops=200)
    robot.start(cameras=["left", "right"], model=str(model))
    left, right = (robot.collect(f"{camera}/depth/image") for camera in ("left", "right"))
    info = camera_info()
    with (
        Stream(robot, good, 10, info=info) as camera,
        Stream(robot, good, 3, "right", info=info) as other,
    ):
        wait_for(lambda: left.messages and right.messages, "results of both")
        memory = resident_mib(robot.process.process.pid)
        camera.hz = 100.0
        message = told(robot, "too_slow")
        assert "overwritten" in message and "max_rate" in message
        begin, served, sent = len(left.messages), len(right.messages), other.sent
        wait_for(lambda: len(left.messages) >= begin + 6, "the results that it can give")
        turns = min(other.sent - sent, len(left.messages) - begin)
        assert len(right.messages) - served >= 0.6 * turns - 1  # and the other its
        newest = left.messages[-1].header.stamp
        age = time.time() - (newest.sec + newest.nanosec / NANOSECONDS)
        assert age < 3, "old images are queued"
        grown = resident_mib(robot.process.process.pid) - memory
        assert grown < 32, f"{grown:.0f} MiB more memory"
        assert "too_slow" not in robot.client.status("right").message
        camera.hz = 10.0
        well_again(robot)
    robot.settle(left, right)
    assert counted(robot) == 0 and counted(robot, "right") == 0
    record_fault(
        "camera",
        "camera at ten times its rate, beside another one",
        seen="WARN too_slow with the share that is overwritten; results stay new, the other "
        "camera keeps its own; OK again at the old rate",
    )


def stored(encoding: str, rgb: np.ndarray) -> Image:
    """An image of one colour in this encoding."""
    layout = ENCODINGS[encoding]
    order = {"bgr8": (2, 1, 0), "rgba8": (0, 1, 2, 0), "mono8": (0,)}.get(encoding, (0, 1, 2))
    message = image(np.ascontiguousarray(rgb[..., list(order)]))
    message.encoding, message.step = encoding, rgb.shape[1] * layout.pixel_bytes
    return message


def test_resolution_and_encoding_change_mid_stream(robot: Robot, record_fault: Callable) -> None:
    (depth,) = robot.begin("depth/image")
    # blue 102 of the picture is a depth of 4 m
    changes = (("rgb8", 64, 48), ("bgr8", 64, 48), ("mono8", 80, 40), ("rgba8", 31, 77),
               ("bgr8", 64, 48), ("rgb8", 64, 48))  # fmt: skip
    for encoding, width, height in changes:
        grey = encoding == "mono8"
        rgb = np.full((height, width, 3), (102, 102, 102) if grey else (40, 80, 102), np.uint8)
        result = one_result(robot, stored(encoding, rgb), depth)
        assert (result.width, result.height) == (width, height)
        assert np.allclose(pixels(result), 4.0, atol=0.02), encoding
    assert "images were bgr8 and are rgb8 now" in told(robot, "encoding_changed")
    assert "images were 31x77 and are 64x48 now" in told(robot, "resolution_changed")
    values = robot.client.values("left")
    assert (values["info.encoding_changed"], values["info.resolution_changed"]) == ("5", "3")
    with Stream(robot, good, 10, info=camera_info()):
        well_again(robot)
    record_fault(
        "camera",
        "resolution or encoding changes mid-stream",
        tried=len(changes) - 1,
        seen="WARN resolution_changed, encoding_changed with both values; every result right",
    )


def test_stamps_that_mislead(robot: Robot, record_fault: Callable) -> None:
    (depth,) = robot.begin("depth/image")

    def shifted(seconds: float) -> Image:
        message = good()
        stamp = max(0, time.time_ns() + int(seconds * NANOSECONDS))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, NANOSECONDS)
        return message

    before = robot.process.output
    faults = (
        ("stamp_past", -86400.0, "frames with stamps in the past"),
        ("stamp_future", 3600.0, "frames with stamps in the future"),
        ("stamp_backwards", -1.0, "frames with stamps that go backwards"),
        ("stamp_zero", -1e12, "frames with the stamp zero"),
    )
    times = 20 if CAMPAIGN else 3
    for cause, shift, _ in faults:
        for _ in range(times):
            if cause == "stamp_backwards":
                one_result(robot, good(), depth)
            one_result(robot, shifted(shift), depth)  # unchanged in its result
            depth.messages.clear()
    status = robot.client.status("left")
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == WARN and "let the driver set header.stamp" in status.message
    for cause, _, _ in faults:
        assert f"{cause}: " in status.message
        assert int(values[f"info.{cause}"]) >= times
    with Stream(robot, good, 10, info=camera_info()):
        well_again(robot)
    new = robot.process.output.removeprefix(before)
    assert all(max(lines(new, "left", cause)) <= 2 for cause, _, _ in faults), new
    for cause, _, name in faults:
        record_fault(
            "stamps",
            name,
            tried=times,
            seen=f"WARN {cause}; results carry the stamp as it came; OK 5 s after the last",
        )


@pytest.mark.slow
def test_a_bad_camera_neither_floods_the_log_nor_lets_the_level_flap(
    robot: Robot, record_fault: Callable
) -> None:
    """At 30 Hz for a minute (200 Hz for two seconds unless in campaign), then now and then."""
    (depth,) = robot.begin("depth/image")
    bad = bad_images()
    before, begun = robot.process.output, len(robot.client.diagnostics.messages)
    endless = itertools.cycle(bad.values())

    def now(message: Image) -> Image:
        message.header = good().header
        return message

    hz, seconds = (30, 60) if CAMPAIGN else (200, 2)
    with Stream(robot, lambda: now(next(endless)), hz, info=camera_info()) as camera:
        time.sleep(seconds)
        told(robot, "no_results" if CAMPAIGN else "short_data", ERROR if CAMPAIGN else WARN)
    written = robot.process.output.removeprefix(before)
    troubles = len(bad) + 3  # encoding_changed, no_results and few_results
    assert len(written.splitlines()) <= troubles, written
    with Stream(robot, good, 10, info=camera_info()):
        for _ in range(2):
            time.sleep(1.0)  # within what a diagnostic is held
            for _ in range(4):  # some may be overwritten
                robot.publish("left/image", now(bad["short_data"]))
                time.sleep(0.02)
        well_again(robot)
    written = robot.process.output.removeprefix(before)
    assert all(lines(written, "left", cause) == (1, 1) for cause in bad), written
    assert len(written.splitlines()) <= 2 * troubles, written
    levels = [
        status.level != OK
        for message in robot.client.diagnostics.messages[begun:]
        for status in message.status
        if status.name == "proto_mtl: left"
    ]
    changes = sum(a != b for a, b in itertools.pairwise(levels))
    assert changes <= 2, levels
    values = robot.client.values("left")
    assert {f"bad.{cause}" for cause in bad} <= set(values)
    assert counted(robot) in (0, 1)
    assert one_result(robot, good(), depth).height == 48
    record_fault(
        "camera",
        "nothing but unusable images at 30 Hz for a minute",
        tried=camera.sent,
        seen=f"each counted in bad.<cause>, {len(written.splitlines())} lines of log in all, "
        "one rise and one fall of the level",
    )
