# SPDX-License-Identifier: Apache-2.0
"""Follows one image through the node's real code, and says which code a node has loaded.

    python test/support/frame_walk.py MODEL [TOPIC ...]

prints JSON: `walk`, the files of the package that are called from another file, in order, with
equal ones that follow each other joined; and `loaded`, every file of the package that the process
has loaded, with its lines. TOPIC is a result such as segmentation/image; none given: all there are.

Two nodes in one process: the product's, and a camera with listeners. A profile function sees each
call of the executor's and the worker's threads. What the node's timers do meanwhile is left out,
and so are returns: a file that a helper returns to is not called again.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

for name, value in {
    "ROS_DOMAIN_ID": str(1 + os.getpid() % 101),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "AMENT_PREFIX_PATH": sys.prefix,
}.items():
    os.environ.setdefault(name, value)

_SPEC = importlib.util.find_spec("proto_mtl_ros")
assert _SPEC is not None and _SPEC.origin is not None
PACKAGE = str(Path(_SPEC.origin).parent) + os.sep


class Tracer:
    """Records (file, function) of each call into a file of the package from another file."""

    def __init__(self) -> None:
        self.recording = False
        self.calls: list[tuple[str, str]] = []

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        if not self.recording or event != "call":
            return
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return
        caller, root = "", frame
        above = frame.f_back
        while above is not None:
            if above.f_code.co_filename.startswith(PACKAGE):
                caller = caller or above.f_code.co_filename
                root = above
            above = above.f_back
        if Path(root.f_code.co_filename).name != "node.py" and caller != file:
            self.calls.append((file.removeprefix(PACKAGE), frame.f_code.co_name))

    def walk(self) -> list[str]:
        """The files in the order of the calls, runs joined."""
        files = [file for file, _ in self.calls]
        return [f for i, f in enumerate(files) if i == 0 or f != files[i - 1]]


def main() -> None:
    """Run both nodes until one image has gone through."""
    model, *topics = sys.argv[1:]
    tracer = Tracer()
    threading.setprofile(tracer)
    import numpy as np
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2

    from proto_mtl_ros.ros.node import PerceptionNode

    for part in ("cli.main", "cli.node", "ros.process"):  # which `proto-mtl node` loads as well
        importlib.import_module(f"proto_mtl_ros.{part}")

    rclpy.init(args=[])
    types = {"depth/camera_info": CameraInfo, "points": PointCloud2}
    everything = (
        *("segmentation/image", "segmentation/confidence", "segmentation/overlay"),
        *("depth/image", "depth/camera_info", "normals/image", "normals/color", "points"),
    )
    node = PerceptionNode(threading.Event(), parameter_overrides=[Parameter("model", value=model)])
    node.trigger_configure()
    node.trigger_activate()
    camera = rclpy.create_node("camera")
    heard: dict[str, list[Any]] = {topic: [] for topic in topics or everything}
    for topic, messages in heard.items():
        kind = types.get(topic, Image)
        camera.create_subscription(kind, f"/camera/{topic}", messages.append, 10)
    images = camera.create_publisher(Image, "/camera/image", 10)
    infos = camera.create_publisher(CameraInfo, "/camera/camera_info", 10)
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    image = Image(height=48, width=64, encoding="rgb8", step=192, data=rgb.tobytes())
    image.header.frame_id = "optical"
    k = [150.0, 0.0, 31.5, 0.0, 150.0, 23.5, 0.0, 0.0, 1.0]
    p = [150.0, 0.0, 31.5, 0.0, 0.0, 150.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    info = CameraInfo(height=48, width=64, distortion_model="plumb_bob", d=[0.0] * 5, k=k, p=p)
    nodes, listeners = SingleThreadedExecutor(), SingleThreadedExecutor()
    nodes.add_node(node)
    listeners.add_node(camera)
    threads = [
        threading.Thread(target=executor.spin, daemon=True) for executor in (nodes, listeners)
    ]
    for thread in threads:
        thread.start()

    def send() -> None:
        """Publish an image and wait until every listener has its result."""
        before = {topic: len(messages) for topic, messages in heard.items()}
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        infos.publish(info)
        time.sleep(0.2)  # the camera_info is there first
        tracer.recording = True
        images.publish(image)
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            if all(len(heard[topic]) > number for topic, number in before.items()):
                break
            time.sleep(0.01)
        time.sleep(0.1)  # what follows publishing
        tracer.recording = False

    complete = False
    for _ in range(30):  # until everybody has found everybody
        tracer.calls.clear()
        send()
        if complete:
            break
        complete = all(heard.values())
    loaded = {
        file.removeprefix(PACKAGE): Path(file).read_bytes().count(b"\n")
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None) or "").startswith(PACKAGE)
    }
    libraries = sorted(name for name in sys.modules if "." not in name)
    report = {"complete": complete, "walk": tracer.walk(), "loaded": loaded, "libraries": libraries}
    print(json.dumps(report), flush=True)
    os._exit(0)  # the executors' threads still spin


if __name__ == "__main__":
    main()
