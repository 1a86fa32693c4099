# SPDX-License-Identifier: Apache-2.0
"""The node in a process of its own, over real DDS: what it publishes and when."""

from __future__ import annotations

import array
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnx", reason="the tiny model is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")

from ros_harness import Client, Collector, NodeProcess, wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import SetBool, Trigger
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.geometry import Camera, depth_to_points
from proto_mtl_ros.ros import messages
from proto_mtl_ros.ros.parameter_table import CONFIGURE, READ_ONLY, TABLE
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Predictor

pytestmark = pytest.mark.ros

FX = 150.0
STAMPS = itertools.count(1)
"""Every frame of this file has a stamp of its own, so that outputs tell their input."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "tiny": write_tiny_bundle(folder, "tiny"),
        "other": write_tiny_bundle(folder, "other"),
        "slow": write_tiny_bundle(folder, "slow", delay_loops=100),
        "broken": folder / "broken",
    }


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


class Robot:
    """The node under test with cameras `left` and `right`, and what surrounds it."""

    def __init__(self, client: Client, process: NodeProcess, models: dict[str, Path]) -> None:
        self.client = client
        self.process = process
        self.models = models
        self._collectors: list[Collector] = []
        self._publishers: dict[str, Any] = {}

    def start(self, **parameters: Any) -> None:
        """Bring the node to active with these parameters, all others at their defaults."""
        self.unconfigure()
        values = {row.name: row.default for row in TABLE if row.change != READ_ONLY}
        values |= {"model": str(self.models["tiny"]), "cameras": ["left"], "threads": 1}
        values |= {"input_timeout": 60.0}  # tests pause as they like
        for name, value in (values | parameters).items():
            (result,) = self.client.set_parameters(**{name: value})
            assert result.successful, result.reason
        assert self.client.change_state("configure"), self.process.output
        assert self.client.change_state("activate"), self.process.output

    def unconfigure(self) -> None:
        """Close all collectors and bring the node to unconfigured."""
        for collector in self._collectors:
            collector.close()
        self._collectors.clear()
        state = self.client.state()
        if state == "active":
            assert self.client.change_state("deactivate")
        if state in ("active", "inactive"):
            assert self.client.change_state("cleanup")

    def collect(self, name: str, message_type: Any = Image) -> Collector:
        """Subscribe to a result, e.g. left/depth/image."""
        collector = self.client.collect(message_type, f"/{name}")
        self._collectors.append(collector)
        return collector

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


@pytest.fixture(scope="module")
def robot(
    client: Client, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    overrides = {
        "model": str(models["tiny"]),
        "max_depth": "20",  # an integer where the table has a double
        "qos_overrides./left/normals/image.publisher.reliability": "best_effort",
    }
    process = NodeProcess(tmp_path_factory.mktemp("node") / "log", overrides)
    yield Robot(client, process, models)
    assert process.end() == 0, process.output
    assert "Traceback" not in process.output


def picture(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth colours, so that resizing does not blur them into something else."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y + seed * 10) % 200 + 30], axis=-1)
    return rgb.astype(np.uint8)


def image(rgb: np.ndarray, frame: str = "optical") -> Image:
    """An rgb8 message with a stamp of its own."""
    message = Image(
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding="rgb8",
        step=3 * rgb.shape[1],
        data=array.array("B", rgb.tobytes()),
    )
    message.header.frame_id = frame
    message.header.stamp.sec = next(STAMPS)
    message.header.stamp.nanosec = 123456789
    return message


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


def with_info(robot: Robot, info: CameraInfo, wanted: str) -> None:
    """Publish camera_info until the node uses it."""

    def known() -> bool:
        robot.publish("left/camera_info", info)
        robot.publish("left/image", image(picture(info.width, info.height)))
        time.sleep(0.1)
        values = robot.client.status("left", fresh=False).values
        return wanted in {p.key: p.value for p in values}["camera_info"]

    wait_for(known, f"camera_info {wanted}")


def test_lifecycle(robot: Robot) -> None:
    client = robot.client
    robot.unconfigure()
    assert client.state() == "unconfigured"
    assert client.parameter("class_names") == [""]
    robot.start()
    assert client.state() == "active"
    classes = list(Bundle.load(robot.models["tiny"]).classes)
    assert client.parameter("class_names") == classes
    assert client.values("engine")["state"] == "active"
    for _ in range(2):
        assert client.change_state("deactivate")
        assert client.state() == "inactive"
        assert client.change_state("activate")
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    assert client.change_state("deactivate")
    assert client.change_state("cleanup")
    assert client.state() == "unconfigured"
    assert client.parameter("class_names") == [""]


def test_one_output_with_the_same_header_for_every_input(robot: Robot) -> None:
    robot.start()
    names = ("segmentation/image", "segmentation/confidence", "depth/image", "normals/color")
    outputs = [robot.collect(f"left/{name}") for name in names]
    robot.flow(lambda: image(picture()), *outputs)
    sent = []
    for i in range(20):
        message = image(picture(seed=i), frame=f"frame_{i}")
        sent.append(message.header)
        robot.publish("left/image", message)
        wait_for(lambda: all(len(o.messages) == len(sent) for o in outputs), "an output")
    time.sleep(0.2)
    for output in outputs:
        assert [m.header for m in output.messages] == sent


def test_values_are_those_of_the_predictor(robot: Robot) -> None:
    robot.start(max_depth=0.0)
    types = {"points": PointCloud2, "depth/camera_info": CameraInfo}
    names = ("segmentation/image", "segmentation/confidence", "segmentation/overlay",
             "depth/image", "depth/camera_info", "normals/color", "points")  # fmt: skip
    outputs = {name: robot.collect(f"left/{name}", types.get(name, Image)) for name in names}
    with_info(robot, camera_info(), "calibrated")
    robot.flow(lambda: image(picture()), *outputs.values())
    rgb = picture(seed=3)
    message = image(rgb)
    one_result(robot, message, outputs["points"])
    got = {
        name: wait_for(
            lambda c=c: next((m for m in c.messages if m.header == message.header), None), name
        )
        for name, c in outputs.items()
    }
    bundle = Bundle.load(robot.models["tiny"])
    predictor = Predictor(bundle, create_engine(bundle, "onnxruntime"))
    info = camera_info()
    camera = messages.read_camera(info, rectified=False)
    assert camera is not None
    expected = predictor.predict(rgb, camera)
    predictor.close()
    assert np.array_equal(pixels(got["segmentation/image"]), expected.segmentation)
    assert len(np.unique(expected.segmentation)) > 5
    assert np.array_equal(pixels(got["segmentation/confidence"]), expected.confidence)
    assert np.array_equal(pixels(got["depth/image"]), expected.depth)
    # By hand as well: the image is enlarged by two, so fx at the network is 300, the canonical.
    assert pixels(got["depth/image"])[20, 30] == pytest.approx(rgb[20, 30, 2] / 25.5, rel=0.02)
    overlay = pixels(got["segmentation/overlay"])
    assert overlay.shape == rgb.shape and not np.array_equal(overlay, rgb)
    assert pixels(got["normals/color"])[0, 0, 2] > 200
    assert list(got["depth/camera_info"].k) == list(info.k)
    cloud = np.frombuffer(got["points"].data, messages.POINT).reshape(48, 64)
    xyz = np.stack([cloud[axis] for axis in "xyz"], axis=-1)
    assert np.array_equal(xyz, depth_to_points(expected.depth, camera), equal_nan=True)
    assert np.array_equal(cloud["label"], expected.segmentation)
    assert np.array_equal(cloud["rgb"] >> 16 & 255, rgb[..., 0])


def test_no_subscriber_no_inference(robot: Robot) -> None:
    robot.start()
    client = robot.client
    robot.publish("left/image", image(picture()))
    wait_for(lambda: client.values("left")["received"] != "0", "an image")
    before = client.values("left")
    for _ in range(10):
        robot.publish("left/image", image(picture()))
        time.sleep(0.03)
    wait_for(lambda: int(client.values("left")["received"]) == int(before["received"]) + 10, "10")
    assert client.values("engine")["inferences"] == "0"
    after = client.values("left")
    assert after["processed"] == "0"
    skipped, overwritten = int(after["skipped.no_subscribers"]), int(after["drops.overwritten"])
    assert skipped + overwritten == int(after["received"])

    assert client.set_parameters(force_inference=True)[0].successful
    robot.publish("left/image", image(picture()))
    wait_for(lambda: client.values("engine")["inferences"] == "1", "forced inference")
    assert client.set_parameters(force_inference=False)[0].successful

    depth = robot.collect("left/depth/image")
    robot.flow(lambda: image(picture()), depth)
    assert int(client.values("engine")["inferences"]) > 1


def test_newest_frame_wins_and_the_rest_is_counted(robot: Robot) -> None:
    robot.start(model=str(robot.models["slow"]))
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    sent = []
    for _ in range(25):
        message = image(picture())
        sent.append((message.header.stamp.sec, message.header.stamp.nanosec))
        robot.publish("left/image", message)
        time.sleep(0.02)
    wait_for(lambda: masks.stamps() and masks.stamps()[-1] == sent[-1], "the newest frame")
    stamps = masks.stamps()
    assert stamps == sorted(set(stamps))
    assert len(stamps) < len(sent)
    values = robot.client.values("left")
    assert int(values["drops.overwritten"]) >= len(sent) - len(stamps)
    accounted = sum(int(values[key]) for key in ("processed", "dropped", "skipped"))
    assert int(values["received"]) == accounted
    assert float(values["latency_ms.infer.p50"]) > 10
    assert float(values["latency_ms.total.p95"]) >= float(values["latency_ms.total.p50"])


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


def test_malformed_images_are_counted_by_cause_and_survived(robot: Robot) -> None:
    robot.start()
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    faults = bad_images()
    for message in faults.values():
        for _ in range(2):
            robot.publish("left/image", message)
            time.sleep(0.1)
    status = robot.client.status("left")
    values = {p.key: p.value for p in status.values}
    assert {cause: values.get(f"bad.{cause}") for cause in faults} == dict.fromkeys(faults, "2")
    assert status.level != b"\x00"
    assert "bad message" in status.message
    assert not masks.messages
    assert one_result(robot, image(picture()), masks).height == 48


def test_resolution_changes_mid_stream(robot: Robot) -> None:
    robot.start()
    depth = robot.collect("left/depth/image")
    robot.flow(lambda: image(picture()), depth)
    for width, height in ((64, 48), (80, 40), (31, 77), (64, 48)):
        result = one_result(robot, image(picture(width, height)), depth)
        assert (result.width, result.height) == (width, height)
        assert pixels(result).shape == (height, width)


def test_parameters_are_refused_with_a_reason(robot: Robot) -> None:
    robot.start()
    client = robot.client
    for name, value, reason in (
        ("confidence_threshold", 300, "300"),
        ("confidence_threshold", "high", "type"),
        ("overlay_opacity", -0.5, "0"),
        ("cameras", ["right"], "unconfigured"),
        ("class_names", ["cat"], "set by the node"),
        ("max_depth", float("nan"), "nan"),
        ("no_such_parameter", 1, "declared"),
    ):
        (result,) = client.set_parameters(**{name: value})
        assert not result.successful
        assert reason in result.reason, result.reason
    assert client.set_parameters(max_depth=5.0)[0].successful
    (result,) = client.set_parameters(min_depth=6.0)
    assert not result.successful and "less than max_depth" in result.reason
    assert client.parameter("confidence_threshold") == 0
    assert client.parameter("min_depth") == 0.0
    descriptor = client.descriptor("confidence_threshold")
    assert descriptor.integer_range[0].to_value == 255 and descriptor.description
    for row in TABLE:
        if row.change == CONFIGURE:
            assert not client.set_parameters(**{row.name: row.default})[0].successful


def test_dynamic_parameters_act_at_once(robot: Robot) -> None:
    robot.start()
    masks = robot.collect("left/segmentation/image")
    depth = robot.collect("left/depth/image")
    robot.flow(lambda: image(picture()), masks, depth)
    assert (pixels(one_result(robot, image(picture()), masks)) < 13).all()
    client = robot.client
    assert client.set_parameters(confidence_threshold=201)[0].successful  # all have 200
    assert (pixels(one_result(robot, image(picture()), masks)) == 255).all()
    assert client.set_parameters(confidence_threshold=200)[0].successful
    assert (pixels(one_result(robot, image(picture()), masks)) < 13).all()
    plain = pixels(one_result(robot, image(picture()), depth))
    assert client.set_parameters(max_depth=4.0)[0].successful
    assert client.set_parameters(min_depth=3.0)[0].successful
    limited = pixels(one_result(robot, image(picture()), depth))
    assert np.array_equal(np.isneginf(limited), plain < 3.0)
    assert np.array_equal(np.isposinf(limited), plain > 4.0)
    assert np.isneginf(limited).any() and np.isposinf(limited).any()


def test_enable_service(robot: Robot) -> None:
    robot.start()
    client = robot.client
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    assert client.call(SetBool, "enable", SetBool.Request(data=False)).success
    assert client.parameter("enabled") is False
    robot.publish("left/image", image(picture()))
    wait_for(lambda: "skipped.disabled" in client.values("left"), "a skipped image")
    assert not masks.messages
    assert "disabled" in client.values("left")["state"]
    assert client.call(SetBool, "enable", SetBool.Request(data=True)).success
    one_result(robot, image(picture()), masks)


def test_reload_keeps_the_old_model_when_the_new_one_fails(robot: Robot) -> None:
    robot.start()
    client = robot.client
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    broken = write_tiny_bundle(robot.models["broken"].parent, "broken")
    graph = broken / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-50])
    for model, reason in ((broken, "damaged"), (broken / "nothing", "there is no")):
        assert client.set_parameters(model=str(model))[0].successful
        answer = client.call(Trigger, "reload_model", Trigger.Request())
        assert not answer.success
        assert reason in answer.message and "old model keeps running" in answer.message
        assert client.state() == "active"
        one_result(robot, image(picture()), masks)
        assert client.values("engine")["model"] == "tiny"
    assert client.set_parameters(model=str(robot.models["other"]))[0].successful
    answer = client.call(Trigger, "reload_model", Trigger.Request())
    assert answer.success and "other" in answer.message
    one_result(robot, image(picture()), masks)
    assert client.values("engine")["model"] == "other"
    robot.unconfigure()
    answer = client.call(Trigger, "reload_model", Trigger.Request())
    assert not answer.success and "configure" in answer.message


def test_unknown_backend_or_model_leaves_the_node_unconfigured(robot: Robot) -> None:
    robot.unconfigure()
    client = robot.client
    for name, value in (("backend", "abacus"), ("model", "no_such_model")):
        robot.start()
        robot.unconfigure()
        assert client.set_parameters(**{name: value})[0].successful
        before = robot.process.output
        assert not client.change_state("configure")
        new = robot.process.output.removeprefix(before).strip().splitlines()
        assert len(new) == 1 and "configure failed" in new[0] and value in new[0]
        assert client.state() == "unconfigured"
        status = client.status("engine")
        assert status.level == b"\x02" and value in status.message
    robot.start()
    assert client.status("engine").level == b"\x00"


def test_compressed_images(robot: Robot) -> None:
    robot.start(image_transport="compressed")
    masks = robot.collect("left/segmentation/image")
    rgb = np.full((48, 64, 3), (110, 50, 90), np.uint8)

    def message(data: bytes | None = None, kind: str = "jpeg") -> CompressedImage:
        content = encode_compressed(rgb, kind).tobytes() if data is None else data
        result = CompressedImage(
            header=image(rgb).header, format=kind, data=array.array("B", content)
        )
        return result

    topic = "left/image/compressed"
    robot.flow(message, masks, topic=topic)
    for bad in (b"", b"nonsense", message().data.tobytes()[:200]):
        robot.publish(topic, message(bad))
        time.sleep(0.1)
    good = message(kind="png")
    robot.publish(topic, good)
    wait_for(lambda: masks.messages, "the mask of a good image")
    assert [m.header for m in masks.messages] == [good.header]
    assert (pixels(masks.messages[0]) == 5).all()
    values = robot.client.values("left")
    causes = {key: value for key, value in values.items() if key.startswith("bad.")}
    assert causes == {"bad.zero_size": "1", "bad.unknown_encoding": "1", "bad.bad_jpeg": "1"}


@pytest.mark.parametrize("max_batch", [1, 2])
def test_two_cameras_of_different_sizes_share_the_engine_fairly(
    robot: Robot, max_batch: int
) -> None:
    robot.start(cameras=["left", "right"], max_batch=max_batch, model=str(robot.models["slow"]))
    left = robot.collect("left/depth/image")
    right = robot.collect("right/depth/image")
    robot.flow(lambda: image(picture()), left)
    robot.flow(lambda: image(picture(80, 40)), right, topic="right/image")
    robot.settle(left, right)
    for i in range(40):
        robot.publish("left/image", image(picture(seed=i), "left"))
        if i % 2 == 0:
            robot.publish("right/image", image(picture(80, 40, seed=i), "right"))
        time.sleep(0.04)
    time.sleep(0.5)
    for own, other, shape in ((left, "right", (48, 64)), (right, "left", (40, 80))):
        assert {pixels(m).shape for m in own.messages} == {shape}
        assert other not in {m.header.frame_id for m in own.messages}
    served = [len(c.messages) for c in (left, right)]
    assert min(served) >= 3
    assert 0.4 < served[0] / served[1] < 2.5


def test_camera_info_makes_depth_metric(robot: Robot) -> None:
    robot.start()
    client = robot.client
    depth = robot.collect("left/depth/image")
    points = robot.collect("left/points", PointCloud2)
    robot.flow(lambda: image(picture()), depth)
    plain = pixels(one_result(robot, image(picture()), depth))
    status = client.status("left")
    assert status.level == b"\x01" and "camera_info missing" in status.message
    assert not points.messages

    with_info(robot, camera_info(fx=FX), "calibrated")
    assert client.status("left").level == b"\x00"
    wait_for(lambda: points.messages, "points")
    robot.settle(depth, points)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), plain, rtol=1e-5)

    with_info(robot, uncalibrated := CameraInfo(width=64, height=48), "uncalibrated")
    assert uncalibrated.k[0] == 0
    status = client.status("left")
    assert status.level == b"\x01" and "uncalibrated" in status.message
    robot.settle(depth, points)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), plain, rtol=1e-5)
    assert not points.messages

    broken = camera_info()
    broken.k = [float("nan")] * 9
    with_info(robot, broken, "unusable")
    assert int(client.values("left")["bad.bad_camera_info"]) == 1

    zoomed = camera_info(128, 96, fx=4 * FX)
    zoomed.binning_x = zoomed.binning_y = 2  # 64x48 images, fx 300: twice as far
    with_info_binned(robot, zoomed)
    robot.settle(depth)
    assert np.allclose(pixels(one_result(robot, image(picture()), depth)), 2 * plain, rtol=1e-5)


def with_info_binned(robot: Robot, info: CameraInfo) -> None:
    """Publish a binned camera_info with images of its binned size."""

    def known() -> bool:
        robot.publish("left/camera_info", info)
        robot.publish("left/image", image(picture()))
        return robot.client.values("left")["camera_info"] == "calibrated"

    wait_for(known, "a binned camera")


def test_results_at_the_networks_size(robot: Robot) -> None:
    robot.start(output_size="network")
    depth = robot.collect("left/depth/image")
    info = robot.collect("left/depth/camera_info", CameraInfo)
    points = robot.collect("left/points", PointCloud2)
    with_info(robot, camera_info(), "calibrated")
    robot.flow(lambda: image(picture()), depth, info, points)
    message = image(picture())
    result = one_result(robot, message, depth)
    assert (result.width, result.height) == (128, 96)
    scaled = wait_for(lambda: info.messages, "camera_info")[-1]
    assert (scaled.width, scaled.height) == (128, 96)
    assert scaled.k[0] == pytest.approx(2 * FX) and scaled.p[0] == pytest.approx(2 * FX)
    assert scaled.header == message.header
    cloud = wait_for(lambda: points.messages, "points")[-1]
    assert (cloud.width, cloud.height) == (128, 96)
    camera = Camera(np.array(scaled.k).reshape(3, 3), 128, 96)
    xyz = np.frombuffer(cloud.data, messages.POINT).reshape(96, 128)
    assert np.allclose(xyz["x"], depth_to_points(pixels(result), camera)[..., 0], atol=1e-4)


def test_a_jump_back_of_the_clock_resets_the_cameras(robot: Robot) -> None:
    from rosgraph_msgs.msg import Clock

    robot.start()
    client = robot.client
    masks = robot.collect("left/segmentation/image")
    with_info(robot, camera_info(), "calibrated")
    robot.flow(lambda: image(picture()), masks)
    assert client.set_parameters(use_sim_time=True)[0].successful
    try:
        clock = Clock()
        for second in (100, 101, 50):
            clock.clock.sec = second
            robot.publish("clock", clock)
            time.sleep(0.1)
        wait_for(lambda: "time jumped back" in robot.process.output, "the reset")
        assert client.values("left")["camera_info"] == "missing"
        one_result(robot, image(picture()), masks)
    finally:
        assert client.set_parameters(use_sim_time=False)[0].successful


def test_incompatible_qos_is_told(robot: Robot) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    robot.start()
    demanding = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    collector = robot.client.collect(Image, "/left/depth/image", demanding)
    try:
        wait_for(
            lambda: "DURABILITY" in robot.client.status("left").message.upper(), "the mismatch"
        )
        assert "left/depth/image: a peer's QoS does not match" in robot.process.output
    finally:
        collector.close()


def test_qos_is_as_documented_and_overridable(robot: Robot) -> None:
    robot.start()
    node = robot.client.node

    def reliability(topic: str) -> str:
        (endpoint,) = wait_for(lambda: node.get_publishers_info_by_topic(topic), topic)
        return str(endpoint.qos_profile.reliability.name)

    assert reliability("/left/depth/image") == "RELIABLE"
    assert reliability("/left/normals/image") == "BEST_EFFORT"  # by the override at start
    (endpoint,) = wait_for(lambda: node.get_subscriptions_info_by_topic("/left/image"), "input")
    assert endpoint.qos_profile.reliability.name == "BEST_EFFORT"
    assert robot.client.parameter("qos_overrides./left/image.subscription.depth") == 5


def test_a_fallback_is_loud(robot: Robot) -> None:
    robot.start(backend="onnxruntime", device="cuda:7")
    status = robot.client.status("engine")
    values = {p.key: p.value for p in status.values}
    assert values["device"] == "cpu"
    assert status.level == b"\x01" and "fallback" in status.message
    assert "[WARN]" in robot.process.output and "not the engine" in robot.process.output


def test_silence_of_a_camera_is_told(robot: Robot) -> None:
    robot.start(input_timeout=0.5)
    status = robot.client.status("left")
    assert status.level == b"\x01" and "no image for" in status.message


def test_a_node_on_onnxruntime_has_no_torch(robot: Robot) -> None:
    robot.start()
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    mapped = Path(f"/proc/{robot.process.process.pid}/maps").read_text()
    assert "onnxruntime" in mapped
    assert "libtorch" not in mapped
