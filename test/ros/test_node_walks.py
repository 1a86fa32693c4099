# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions in every order, and storms of parameters, while images keep coming.

20 random walks by default, 200 with PROTO_MTL_CAMPAIGN=1 in the environment.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import psutil
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameters
from robot import (
    Robot,
    image,
    one_result,
    picture,
    running_robot,  # noqa: F401
)
from ros_harness import TRANSITIONS, NodeProcess, driving, wait_for
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tiny_bundle import write_tiny_bundle

pytestmark = [pytest.mark.ros, pytest.mark.timeout(3600)]

FULL = bool(os.environ.get("PROTO_MTL_CAMPAIGN"))
WALKS = 200 if FULL else 20
STEPS = 10
REQUESTS = 2000 if FULL else 400

GOALS = {
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("active", "deactivate"): "inactive",
    ("inactive", "cleanup"): "unconfigured",
}
"""State and transition -> state; every other transition is refused and changes nothing."""

CAMERAS = (["left"], ["left"], ["left", "right"], ["right", "bad_output"], ["bad_input"])


@contextmanager
def images_coming(robot: Robot, rate: float = 40.0) -> Iterator[None]:
    """Publish on left and right all the time, whoever listens."""
    publishers = [robot.client.publisher(Image, f"/{name}/image") for name in ("left", "right")]
    ended = threading.Event()

    def publish() -> None:
        while not ended.wait(1 / rate):
            for publisher in publishers:
                publisher.publish(image(picture()))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for publisher in publishers:
            robot.client.run(lambda p=publisher: robot.client.node.destroy_publisher(p))


class Walk:
    """A random walk, and what the node's state must be after each of its steps."""

    def __init__(self, robot: Robot, seed: int) -> None:
        self.robot = robot
        self.random = random.Random(seed)
        self.state = robot.client.state()
        self.cameras = robot.client.parameter("cameras")
        self.model = "tiny" if str(robot.models["tiny"]) == robot.client.parameter("model") else ""
        self.steps: list[str] = []
        self.failed_halfway = 0

    def go(self) -> None:
        kinds = (self.change_state, self.set_cameras, self.set_model, self.reload)
        for _ in range(STEPS):
            (step,) = self.random.choices(kinds, weights=(12, 2, 2, 1))
            step()

    def change_state(self) -> None:
        possible = [name for state, name in GOALS if state == self.state]
        name = self.random.choice([*TRANSITIONS, *possible, *possible])
        goal = GOALS.get((self.state, name))
        halfway = (name == "configure" and ("bad_output" in self.cameras or not self.model)) or (
            name == "activate" and "bad_input" in self.cameras
        )
        self.failed_halfway += goal is not None and halfway
        self.steps.append(name)
        done = self.robot.client.change_state(name)
        assert done == (goal is not None and not halfway), (self.state, self.steps)
        self.state = goal if done and goal else self.state
        assert self.robot.client.state() == self.state, self.steps

    def set_cameras(self) -> None:
        cameras = self.random.choice(CAMERAS)
        (result,) = self.robot.client.set_parameters(cameras=cameras)
        assert result.successful == (self.state == "unconfigured"), self.steps
        self.steps.append(f"cameras {cameras} {result.successful}")
        if result.successful:
            self.cameras = cameras

    def set_model(self) -> None:
        self.model = self.random.choice(("tiny", "other", ""))
        path = self.robot.models[self.model or "broken"]
        assert self.robot.client.set_parameters(model=str(path))[0].successful
        self.steps.append(f"model {self.model}")

    def reload(self) -> None:
        # The answer is not waited for, so that the next steps come in the middle.
        self.steps.append("reload")
        self.robot.client.send(Trigger, "reload_model", Trigger.Request())


