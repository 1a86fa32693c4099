# SPDX-License-Identifier: Apache-2.0
"""A robot for tests: the node in a process of its own, cameras that publish, and collectors."""

from __future__ import annotations

import array
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnx", reason="the tiny model is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")

from ros_harness import Client, Collector, NodeProcess, wait_for
from sensor_msgs.msg import CameraInfo, Image
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.ros.parameters import READ_ONLY, START, TABLE

FX = 150.0

QUICK_NODE = Path(__file__).with_name("quick_node.py")
"""Runs the node, with diagnostics that are held less long: tests wait for their end."""


class Robot:
    """The node under test with cameras `left` and `right`, and what surrounds it."""

    def __init__(self, client: Client, process: NodeProcess, models: dict[str, Path]) -> None:
        self.client = client
        self.process = process
        self.models = models
        self.collectors: list[Collector] = []
        self._publishers: dict[str, Any] = {}

    def start(self, **parameters: Any) -> None:
        """Bring the node to active with these parameters, all others at their defaults."""
        self.unconfigure()
        values = {row.name: row.default for row in TABLE if row.change not in (START, READ_ONLY)}
        values |= {"model": str(self.models["tiny"]), "cameras": ["left"], "threads": 1}
        values |= {"input_timeout": 60.0}  # tests pause as they like
        for name, value in (values | parameters).items():
            (result,) = self.client.set_parameters(**{name: value})
            assert result.successful, result.reason
        assert self.client.change_state("configure"), self.process.output
        assert self.client.change_state("activate"), self.process.output

    def unconfigure(self) -> None:
        """Close all collectors and bring the node to unconfigured."""
        for collector in self.collectors:
            collector.close()
        self.collectors.clear()
        state = self.client.state()
        if state == "active":
            assert self.client.change_state("deactivate")
        if state in ("active", "inactive"):
            assert self.client.change_state("cleanup")

    def collect(self, name: str, message_type: Any = Image) -> Collector:
        """Subscribe to a result, e.g. left/depth/image."""
        collector = self.client.collect(message_type, f"/{name}")
        self.collectors.append(collector)
        return collector

    def begin(self, *names: str, **parameters: Any) -> list[Collector]:
        """Start, and return a collector for each result, through which images have come."""
        self.start(**parameters)
        collectors = [self.collect(f"left/{name}") for name in names]
        self.flow(lambda: image(picture()), *collectors)
        return collectors

    def publish(self, topic: str, message: Any) -> None:
        """Publish on a topic to which the node has subscribed."""
        if topic not in self._publishers:
            self._publishers[topic] = self.client.publisher(type(message), f"/{topic}")
        publisher = self._publishers[topic]
        wait_for(publisher.get_subscription_count, f"a subscription of {topic}")
        publisher.publish(message)

    def flow(self, make: Any, *collectors: Collector, topic: str = "left/image") -> None:
        """Publish images until all collectors have one, then forget them: discovery is over."""
        for _ in range(200):
            self.publish(topic, make())
            time.sleep(0.05)
            if all(c.messages for c in collectors):
                break
        else:
            pytest.fail(f"no results; the node wrote:\n{self.process.output}")
        self.settle(*collectors)

    def settle(self, *collectors: Collector) -> None:
        """Wait until nothing arrives any more, then forget what has."""
        count = -1
        while count != (count := sum(len(c.messages) for c in collectors)):
            time.sleep(0.3)
        for collector in collectors:
            collector.messages.clear()


R = TypeVar("R", bound=Robot)


@contextmanager
def running(process: NodeProcess, models: dict[str, Path], kind: type[R]) -> Iterator[R]:
    """A robot of this node, which has to end well."""
    client = Client()
    try:
        yield kind(client, process, models)
    finally:
        status = process.end()
        client.close()
    assert status == 0, process.output[-3000:]
    assert "Traceback" not in process.output


