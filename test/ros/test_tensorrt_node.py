# SPDX-License-Identifier: Apache-2.0
"""A robot's first start with TensorRT, in the node's real process on a stand-in for a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from robot import Robot, image, picture, running
from ros_harness import NodeProcess, wait_for
from tiny_bundle import write_tiny_bundle

pytestmark = [pytest.mark.ros, pytest.mark.slow]
HERE = Path(__file__).resolve().parents[1] / "support"


class GpuRobot(Robot):
    """A robot whose GPU and TensorRT are stand-ins; building lasts while ``hold`` exists."""

    hold: Path

    def value(self, key: str) -> str:
        return self.client.values("engine").get(key, "")


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuRobot]:
    path = os.pathsep.join((str(HERE / "gpu"), str(HERE), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("PROTO_MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STAND_IN_BUILD", str(tmp_path / "hold"))
    process = NodeProcess(tmp_path / "log", program=[HERE / "gpu" / "node.py"])
    with running(process, {"tiny": write_tiny_bundle(tmp_path)}, GpuRobot) as robot:
        robot.hold = tmp_path / "hold"
        robot.hold.write_text("building")
        try:
            yield robot
        finally:
            robot.hold.unlink(missing_ok=True)


def test_the_engine_is_built_beside_the_work_and_then_taken_into_use(robot: GpuRobot) -> None:
    robot.start(cameras=["left"])
    assert robot.value("device") == "cpu" and robot.value("backend") != "tensorrt"
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    wait_for(lambda: robot.value("engine_build").endswith("Building engine"), "progress")
    assert "building the TensorRT engine" in robot.process.output
    robot.hold.unlink()
    wait_for(lambda: robot.value("backend") == "tensorrt", f"it; {robot.process.output}")
    assert robot.value("device") == "cuda:0" and robot.value("engine_build") == ""
    robot.flow(lambda: image(picture()), masks)
    # at the next start it is there
    robot.start(cameras=["left"])
    assert robot.value("backend") == "tensorrt"
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    robot.publish("left/image", image(picture(64, 48)))
    wait_for(lambda: masks.messages, "a mask")
    ids = np.frombuffer(masks.messages[-1].data, np.uint8).reshape(48, 64)
    assert len(set(ids[10])) > 5  # from left to right the picture gets redder


def test_a_robot_may_wait_for_its_engine(robot: GpuRobot) -> None:
    robot.start(cameras=["left"], while_building="wait", backend="tensorrt")
    masks = robot.collect("left/segmentation/image")
    for _ in range(3):
        robot.publish("left/image", image(picture()))

    def dropped() -> int:
        return int(robot.client.values("left").get("drops.engine_building", 0))

    wait_for(dropped, "images that are dropped meanwhile")
    assert not masks.messages
    robot.hold.unlink()
    robot.flow(lambda: image(picture()), masks)
    assert robot.value("backend") == "tensorrt"


def test_a_build_that_fails_is_an_error_and_the_work_goes_on(robot: GpuRobot) -> None:
    robot.start(cameras=["left"], while_building="wait")
    masks = robot.collect("left/segmentation/image")
    robot.hold.write_text("fail")
    robot.flow(lambda: image(picture()), masks)
    status = robot.client.status("engine")
    assert status.level == b"\x02"
    assert "no TensorRT engine: building the engine failed: " in status.message
    assert "no tactic for this GPU" in status.message
    assert robot.value("device") == "cpu"
