# SPDX-License-Identifier: Apache-2.0
"""A robot whose node runs an engine that fails on demand, and what its operator sees."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_node import fault_file, release
from robot import Robot, image, picture, running
from ros_harness import NodeProcess, wait_for
from std_srvs.srv import Trigger
from tiny_bundle import write_tiny_bundle

PROGRAM = Path(__file__).with_name("faulty_node.py")


class FaultyRobot(Robot):
    """A robot whose engine fails on demand."""

    faults: Path
    systemd: socket.socket

    def set_fault(self, fault: str = "", backend: str = "") -> None:
        """Switch a fault on, or off with an empty name."""
        fault_file(self.faults, fault, backend)

    def begin(self, *names: str, **parameters: Any) -> list[Any]:
        """As any robot, without a fault."""
        self.set_fault()
        return super().begin(*names, **parameters)

    def signs_of_life(self) -> list[str]:
        """What systemd would have got since the last call."""
        signs = []
        with contextlib.suppress(BlockingIOError):
            while True:
                signs.append(self.systemd.recv(100).decode())
        return signs

    def engine(self) -> Any:
        """The newest status of the engine."""
        return self.client.status("engine", fresh=False)

    def value(self, key: str, status: str = "engine") -> str:
        """A value of the newest status of the engine, or of a camera."""
        pairs = self.client.status(status, fresh=False).values
        return {pair.key: pair.value for pair in pairs}.get(key, "")

    def dropped(self, cause: str) -> int:
        """Images of the left camera that were dropped by this cause."""
        return int(self.value(f"drops.{cause}", "left") or 0)

    def reload(self) -> None:
        """Load the model anew, which works."""
        answer = self.client.call(Trigger, "reload_model", Trigger.Request())
        assert answer.success, answer.message

    def wait_for_results(self, collector: Any) -> None:
        """Publish until results come again, as a camera does."""
        collector.messages.clear()

        def arrived() -> bool:
            self.publish("left/image", image(picture()))
            time.sleep(0.1)
            return bool(collector.messages)

        wait_for(arrived, f"results; the node wrote {self.process.output}")
        self.settle(collector)

    def lost_without_a_cause(self) -> int:
        """Images of the left camera that no counter has, once none is in work."""

        def missing() -> int:
            values = self.client.values("left")
            counted = sum(int(values[key]) for key in ("processed", "dropped", "skipped"))
            return int(values["received"]) - counted

        end = time.monotonic() + 5.0
        while missing() and time.monotonic() < end:
            time.sleep(0.1)
        return missing()


@pytest.fixture(scope="module", name="robot")
def faulty_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRobot]:
    """The node with an engine that can fail; it ends well after all that."""
    folder = tmp_path_factory.mktemp("faulty")
    models = {
        "tiny": write_tiny_bundle(folder, "tiny"),
        "slow": write_tiny_bundle(folder, "slow", delay_loops=100),
    }
    program = (PROGRAM, folder / "fault")
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    systemd.bind(str(folder / "notify"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        process = NodeProcess(folder / "log", {"model": str(models["tiny"])}, program=program)
    with running(process, models, FaultyRobot) as robot:
        robot.faults = folder / "fault"
        robot.systemd = systemd
        yield robot
        robot.set_fault()
        release(robot.faults)