@pytest.fixture(scope="module", name="robot")
def running_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """Start the node, and see it end well. Tests get it by importing it."""
    folder = tmp_path_factory.mktemp("robot")
    models = {
        "tiny": write_tiny_bundle(folder, "tiny"),
        "other": write_tiny_bundle(folder, "other"),
        "slow": write_tiny_bundle(folder, "slow", delay_loops=100),
        "broken": folder / "broken",
    }
    overrides = {
        "model": str(models["tiny"]),
        "max_depth": "20",  # an integer where the table has a double
        "trouble_hold": "1.5",  # of an earlier version
        "qos_overrides./left/normals/image.publisher.reliability": "best_effort",
        "qos_overrides./strict/image.subscription.reliability": "reliable",
        # Mistakes that show when a camera of this name is configured, or activated.
        "qos_overrides./bad_output/depth/image.publisher.reliability": "perhaps",
        "qos_overrides./bad_input/camera_info.subscription.reliability": "perhaps",
    }
    process = NodeProcess(folder / "log", overrides, program=[QUICK_NODE])
    with running(process, models, Robot) as robot:
        yield robot


def picture(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth colours, so that resizing does not blur them into something else."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y + seed * 10) % 200 + 30], axis=-1)
    return rgb.astype(np.uint8)


def image(rgb: np.ndarray, frame: str = "optical") -> Image:
    """An rgb8 message with a stamp of its own, so that outputs tell their input: the time."""
    message = Image(
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding="rgb8",
        step=3 * rgb.shape[1],
        data=array.array("B", rgb.tobytes()),
    )
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    return message


def good() -> Image:
    """An image as a camera gives it."""
    return image(picture())


def camera_info(width: int = 64, height: int = 48, fx: float = FX) -> CameraInfo:
    """A pinhole camera with its centre in the middle."""
    cx, cy = width / 2 - 0.5, height / 2 - 0.5
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fx, cy, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fx, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def pixels(message: Image) -> np.ndarray:
    """The array of a result."""
    dtype, channels = {
        "mono8": (np.uint8, 1),
        "rgb8": (np.uint8, 3),
        "32FC1": (np.float32, 1),
        "32FC3": (np.float32, 3),
    }[message.encoding]
    assert message.step == message.width * channels * np.dtype(dtype).itemsize
    shape = (message.height, message.width) + ((channels,) if channels > 1 else ())
    return np.frombuffer(message.data, dtype).reshape(shape)


def one_result(robot: Robot, message: Image, collector: Collector) -> Any:
    """Publish one image and return what comes back for its stamp."""
    robot.publish("left/image", message)
    return wait_for(
        lambda: next(
            (m for m in list(collector.messages) if m.header.stamp == message.header.stamp), None
        ),
        "the result of an image",
    )


def with_info(
    robot: Robot, info: CameraInfo, wanted: str, size: tuple[int, int] | None = None
) -> None:
    """Publish camera_info until the node uses it; images are of its size or that given."""

    def known() -> bool:
        robot.publish("left/camera_info", info)
        robot.publish("left/image", image(picture(*(size or (info.width, info.height)))))
        time.sleep(0.1)
        values = robot.client.status("left", fresh=False).values
        return wanted in {p.key: p.value for p in values}["camera_info"]

    wait_for(known, f"camera_info {wanted}")


def bad_images() -> dict[str, Image]:
    """Cause -> an image message that has this fault."""
    found = {}
    message = image(picture())
    message.height = message.width = message.step = 0
    message.data = array.array("B")
    found["zero_size"] = message
    message = image(picture())
    message.data = message.data[:-100]
    found["short_data"] = message
    message = image(picture())
    message.step = 10
    found["bad_step"] = message
    message = image(picture())
    message.encoding = "nv99"
    found["unknown_encoding"] = message
    message = image(np.full((48, 64, 4), np.nan, np.float32).view(np.uint8)[..., :3].copy())
    message.encoding = "32FC1"
    message.step = 4 * 64
    message.data = array.array("B", np.full((48, 64), np.nan, np.float32).tobytes())
    found["wrong_kind"] = message
    return found
