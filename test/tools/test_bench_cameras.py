# SPDX-License-Identifier: Apache-2.0
"""The cameras of benches and soaks send what they are told to, over real DDS."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
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
from tools.performance.cameras import usual_info
from tools.processes import to_word
from tools.soak import camera as soak_camera
from tools.soak.camera import SoakCamera, read_recording
from tools.soak.schedule import Fault, SoakSetting

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


def soak_load(**more: Any) -> SoakSetting:
    usual = {"recording": "", "rate": 50.0, "seconds": 1.0, "faults": ()}
    return SoakSetting(**{**usual, **more})


def test_cameras_show_the_picture_that_is_given(tmp_path: Path, node: Any, client: Client) -> None:
    file = tmp_path / "one.png"
    cv2.imwrite(str(file), picture(0)[..., ::-1])
    images = client.collect(Image, "/camera/image", qos_profile_sensor_data)
    infos = client.collect(CameraInfo, "/camera/camera_info", qos_profile_sensor_data)
    source = cameras.Cameras(node, cameras.Load(width=80, height=60, picture=str(file)))

    def arrived() -> bool:
        source.send("camera")  # best effort: the first may get lost
        return bool(images.messages and infos.messages)

    wait_for(arrived, "the images")
    got = np.frombuffer(images.messages[0].data, np.uint8).reshape(60, 80, 3)
    assert np.array_equal(got, cv2.resize(picture(0), (80, 60)))


def test_a_camera_process_sends_its_load_and_says_so(
    tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.collect(Image, "/camera/image", qos_profile_sensor_data)
    client.collect(CameraInfo, "/camera/camera_info", qos_profile_sensor_data)
    log = tmp_path / "log.json"
    # faster than any machine: every image is late, and sent at once
    load = cameras.Load(width=80, height=60, rate=1e5, seconds=2e-4, log=str(log))
    assert cameras.main([to_word(load)]) == 0
    (stamps,) = StampLog.read(log).stamps.values()
    assert len(stamps) == 20
    assert '"event": "sent", "count": 20' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "load", "status", "said"),
    [
        (cameras.main, cameras.Load(width=8, height=8), 1, "bench_cameras: nobody listens"),
        (cameras.main, cameras.Load(picture="nothing"), 2, "bench_cameras: nothing is not a pict"),
        (soak_camera.main, soak_load(), 1, "soak_camera: nobody listens"),
        (soak_camera.main, soak_load(recording="no"), 2, "soak_camera: there is no recording at"),
    ],
)
def test_cameras_that_cannot_work_say_why(
    main: Any, load: Any, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cameras, "PATIENCE", 0.1)
    if getattr(load, "recording", None) == "":
        load = replace(load, recording=str(write_recording(tmp_path / "bag", frames=2)))
    assert main([to_word(load), ""]) == status
    assert capsys.readouterr().err.startswith(said)


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
    camera = SoakCamera(node, soak_load(), [picture(0)], usual_info(120, 160))
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


def test_a_soak_camera_pauses_and_catches_nothing_up(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = soak_load(seconds=0.8, faults=("pause",))
    camera = SoakCamera(node, load, [picture(0)], usual_info(120, 160))
    monkeypatch.setattr(soak_camera, "schedule", lambda *_: [Fault("pause", 0.2, 0.3)])
    camera.run(time.monotonic(), threading.Event())
    (times,) = camera.log.times.values()
    gaps = np.diff(times) / 1e9
    assert gaps.max() >= 0.3 and (gaps > 0.25).sum() == 1
    assert 5 < camera.sent == len(times) <= 30
