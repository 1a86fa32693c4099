# SPDX-License-Identifier: Apache-2.0
"""What the camera processes of benches and soaks share: a publisher, and a process around it."""

from __future__ import annotations

import array
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.ros.replay.processes import say_json

PATIENCE = 60.0
_LEAD_SECONDS = 0.4
"""Between the first subscription and the first image: the other side has to know, too."""


class Source(Protocol):
    """Cameras that send one load.

    Attributes:
        log: what was sent.
        facts: what is told when they start.
    """

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
