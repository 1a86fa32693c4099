# SPDX-License-Identifier: Apache-2.0
"""The highest rate of the node: the next image is sent when the last one's results have come."""

from __future__ import annotations

import array
import time
from functools import partial
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.ros.replay.processes import Child, LifecycleClient, adopt_environment, own_node
from proto_mtl_ros.runtime.bundle import Bundle

_WIDTH, _HEIGHT = 640, 480
_RESULTS = ("segmentation/image", "depth/image", "normals/image")
_PATIENCE_SECONDS = 60.0


def node_rate(bundle: Bundle, threads: int, seconds: float) -> dict[str, Any]:
    """Start a node on a ROS domain of its own, measure it, end it.

    Returns results, rate_hz, and ms: of each image, from sending it to its last result that the
    model gives. Raises ProtoMtlError when the node cannot start, or stops answering.
    """
    names = [name for name in _RESULTS if name.partition("/")[0] in bundle.manifest.tasks]
    environment = adopt_environment() | {"OMP_WAIT_POLICY": "passive"}
    arguments = ["proto_mtl_ros.cli", "node", "--ros-args"]
    for key, value in (("model", bundle.path), ("threads", threads), ("cameras", "[camera]")):
        arguments += ["-p", f"{key}:={value}"]
    with own_node("bench") as node, ScratchFolder("bench") as folder:
        child = Child("node", arguments, environment, folder / "node.log")
        try:
            client = LifecycleClient(node, "/proto_mtl", child.check)
            client.wait(_PATIENCE_SECONDS)
            client.bring_up(child, _PATIENCE_SECONDS)
            client.close()
            return _measure(node, names, child, seconds)
        finally:
            child.stop()


def _measure(node: Node, names: list[str], child: Child, seconds: float) -> dict[str, Any]:
    publisher = node.create_publisher(Image, "/camera/image", qos_profile_sensor_data)
    arrived: set[tuple[str, int]] = set()

    def note(name: str, message: Any) -> None:
        arrived.add((name, message.header.stamp.sec))

    for name in names:
        node.create_subscription(Image, f"/camera/{name}", partial(note, name), 10)
    noise = np.random.default_rng(0).integers(0, 256, _HEIGHT * _WIDTH * 3, np.uint8)
    message = Image(height=_HEIGHT, width=_WIDTH, encoding="rgb8", step=3 * _WIDTH)
    message.header.frame_id = "camera"
    message.data = array.array("B", noise.tobytes())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    times: list[float] = []
    number, warm, end = 0, time.monotonic() + 1.0, 0.0
    limit = time.monotonic() + _PATIENCE_SECONDS
    try:
        while not end or time.monotonic() < end:
            number += 1
            message.header.stamp.sec = number
            start = time.monotonic()
            publisher.publish(message)
            wanted = {(name, number) for name in names}
            while not wanted <= arrived and time.monotonic() < start + 1.0:
                executor.spin_once(timeout_sec=0.1)
            child.check()
            now = time.monotonic()
            if not wanted <= arrived:  # discovery, or a lost image
                if now > limit:
                    raise ProtoMtlError(f"the node gives no results: {child.last_lines(1)}")
                continue
            limit = now + _PATIENCE_SECONDS
            if end:
                times.append(1e3 * (now - start))
            elif now > warm:
                end = now + seconds
    finally:
        executor.shutdown()
    return {"results": names, "rate_hz": round(1e3 * len(times) / sum(times), 1), "ms": times}
