# SPDX-License-Identifier: Apache-2.0
"""What the node publishes, over real DDS: one result for every image, with the right values."""

from __future__ import annotations

import array
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from robot import (
    Robot,
    bad_images,
    camera_info,
    good,
    image,
    one_result,
    picture,
    pixels,
    running_robot,  # noqa: F401
    with_info,
)
from ros_harness import wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.geometry import depth_to_points
from proto_mtl_ros.ros import decoding, messages
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Predictor

pytestmark = pytest.mark.ros


def test_one_output_with_the_same_header_for_every_input(robot: Robot) -> None:
    robot.start()
    names = ("segmentation/image", "segmentation/confidence", "depth/image", "normals/color")
    outputs = [robot.collect(f"left/{name}") for name in names]
    robot.flow(good, *outputs)
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
    robot.flow(good, *outputs.values())
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
    camera = decoding.read_camera(info, rectified=False)
    assert camera is not None
    expected = predictor.predict(rgb, camera)
    predictor.close()
    assert np.array_equal(pixels(got["segmentation/image"]), expected["segmentation"])
    assert len(np.unique(expected["segmentation"])) > 5
    assert np.array_equal(pixels(got["segmentation/confidence"]), expected["confidence"])
    assert np.array_equal(pixels(got["depth/image"]), expected["depth"])
    # By hand as well: the image is enlarged by two, so fx at the network is 300, the canonical.
    assert pixels(got["depth/image"])[20, 30] == pytest.approx(rgb[20, 30, 2] / 25.5, rel=0.02)
    overlay = pixels(got["segmentation/overlay"])
    assert overlay.shape == rgb.shape and not np.array_equal(overlay, rgb)
    assert pixels(got["normals/color"])[0, 0, 2] > 200
    assert list(got["depth/camera_info"].k) == list(info.k)
    cloud = np.frombuffer(got["points"].data, messages.POINT).reshape(48, 64)
    xyz = np.stack([cloud[axis] for axis in "xyz"], axis=-1)
    assert np.array_equal(xyz, depth_to_points(expected["depth"], camera), equal_nan=True)
    assert np.array_equal(cloud["label"], expected["segmentation"])
    assert np.array_equal(cloud["rgb"] >> 16 & 255, rgb[..., 0])


def test_no_subscriber_no_inference(robot: Robot) -> None:
    robot.start()
    client = robot.client
    for _ in range(5):
        robot.publish("left/image", image(picture()))
        time.sleep(0.03)
    wait_for(lambda: int(client.values("left")["received"]) >= 5, "the images")
    assert client.values("engine")["inferences"] == "0"
    after = client.values("left")
    assert after["processed"] == "0" and after["skipped.no_subscribers"] == after["received"]

    assert client.set_parameters(force_inference=True)[0].successful
    robot.publish("left/image", image(picture()))
    wait_for(lambda: client.values("engine")["inferences"] == "1", "forced inference")
    assert client.set_parameters(force_inference=False)[0].successful

    depth = robot.collect("left/depth/image")
    robot.flow(good, depth)
    assert int(client.values("engine")["inferences"]) > 1


def test_newest_frame_wins_and_the_rest_is_counted(robot: Robot) -> None:
    (masks,) = robot.begin("segmentation/image", model=str(robot.models["slow"]))
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


def test_malformed_images_are_counted_by_cause_and_survived(
    robot: Robot, record_fault: Callable
) -> None:
    (masks,) = robot.begin("segmentation/image")
    faults = bad_images()
    for message in faults.values():
        for _ in range(2):
            robot.publish("left/image", message)
            time.sleep(0.1)
    status = robot.client.status("left")
    values = {p.key: p.value for p in status.values}
    assert {cause: values.get(f"bad.{cause}") for cause in faults} == dict.fromkeys(faults, "2")
    assert status.level != b"\x00"
    assert all(f"{cause}: " in status.message for cause in faults)
    assert not masks.messages
    assert one_result(robot, image(picture()), masks).height == 48
    record_fault(
        "camera",
        "images that cannot be used, by cause",
        tried=2 * len(faults),
        seen=f"WARN with what to do, bad.<cause> counts: {', '.join(sorted(faults))}",
    )


def test_compressed_images(robot: Robot) -> None:
    robot.start(image_transport="compressed")
    masks = robot.collect("left/segmentation/image")
    rgb = np.full((48, 64, 3), (110, 50, 90), np.uint8)

    def message(data: bytes | None = None, kind: str = "jpeg") -> CompressedImage:
        content = encode_compressed(rgb, kind).tobytes() if data is None else data
        header = image(rgb).header
        return CompressedImage(header=header, format=kind, data=array.array("B", content))

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
    robot.flow(good, left)
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


def test_a_camera_is_processed_no_more_often_than_allowed(robot: Robot) -> None:
    robot.start(cameras=["left", "right"], max_rate=[5.0, 0.0])
    depth = {c: robot.collect(f"{c}/depth/image") for c in ("left", "right")}
    for camera, collector in depth.items():
        robot.flow(good, collector, topic=f"{camera}/image")
    robot.settle(*depth.values())
    start = time.monotonic()
    for seed in range(40):
        for camera in depth:
            robot.publish(f"{camera}/image", image(picture(seed=seed), camera))
        time.sleep(0.05)
    seconds = time.monotonic() - start
    time.sleep(0.3)
    assert len(depth["left"].messages) <= 5 * seconds + 2
    assert len(depth["right"].messages) > 1.5 * len(depth["left"].messages)
    values = robot.client.values("left")
    assert int(values["skipped.max_rate"]) >= 10
    assert "skipped.max_rate" not in robot.client.values("right")
