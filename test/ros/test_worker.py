# SPDX-License-Identifier: Apache-2.0
"""What is the engine's fault and what is not, and what becomes of a frame that is given up."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_harness import wait_for

from proto_mtl_ros.ros.decoding import Frame
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.worker import Worker


class Stream(SimpleNamespace):
    __hash__ = object.__hash__


class Robot:
    """A worker whose stages wait until they are let go on."""

    def __init__(self, waits_in: str) -> None:
        self.began, self.go_on, self.waits_in = threading.Event(), threading.Event(), waits_in
        self.dropped: list[str] = []
        self.finished: list[Frame] = []
        self.predictor: Any = SimpleNamespace(
            in_engine=False,
            bundle=SimpleNamespace(palette=0),
            engine=SimpleNamespace(cancel=lambda: None),
            close=lambda: None,
            predict_batch=self.predict,
        )
        stream: Any = Stream(
            outcomes=SimpleNamespace(
                drop=lambda frame, cause: self.dropped.append(cause), finish=self.finished.append
            ),
            decoder=SimpleNamespace(decode=lambda frame, limit: self.reach("decode")),
            results=SimpleNamespace(publish=lambda *_: self.reach("publish")),
        )
        self.worker = Worker(self.predictor, Parameters(), logging.getLogger())
        self.worker.start()
        self.worker.resume()
        self.worker.put(stream, Frame(SimpleNamespace(), 0.0))  # type: ignore[arg-type]
        assert self.began.wait(10)

    def predict(self, *_: Any) -> list[Any]:
        self.predictor.in_engine = True
        self.reach("infer")
        self.predictor.in_engine = False
        return [SimpleNamespace(timings={}, invalid={})]

    def reach(self, stage: str) -> None:
        if stage == self.waits_in:
            self.began.set()
            assert self.go_on.wait(10)


@pytest.mark.parametrize("stage", ["decode", "infer", "publish"])
def test_the_engine_is_blamed_for_its_own_time_alone(stage: str) -> None:
    robot = Robot(stage)
    assert robot.worker.busy and robot.worker.in_engine == (stage == "infer")
    robot.go_on.set()
    assert robot.worker.stop(10.0)
    assert len(robot.finished) == 1 and not robot.dropped


@pytest.mark.parametrize(("stage", "lost"), [("infer", True), ("publish", False)])
def test_a_frame_is_either_given_up_or_published(stage: str, lost: bool) -> None:
    robot = Robot(stage)
    robot.worker.give_up("engine_stalled")
    robot.go_on.set()
    wait_for(lambda: robot.worker.stop(10.0), "the end of the thread")
    assert robot.dropped == ["engine_stalled"] * lost and len(robot.finished) == (not lost)
