# SPDX-License-Identifier: Apache-2.0
"""An engine that hangs, fails, freezes or gives nonsense, in the node's real process."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("openvino", reason="the other engine that a failing one is replaced by")

from faulty_node import release
from faulty_robot import FaultyRobot, faulty_robot  # noqa: F401
from live_diagnostics import ERROR, OK, WARN, Stream
from robot import image, one_result, picture, pixels
from ros_harness import wait_for

pytestmark = pytest.mark.ros


def record(robot: FaultyRobot, record_fault: Callable, name: str, seen: str) -> None:
    """Every image has to be counted, too."""
    lost = robot.lost_without_a_cause()
    assert lost == 0
    record_fault("engine", name, sent=lost, seen=seen)


def test_a_stalled_engine_is_told_and_replaced(robot: FaultyRobot, record_fault: Callable) -> None:
    (masks,) = robot.begin("segmentation/image", engine_timeout=1.0)
    robot.set_fault("stall")
    stuck = image(picture())
    robot.publish("left/image", stuck)
    # Frames keep coming, as from a real camera.
    wait_for(lambda: robot.engine().level == ERROR, "ERROR on /diagnostics")
    said = robot.engine().message
    assert re.search(r"onnxruntime.* has not returned from inference for 1 s", said), said
    assert "loading a new engine (attempt 1 of 3)" in said
    robot.wait_for_results(masks)
    wait_for(lambda: robot.engine().level == WARN, "WARN on /diagnostics")
    assert "engine_replaced: " in robot.engine().message
    assert robot.value("engine_restarts") == "1" and robot.value("engines_left_behind") == "1"
    assert robot.value("drops.engine_stalled", "left") == "1"
    # The thread that was left behind comes back: it publishes nothing and ends.
    release(robot.faults)
    wait_for(lambda: robot.value("engines_left_behind") == "0", "the end of the old thread")
    assert stuck.header.stamp not in [m.header.stamp for m in masks.messages]
    one_result(robot, image(picture()), masks)
    seen = f"ERROR: {said}; then WARN, and results again; drops.engine_stalled = 1"
    record(robot, record_fault, "inference hangs", seen)


@pytest.mark.slow
def test_lifecycle_with_a_stalled_engine(robot: FaultyRobot, record_fault: Callable) -> None:
    """Deactivating and cleaning up wait no longer than engine_timeout, and work."""
    for transitions in (("deactivate",), ("deactivate", "cleanup")):
        robot.begin("segmentation/image", engine_timeout=1.0)
        robot.set_fault("stall")
        robot.publish("left/image", image(picture()))
        wait_for(lambda: not robot.faults.exists(), "the stall")
        begin = time.monotonic()
        for transition in transitions:
            assert robot.client.change_state(transition), robot.process.output
        assert time.monotonic() - begin < 10
        release(robot.faults)
        if "cleanup" not in transitions:
            masks = robot.collect("left/segmentation/image")
            assert robot.client.change_state("activate")
            robot.wait_for_results(masks)
    (masks,) = robot.begin("segmentation/image")
    one_result(robot, image(picture()), masks)
    name = "inference hangs while the node is deactivated or cleaned up"
    seen = "the transition succeeds after engine_timeout, a line in the log"
    record_fault("engine", name, tried=2, seen=seen)


@pytest.mark.slow
def test_a_dead_engine_is_given_up_and_reload_brings_it_back(
    robot: FaultyRobot, record_fault: Callable
) -> None:
    (masks,) = robot.begin("segmentation/image", engine_timeout=0.5, load_timeout=6.0)
    robot.set_fault("hang")
    robot.publish("left/image", image(picture()))
    wait_for(lambda: "given up after 3 new engines" in robot.engine().message, "giving up", 90)
    said = robot.engine().message
    assert robot.engine().level == ERROR and "call ~/reload_model" in said
    assert robot.client.state() == "active"
    before = robot.dropped("engine_failed")
    robot.publish("left/image", image(picture()))
    wait_for(lambda: robot.dropped("engine_failed") > before, "a counted frame")
    # Half a second later and twice as late: the pauses grow, and the log does not run over.
    attempts = re.findall(r"loading a new engine in (\d+) s", robot.process.output)
    assert attempts[-3:] == ["1", "2", "4"]
    robot.set_fault()
    robot.reload()
    one_result(robot, image(picture()), masks)
    wait_for(lambda: robot.engine().level == OK, "all well")
    record(robot, record_fault, "inference hangs for good, new engines, too", f"ERROR: {said}")


@pytest.mark.slow
def test_an_engine_that_only_fails_is_replaced_by_another_one(
    robot: FaultyRobot, record_fault: Callable
) -> None:
    (masks,) = robot.begin("segmentation/image", engine_timeout=0.5)
    robot.set_fault("raise", "onnxruntime")
    robot.wait_for_results(masks)
    wait_for(lambda: robot.value("backend") == "openvino", "the other engine")
    status = robot.client.status("engine")
    assert status.level == WARN
    assert "fallback: onnxruntime fp32 on cpu" in status.message and "failed" in status.message
    assert "illegal memory access" in robot.process.output
    robot.set_fault()
    robot.reload()
    one_result(robot, image(picture()), masks)
    wait_for(lambda: robot.engine().level == OK, "all well")
    assert robot.value("backend") == "onnxruntime"
    record(robot, record_fault, "every inference fails", f"WARN: {status.message}")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", "ONNX Runtime failed on [1, 96, 128, 3]: CUDA error 700: an illegal memory"),
        ("memory", "MemoryError"),
        ("shape", "the network gives depth as float32[1, 95, 128], not float32[1, 96, 128]"),
        ("batch", "the network gives segmentation as uint8[2, 96, 128]"),
        ("dtype", "the network gives depth as float64"),
        ("missing", "the network gives depth as nothing, not float32[1, 96, 128]"),
    ],
)
def test_a_frame_that_the_engine_fails_on_is_dropped_with_the_reason(
    robot: FaultyRobot, record_fault: Callable, fault: str, said: str
) -> None:
    if robot.client.state() != "active" or not robot.collectors:
        robot.begin("segmentation/image", "depth/image")
    outputs = robot.collectors
    before = robot.dropped("engine_error")
    robot.set_fault(fault)
    failing = image(picture())
    robot.publish("left/image", failing)
    wait_for(lambda: said in robot.client.status("left", fresh=False).message, said)
    assert robot.client.status("left", fresh=False).level == ERROR
    assert robot.dropped("engine_error") == before + 1
    robot.set_fault()
    one_result(robot, image(picture()), outputs[0])
    for output in outputs:
        assert failing.header.stamp not in [m.header.stamp for m in output.messages]
    seen = f"ERROR: a frame failed: {said} ...; drops.engine_error"
    record_fault("engine", f"inference gives: {fault}", seen=seen)


@pytest.mark.parametrize("fault", ["nan", "inf", "all-nan", "class"])
def test_values_that_are_none_are_published_as_invalid(
    robot: FaultyRobot, record_fault: Callable, fault: str
) -> None:
    names = ("segmentation/image", "depth/image", "normals/image")
    outputs = robot.begin(*names)
    rgb = np.full((48, 64, 3), 100, np.uint8)
    robot.set_fault(fault)
    message = image(rgb)
    robot.publish("left/image", message)
    for output in outputs:
        wait_for(lambda o=output: o.messages, "a result")
    masks, depth, normals = (pixels(output.messages[-1]) for output in outputs)
    spoiled = {"nan": 24 / 96, "inf": 24 / 96, "all-nan": 1.0, "class": 24 / 96}[fault]
    edge = round(48 * spoiled)
    if fault == "class":
        assert (masks[:edge] == 255).all() and (masks[edge:] == 5).all()
        causes = ["invalid_class"]
    else:
        assert np.isnan(depth[: edge - 1]).all() and np.isfinite(depth[edge + 1 :]).all()
        assert not np.isinf(depth).any() and np.isfinite(normals).all()
        assert (normals[: edge - 1] == 0).all()
        assert np.allclose(np.linalg.norm(normals[edge + 1 :], axis=-1), 1.0, atol=1e-5)
        causes = ["invalid_depth", "invalid_normals"]
    status = robot.client.status("left")
    assert status.level == WARN and f"{100 * spoiled:.3g} %" in status.message, status.message
    assert all(robot.value(f"info.{cause}", "left") != "" for cause in causes)
    robot.set_fault()
    seen = f"WARN: {status.message}; those pixels are published as invalid"
    record_fault("engine", f"inference gives: {fault}", seen=seen)


def test_a_process_that_was_stopped_has_not_stalled(
    robot: FaultyRobot, record_fault: Callable
) -> None:
    (masks,) = robot.begin("segmentation/image", engine_timeout=2.0)
    restarts = robot.value("engine_restarts")
    robot.set_fault("hang")  # so that it is stopped in the middle of inferring
    robot.publish("left/image", image(picture()))
    time.sleep(0.5)
    robot.process.process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    robot.set_fault()
    robot.process.process.send_signal(signal.SIGCONT)
    wait_for(lambda: masks.messages, "the result of the image that was in work")
    one_result(robot, image(picture()), masks)
    assert robot.client.values("engine")["engine_restarts"] == restarts == "0"
    name = "the process is stopped for longer than engine_timeout (SIGSTOP)"
    seen = "/diagnostics is silent (STALE in an aggregator); no engine is replaced"
    record_fault("engine", name, seen=seen)


@pytest.mark.slow
def test_a_process_that_is_frozen_is_seen_from_outside(
    robot: FaultyRobot, record_fault: Callable
) -> None:
    """A backend that keeps the interpreter's lock stops even the thread that watches it."""
    (masks,) = robot.begin("segmentation/image")
    assert "READY=1" in robot.signs_of_life()
    times: list[float] = []
    signs: list[float] = []
    ended = threading.Event()

    def listen() -> None:
        seen = None
        while not ended.wait(0.02):
            if seen != (seen := len(robot.client.diagnostics.messages)):
                times.append(time.monotonic())
            if "WATCHDOG=1" in robot.signs_of_life():
                signs.append(time.monotonic())

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        wait_for(lambda: times and signs, "signs of life")
        robot.set_fault("freeze")
        robot.wait_for_results(masks)
        after = len(times), len(signs)
        wait_for(lambda: len(times) > after[0] and len(signs) > after[1], "signs of life again")
    finally:
        ended.set()
        listener.join()
    assert all(max(b - a for a, b in pairwise(heard)) > 2.0 for heard in (times, signs))
    one_result(robot, image(picture()), masks)
    record_fault(
        "engine",
        "a backend freezes the whole process for 3 s",
        seen="/diagnostics, else once a second, is silent for as long (STALE), and so are "
        "the signs of life for systemd's WatchdogSec",
    )


def test_far_more_images_than_the_engine_can_process(
    robot: FaultyRobot, record_fault: Callable
) -> None:
    (masks,) = robot.begin("segmentation/image", model=str(robot.models["slow"]))
    with Stream(robot, lambda: image(picture()), 200):
        wait_for(lambda: len(masks.messages) > 10, "results in the flood")
    robot.settle(masks)
    one_result(robot, image(picture()), masks)
    assert int(robot.value("drops.overwritten", "left")) > 10
    seen = "drops.overwritten; the newest image is processed"
    record(robot, record_fault, "far more images than the engine can process", seen)