@pytest.mark.slow
def test_random_walks_through_the_lifecycle(robot: Robot, record_fault: Callable) -> None:
    process = psutil.Process(robot.process.process.pid)
    robot.start()
    robot.client.call(Trigger, "reload_model", Trigger.Request())
    usage: list[tuple[int, int, float]] = []
    steps = halfway = 0
    for seed in range(WALKS):
        with images_coming(robot):
            walk = Walk(robot, seed)
            walk.go()
            steps += len(walk.steps)
            halfway += walk.failed_halfway
            # a reload may still be under way, and cleaning up ends it
            robot.start()
            masks = robot.collect("left/segmentation/image")
            wait_for(lambda m=masks: m.messages, f"a result after {walk.steps}")
        usage.append((process.num_threads(), process.num_fds(), process.memory_info().rss / 2**20))
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    one_result(robot, image(picture()), masks)
    fifth = max(4, WALKS // 5)
    first, last = usage[fifth : 2 * fifth], usage[-fifth:]
    growth = {
        name: statistics.median(row[i] for row in last) - statistics.median(row[i] for row in first)
        for i, name in enumerate(("threads", "descriptors", "MiB"))
    }
    print(f"\n{WALKS} walks, {steps} steps, {halfway} failed half way; growth {growth}; {usage}")
    assert halfway >= WALKS // 10
    assert growth["threads"] <= 2 and growth["descriptors"] <= 4, usage
    assert growth["MiB"] < 8 + 0.05 * WALKS, usage
    record_fault(
        "lifecycle",
        f"random walks of {STEPS} steps through the lifecycle, images coming throughout",
        tried=WALKS,
        seen=f"every transition answered as its state demands; {halfway} failed half way, with a "
        f"reason; from the second to the last fifth {growth['threads']:+.0f} threads, "
        f"{growth['descriptors']:+.0f} descriptors, {growth['MiB']:+.1f} MiB",
    )


@pytest.mark.slow
def test_shutdown_from_every_state_is_final(tmp_path: Path, record_fault: Callable) -> None:
    """The node then refuses every transition, still answers, and ends by a signal with 0."""
    model = write_tiny_bundle(tmp_path, "tiny")
    states = {
        "unconfigured": ([], Transition.TRANSITION_UNCONFIGURED_SHUTDOWN),
        "inactive": (["configure"], Transition.TRANSITION_INACTIVE_SHUTDOWN),
        "active": (["configure", "activate"], Transition.TRANSITION_ACTIVE_SHUTDOWN),
    }
    processes = {
        state: NodeProcess(tmp_path / state, {"model": str(model)}, ["-r", f"__node:=shut_{state}"])
        for state in states
    }
    with driving(*processes.values()) as client:
        for state, (transitions, shutdown) in states.items():
            client.target = f"/shut_{state}"
            for name in transitions:
                assert client.change_state(name)
            request = ChangeState.Request(transition=Transition(id=shutdown))
            assert client.call(ChangeState, "change_state", request).success
            assert client.state() == "finalized"
            assert not any(client.change_state(name) for name in TRANSITIONS)
            assert client.set_parameters(confidence_threshold=3)[0].successful
            assert client.state() == "finalized"
        for process in processes.values():
            assert process.end() == 0, process.output
            assert "Traceback" not in process.output
    record_fault(
        "lifecycle",
        "shutdown from every state, then every other transition",
        tried=len(states),
        seen="finalized; transitions are refused; exit status 0 by SIGINT",
    )


# Name -> values that are taken and values that are refused, while the node is active.
STORM: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "confidence_threshold": ((0, 7, 255), (-1, 256, "high", 2**40, [1])),
    "max_depth": ((0.0, 3.0, 900.0), (3, float("nan"), float("inf"), -1.0, "far")),
    "input_timeout": ((0.5, 60.0), (0.0, -0.1, True)),
    "max_batch": ((1, 4, 32), (0, 33, 1.5)),
    "max_rate": (([0.0], [500.0], [1000.0, 0.0]), ([], [-1.0], 5.0, ["x"])),
    "threads": ((0, 1, 256), (-1, 257)),
    "input_size": (([0, 0], [64, 96]), ([33, 32], [32], [0, 32], "big")),
    "device": (("cpu", "cuda:0"), ("", 3)),
    "engine_timeout": ((5.0, 60.0), (60, 0.0, -1.0)),
    "cameras": ((), (["right"], [], ["a b"])),
    "output_size": ((), ("network", "huge")),
    "class_names": ((), (["cat"], [])),
    "no_such_parameter": ((), (1, "x")),
}


def test_a_storm_of_parameters_while_images_flow(robot: Robot, record_fault: Callable) -> None:
    """From several clients at once; each answer is right, and the last good value holds."""
    (masks,) = robot.begin("segmentation/image")
    node = robot.client.node
    one, all_or_nothing = "set_parameters", "set_parameters_atomically"
    kinds = [(SetParameters, one), (SetParameters, one), (SetParametersAtomically, all_or_nothing)]
    clients = [
        node.create_client(
            kind, f"{robot.client.target}/{name}", qos_profile=qos_profile_parameters
        )
        for kind, name in kinds
    ]
    for client in clients:
        assert client.wait_for_service(10.0)
        answer = client.call_async(client.srv_type.Request())
        wait_for(answer.done, "the way back")
    chance = random.Random(1)
    calls: list[tuple[Any, str, Any, bool]] = []
    last: dict[str, Any] = {}
    answers = robot.client.values("left")
    with images_coming(robot):
        for _ in range(REQUESTS):
            name = chance.choice(list(STORM))
            good, bad = STORM[name]
            valid = bool(good) and chance.random() < 0.5
            value = chance.choice(good if valid else bad)
            # One client for each parameter: only their own requests are sure to stay in order.
            client = clients[sorted(STORM).index(name) % len(clients)]
            changes = [Parameter(name, value=value).to_parameter_msg()]
            if client is clients[-1] and not valid:  # all or nothing
                changes.insert(0, Parameter("min_depth", value=0.5).to_parameter_msg())
            answer = client.call_async(client.srv_type.Request(parameters=changes))
            calls.append((answer, name, value, valid))
            if valid:
                last[name] = value
            if chance.random() < 0.05:
                time.sleep(0.01)
        wait_for(lambda: all(call[0].done() for call in calls), "all answers")
        wait_for(lambda: len(masks.messages) > 10, "results in the storm")
    wrong = []
    for answer, name, value, valid in calls:
        result = answer.result()
        results = result.results if hasattr(result, "results") else [result.result]
        if any(r.successful != valid or r.successful == bool(r.reason) for r in results):
            wrong.append((name, value, valid, results))
    assert not wrong
    for name, value in last.items():
        assert robot.client.parameter(name) == value, name
    assert robot.client.parameter("min_depth") == 0.0
    assert "a callback failed" not in robot.process.output

    def settled() -> bool:
        values = robot.client.values("left")
        accounted = sum(int(values[key]) for key in ("processed", "dropped", "skipped"))
        return int(answers["received"]) < int(values["received"]) == accounted

    wait_for(settled, "every image to be counted")
    (masks,) = robot.begin("segmentation/image")
    one_result(robot, image(picture()), masks)
    record_fault(
        "parameters",
        "storm of set_parameters, good and bad, from three clients while images flow",
        tried=REQUESTS,
        seen="each answered: taken, or refused with a reason and nothing changed",
    )
