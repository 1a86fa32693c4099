# SPDX-License-Identifier: Apache-2.0
"""The cameras of benches and soaks send what they are told to, over real DDS."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.qos import qos_profile_sensor_data
from ros_harness import Client, plain_node, wait_for
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from recordings import picture, write_recording
from tools.performance import cameras
from tools.soak import camera as soak_camera
from tools.soak.camera import SoakCamera, SoakLoad, read_recording, usual_info
from tools.soak.schedule import Fault

pytestmark = pytest.mark.ros


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back what a process's main takes for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    rclpy.try_shutdown()
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


@pytest.fixture
def node() -> Iterator[Any]:
    with plain_node("camera") as node:
        yield node


def soak_load(**more: Any) -> str:
    usual = {"recording": "", "camera": "camera", "rate": 0.0, "seconds": 1.0, "seed": 0,
             "faults": (), "log": ""}  # fmt: skip
    return SoakLoad(**{**usual, **more}).to_json()


def test_cameras_show_the_picture_that_is_given(tmp_path: Path, client: Client) -> None:
    file, log = tmp_path / "one.png", tmp_path / "log.json"
    cv2.imwrite(str(file), picture(0)[..., ::-1])
    images = client.collect(Image, "/camera/image", qos_profile_sensor_data)
    infos = client.collect(CameraInfo, "/camera/camera_info", qos_profile_sensor_data)
    # faster than any machine: every image is late, and sent at once
    load = cameras.Load(
        width=80, height=60, rate=1e5, seconds=2e-4, picture=str(file), log=str(log)
    )
    assert cameras.main([load.to_json()]) == 0
    wait_for(lambda: images.messages and infos.messages, "the images")
    got = np.frombuffer(images.messages[0].data, np.uint8).reshape(60, 80, 3)
    assert np.array_equal(got, cv2.resize(picture(0), (80, 60)))
    (stamps,) = StampLog.read(log).stamps.values()
    assert len(stamps) == load.images == 20


def test_cameras_that_cannot_work_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (cameras, soak_camera):
        monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert cameras.main([cameras.Load(width=8, height=8).to_json()]) == 1
    assert capsys.readouterr().err == "nobody listens to the cameras\n"
    rclpy.try_shutdown()
    with pytest.raises(SystemExit, match="nothing.png is not a picture"):
        cameras.main([cameras.Load(picture="nothing.png").to_json()])
    rclpy.try_shutdown()
    bag = write_recording(tmp_path / "bag", frames=2)
    assert soak_camera.main([soak_load(recording=str(bag))]) == 1
    assert capsys.readouterr().err == "soak_camera: nobody listens to the camera\n"
    rclpy.try_shutdown()
    assert soak_camera.main([soak_load(recording=str(tmp_path / "nothing"))]) == 2
    assert "soak_camera: there is no recording at" in capsys.readouterr().err


def test_a_soak_camera_takes_the_first_images_and_a_calibration(tmp_path: Path) -> None:
    with open_recording(write_recording(tmp_path / "bag", frames=100)) as recording:
        pictures, info = read_recording(recording)
    assert len(pictures) == 96 and pictures[0].shape == (120, 160, 3) and info.k[0] == 375.0
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), picture(0))
    with open_recording(tmp_path / "pictures") as recording:
        _, info = read_recording(recording)
    assert info == usual_info(120, 160) and info.k[0] == pytest.approx(519 / 4)


def test_a_soak_camera_sends_its_faults(node: Any, client: Client) -> None:
    images = client.collect(Image, "/camera/image")
    infos = client.collect(CameraInfo, "/camera/camera_info")
    camera = SoakCamera(node, "camera", [picture(0)], usual_info(120, 160))
    wait_for(camera.matched, "the subscriptions")

    def sent(fault: str, count: int = 1) -> list[Any]:
        before = len(images.messages)
        for number in range(1, count + 1):
            camera.send(fault)
            wait_for(lambda: len(images.messages) == before + number, fault)  # noqa: B023
        return images.messages[before:]

    (small,) = sent("resolution")
    assert (small.height, small.width, len(small.data)) == (60, 80, 60 * 80 * 3)
    kinds = ["bgr8", "mono8", "yuv422", "bayer_rggb8"]
    assert [image.encoding for image in sent("encoding", 4)] == kinds
    (now,), (back,) = sent("calm"), sent("backwards")
    assert now.header.stamp.sec - back.header.stamp.sec in (9, 10)
    sent("uncalibrated")
    wait_for(lambda: len(infos.messages) == len(images.messages), "the calibrations")
    assert not any(infos.messages[-1].k) and any(infos.messages[0].k)


def test_a_soak_camera_pauses_and_catches_nothing_up(node: Any) -> None:

    camera = SoakCamera(node, "camera", [picture(0)], usual_info(120, 160))
    faults = [Fault("pause", 0.2, 0.3)]
    camera.run(50.0, 0.8, faults, threading.Event(), time.monotonic())
    (times,) = camera.log.times.values()
    gaps = np.diff(times) / 1e9
    assert gaps.max() >= 0.3 and (gaps > 0.25).sum() == 1
    assert 5 < camera.sent == len(times) <= 30
