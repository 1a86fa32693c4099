# SPDX-License-Identifier: Apache-2.0
"""What an operator of a running node sees of faults: /diagnostics, and lines of the log."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robot import Robot
from ros_harness import wait_for
from sensor_msgs.msg import CameraInfo

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"

CAMPAIGN = os.environ.get("PROTO_MTL_CAMPAIGN") == "1"
"""Whether the campaign runs in full."""

RECOVERY = 90.0
"""Seconds of patience for the end of a trouble: held 5 s, and up to 60 s when it kept returning."""


def told(robot: Robot, cause: str, level: bytes = WARN, camera: str = "left") -> str:
    """Wait until a camera's status names a cause at this level at least; returns its message."""

    def found() -> str:
        status = robot.client.status(camera)
        return (
            str(status.message) if f"{cause}: " in status.message and status.level >= level else ""
        )

    return str(wait_for(found, f"{cause} on /diagnostics", RECOVERY))


def well_again(robot: Robot, camera: str = "left") -> None:
    """Wait until a camera's status is OK."""
    said = [""]

    def well() -> bool:
        status = robot.client.status(camera)
        said[0] = status.message
        return bool(status.level == OK)

    end = time.monotonic() + RECOVERY
    while not well():
        assert time.monotonic() < end, f"/diagnostics still says: {said[0]}"


def counted(robot: Robot, camera: str = "left") -> int:
    """Images that are in no counter: 0, or 1 while one is in work."""
    values = robot.client.values(camera)
    return int(values["received"]) - sum(
        int(values[key]) for key in ("processed", "dropped", "skipped")
    )


def lines(output: str, camera: str, cause: str) -> tuple[int, int]:
    """How many lines of a log say that a trouble has begun, and that it is over."""
    begun = re.findall(rf"\]: {camera}: {cause}: ", output)
    over = re.findall(rf"\]: {camera}: {cause} is over", output)
    return len(begun), len(over)


def resident_mib(pid: int) -> float:
    """Memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Stream:
    """A camera that publishes from a thread of its own while the block runs.

    make: gives the next image; it and `hz` may be changed meanwhile. info: goes with each image.
    """

    def __init__(
        self,
        robot: Robot,
        make: Callable[[], Any],
        hz: float,
        camera: str = "left",
        info: CameraInfo | None = None,
    ) -> None:
        self.make, self.hz, self.info = make, hz, info
        self.sent = 0
        self._robot, self._camera = robot, camera
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0 / self.hz, time.monotonic() - 0.1)
            if self.info is not None:
                self._robot.publish(f"{self._camera}/camera_info", self.info)
            self._robot.publish(f"{self._camera}/image", self.make())
            self.sent += 1
