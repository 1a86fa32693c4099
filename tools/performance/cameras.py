# SPDX-License-Identifier: Apache-2.0
"""Cameras that cost next to nothing: the same picture again and again, at an exact rate.

    python -m tools.performance.cameras <load as JSON>

The process publishes one load and leaves the times of its images in a log.
"""

from __future__ import annotations

import array
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.ros.replay.processes import exit_on_sigterm, say_json

_PATIENCE = 30.0
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

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        content = json.loads(text)
        return cls(**{**content, "cameras": tuple(content["cameras"])})

    @property
    def images(self) -> int:
        """Of each camera."""
        return max(1, round(self.rate * self.seconds))


def usual_info(height: int, width: int) -> CameraInfo:
    """Return a calibration about that of a Kinect."""
    focal, x, y = 519.0 * width / 640, (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


class Cameras:
    """Publishers of images and camera infos, filled once."""

    def __init__(self, node: Node, load: Load) -> None:
        self._node, self._load = node, load
        pixels = _picture(load)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._image = Image(
            height=load.height, width=load.width, encoding="rgb8", step=3 * load.width
        )
        self._image.data = array.array("B", pixels.tobytes())
        self._info = usual_info(load.height, load.width)
        self._publishers = {
            name: (
                node.create_publisher(Image, f"/{name}/image", qos),
                node.create_publisher(CameraInfo, f"/{name}/camera_info", qos),
            )
            for name in load.cameras
        }

    def matched(self) -> bool:
        """Tell whether somebody listens to everything."""
        every = (publisher for pair in self._publishers.values() for publisher in pair)
        return all(publisher.get_subscription_count() for publisher in every)

    def send(self, camera: str) -> tuple[int, int]:
        """Publish an image and its info; return its stamp and the monotonic time before it."""
        stamp = self._node.get_clock().now().nanoseconds
        for message in (self._image, self._info):
            message.header.frame_id = f"{camera}_optical_frame"
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        images, infos = self._publishers[camera]
        infos.publish(self._info)
        before = time.monotonic_ns()
        images.publish(self._image)
        return stamp, before

    def run(self, log: StampLog) -> None:
        """Send the load; every image at its time, or at once if that has passed."""
        load = self._load
        turns = len(load.cameras)
        start = time.monotonic() + 0.1
        late = 0.0
        for number in range(load.images * turns):
            due = start + number / (load.rate * turns)
            pause = due - time.monotonic()
            if pause > _LEAST_PAUSE:
                time.sleep(pause)
            late = max(late, time.monotonic() - due)
            camera = load.cameras[number % turns]
            log.add(camera, *self.send(camera))
        log.notes["late_ms"] = 1e3 * late


def _picture(load: Load) -> np.ndarray:
    size = (load.height, load.width)
    if not load.picture:
        return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    picture = cv2.imread(load.picture)
    if picture is None:
        raise SystemExit(f"{load.picture} is not a picture")
    return cv2.cvtColor(cv2.resize(picture, size[::-1]), cv2.COLOR_BGR2RGB)


def main(arguments: list[str]) -> int:
    """Publish one load."""
    exit_on_sigterm()
    load = Load.from_json(arguments[0])
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("bench_cameras")
    cameras = Cameras(node, load)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + _PATIENCE
    while not cameras.matched():
        executor.spin_once(timeout_sec=0.02)
        if time.monotonic() > end:
            print("nobody listens to the cameras", file=sys.stderr)
            return 1
    # discovery of late comers goes on while images are sent
    thread = threading.Thread(target=executor.spin)
    thread.start()
    time.sleep(0.3)
    say_json(event="started")
    log = StampLog()
    cameras.run(log)
    log.write(Path(load.log))
    say_json(event="sent", count=sum(map(len, log.stamps.values())))
    rclpy.try_shutdown()  # which ends the executor
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
