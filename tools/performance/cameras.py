# SPDX-License-Identifier: Apache-2.0
"""Cameras in a process of their own, and those of a bench: one picture at an exact rate.

`python -m tools.performance.cameras <load as JSON>` publishes a load and leaves the times of its
images in a log.
"""

from __future__ import annotations

import array
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import DataError, ProtoMtlError
from proto_mtl_ros.ros.replay.processes import say_json
from tools.processes import from_word

PATIENCE = 60.0
_LEAD_SECONDS = 0.4
"""Between the first subscription and the first image: the other side has to know, too."""

_LEAST_PAUSE = 1e-3


class Source(Protocol):
    """Cameras that send one load; ``log``: what was sent, ``facts``: told when they start."""

    log: StampLog
    facts: dict[str, Any]

    def matched(self) -> bool:
        """Tell whether somebody listens to everything."""
        ...

    def run(self, origin: float, stop: threading.Event) -> None:
        """Send images from ``origin``, in monotonic seconds, until they are sent or ``stop``."""
        ...


class CameraPublisher:
    """Publishes the images and camera infos of one camera, below its namespace."""

    def __init__(self, node: Node, name: str, frame: str, reliability: ReliabilityPolicy) -> None:
        qos = QoSProfile(depth=5, reliability=reliability)
        self._frame = frame
        self._infos = node.create_publisher(CameraInfo, f"/{name}/camera_info", qos)
        self._images = node.create_publisher(Image, f"/{name}/image", qos)

    def matched(self) -> bool:
        """Tell whether somebody listens to both."""
        return all(p.get_subscription_count() for p in (self._images, self._infos))

    def send(self, image: Image, info: CameraInfo, stamp: int) -> int:
        """Publish an info and its image; return the monotonic nanoseconds before the image."""
        for message in (info, image):
            message.header.frame_id = self._frame
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self._infos.publish(info)
        before = time.monotonic_ns()
        self._images.publish(image)
        return before


def image_message(pixels: np.ndarray, encoding: str) -> Image:
    """Return an image of bytes [H, W] or [H, W, C]."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=pixels[0].size)
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


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


def publish(name: str, create: Callable[[Node], Source], log: Path) -> int:
    """Send what a source has when somebody listens, until SIGINT or SIGTERM; return a status."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node(name)
    try:
        source = create(node)
    except ProtoMtlError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + PATIENCE
    while not source.matched() and not stop.is_set():
        executor.spin_once(timeout_sec=0.02)
        if time.monotonic() > end:
            print(f"{name}: nobody listens", file=sys.stderr)
            return 1
    # discovery of late comers goes on while images are sent
    thread = threading.Thread(target=executor.spin)
    thread.start()
    origin = time.monotonic() + _LEAD_SECONDS
    say_json(event="started", origin=origin, **source.facts)
    stop.wait(_LEAD_SECONDS)
    source.run(origin, stop)
    source.log.write(log)
    say_json(event="sent", count=sum(map(len, source.log.stamps.values())))
    executor.shutdown()
    thread.join()
    rclpy.try_shutdown()
    return 0


@dataclass(frozen=True)
class Load:
    """What the cameras of a bench send.

    Attributes:
        cameras: their namespaces; they send in turn, spread over a period.
        rate: images a second of every camera.
        picture: file whose picture they show as rgb8, scaled to size; "" for noise.
        log: file for stamps and times.
    """

    cameras: tuple[str, ...] = ("camera",)
    width: int = 640
    height: int = 480
    rate: float = 30.0
    seconds: float = 10.0
    picture: str = ""
    log: str = ""


class Cameras:
    """A load; its messages are filled once."""

    def __init__(self, node: Node, load: Load) -> None:
        """Raises DataError when the picture cannot be read."""
        self.log = StampLog()
        self.facts: dict[str, Any] = {}
        self._load = load
        self._image = image_message(_picture(load), "rgb8")
        self._info = usual_info(load.height, load.width)
        best_effort = ReliabilityPolicy.BEST_EFFORT
        self._publishers = {
            name: CameraPublisher(node, name, f"{name}_optical_frame", best_effort)
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
        for number in range(max(1, round(load.rate * load.seconds)) * turns):
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
