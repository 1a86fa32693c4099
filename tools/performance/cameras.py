# SPDX-License-Identifier: Apache-2.0
"""Cameras that cost next to nothing: the same picture again and again, at an exact rate.

    python -m tools.performance.cameras <load as JSON>

The process publishes one load and leaves the times of its images in a log.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import DataError
from tools.performance.camera_process import CameraPublisher, image_message, publish, usual_info
from tools.processes import from_word

_LEAST_PAUSE = 1e-3


@dataclass(frozen=True)
class Load:
    """What cameras send.

    Attributes:
        cameras: their namespaces; they send in turn, spread over a period.
        width, height: of the images, rgb8.
        rate: images a second of every camera.
        seconds: how long.
        picture: file whose picture they show, scaled to size; "" for noise.
        log: file for stamps and times.
    """

    cameras: tuple[str, ...] = ("camera",)
    width: int = 640
    height: int = 480
    rate: float = 30.0
    seconds: float = 10.0
    picture: str = ""
    log: str = ""

    @property
    def images(self) -> int:
        """Of each camera."""
        return max(1, round(self.rate * self.seconds))


class Cameras:
    """A load; its messages are filled once."""

    def __init__(self, node: Node, load: Load) -> None:
        """Raises DataError when the picture cannot be read."""
        self.log = StampLog()
        self.facts: dict[str, Any] = {}
        self._load = load
        self._image = image_message(_picture(load), "rgb8")
        self._info = usual_info(load.height, load.width)
        self._publishers = {
            name: CameraPublisher(
                node, name, f"{name}_optical_frame", ReliabilityPolicy.BEST_EFFORT
            )
            for name in load.cameras
        }

    def matched(self) -> bool:
        """Tell whether somebody listens to everything."""
        return all(publisher.matched() for publisher in self._publishers.values())

    def send(self, camera: str) -> None:
        """Publish an image and its info."""
        stamp = time.time_ns()
        before = self._publishers[camera].send(self._image, self._info, stamp)
        self.log.add(camera, stamp, before)

    def run(self, origin: float, stop: threading.Event) -> None:
        """Send the load; every image at its time, or at once if that has passed."""
        load = self._load
        turns = len(load.cameras)
        late = 0.0
        for number in range(load.images * turns):
            due = origin + number / (load.rate * turns)
            pause = due - time.monotonic()
            if pause > _LEAST_PAUSE and stop.wait(pause):
                break
            late = max(late, time.monotonic() - due)
            self.send(load.cameras[number % turns])
        self.log.notes["late_ms"] = 1e3 * late


def _picture(load: Load) -> np.ndarray:
    size = (load.height, load.width)
    if not load.picture:
        return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    picture = cv2.imread(load.picture)
    if picture is None:
        raise DataError(f"{load.picture} is not a picture")
    return cv2.cvtColor(cv2.resize(picture, size[::-1]), cv2.COLOR_BGR2RGB)


def main(arguments: list[str]) -> int:
    """Publish one load."""
    load = from_word(Load, arguments[0])
    return publish("bench_cameras", lambda node: Cameras(node, load), Path(load.log))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
