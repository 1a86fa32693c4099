# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag info` tells what a recording holds and what an evaluation would stumble over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from proto_mtl_ros.data.bag import Bag, typestore
from proto_mtl_ros.data.bag_summary import BagSummary, TopicSummary, summarise
from proto_mtl_ros.data.bag_writer import BagWriter
from recordings import START, image_message, info_message, write_recording

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
MS = 1_000_000


def write(path: Path, messages: list[tuple[str, str, Any, int]]) -> Path:
    """Write (topic, type, message, milliseconds) in that order."""
    with BagWriter(path) as writer:
        for topic, kind in {topic: kind for topic, kind, *_ in messages}.items():
            writer.add_topic(topic, kind)
        for topic, kind, message, time in messages:
            data = bytes(typestore().serialize_cdr(message, kind))
            writer.write(topic, START + time * MS, data)
    return path


def picture(time: int, encoding: str = "rgb8", frame_id: str = "camera") -> Any:
    shape = {"rgb8": (20, 30, 3), "mono8": (20, 30), "16UC1": (20, 30, 2)}[encoding]
    return image_message(np.zeros(shape, np.uint8), encoding, START + time * MS, frame_id)


def summary_of(path: Path) -> tuple[BagSummary, dict[str, TopicSummary]]:
    with Bag(path) as bag:
        summary = summarise(bag)
    return summary, {one.topic.name: one for one in summary.topics}


def test_rates_sizes_and_uses(tmp_path: Path) -> None:
    messages: list[tuple[str, str, Any, int]] = []
    for number in range(11):
        time = 100 * number
        messages.append(("/color/image", IMAGE, picture(time), time))
        info = info_message(30, 20, 25.0, START + time * MS)
        messages.append(("/color/camera_info", INFO, info, time))
        messages.append(("/depth/image", IMAGE, picture(time, "16UC1"), time))
        messages.append(("/labels", IMAGE, picture(time, "mono8"), time))
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert summary.duration == pytest.approx(1.0) and not summary.notes
    assert {name: one.use for name, one in topics.items()} == {
        "/color/image": "image",
        "/color/camera_info": "camera_info",
        "/depth/image": "depth",
        "/labels": "labels",
    }
    image = topics["/color/image"]
    assert (image.count, image.size, image.encoding, image.frame_id) == (
        11, "30x20", "rgb8", "camera",
    )  # fmt: skip
    assert image.rate == pytest.approx(10.0) and image.largest_gap == pytest.approx(0.1)
    assert summary.camera is not None and summary.camera.depth is not None


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    stamps = [0, 100, 100, 90, 200, 300, 400, 500, 600, 700, 800]
    times = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 2000]
    messages: list[tuple[str, str, Any, int]] = [
        ("/image", IMAGE, picture(stamp), time) for stamp, time in zip(stamps, times, strict=True)
    ]
    messages += [("/depth", IMAGE, picture(0, "16UC1", "elsewhere"), 0)]
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert (topics["/image"].backwards, topics["/image"].repeated) == (1, 1)
    text = "\n".join(summary.notes)
    assert "/image: 1 stamps go backwards" in text
    assert "/image: 1 stamps are there twice" in text
    assert "/image: a gap of 1.10 s" in text
    assert "no camera_info beside /image" in text
    assert "/depth is in frame elsewhere, the images in camera" in text


def test_an_uncalibrated_camera_is_noted(tmp_path: Path) -> None:
    messages = [
        ("/image", IMAGE, picture(0), 0),
        ("/camera_info", INFO, info_message(30, 20, 0.0, 0), 0),
    ]
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert topics["/camera_info"].use == ""
    assert any("is not calibrated" in note for note in summary.notes)


def bag_info(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "info", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_shows_first_middle_and_last(tmp_path: Path) -> None:
    bag, sheet = write_recording(tmp_path / "bag", frames=5), tmp_path / "sheet.png"
    done = bag_info(bag, "--pictures", sheet)
    assert done.returncode == 0, done.stderr
    assert "usable as depth" in done.stdout and "10.00 Hz" in done.stdout
    shown = cv2.imread(str(sheet))
    assert shown.shape[0] > shown.shape[1]  # three rows of two


def test_a_recording_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    messages = [("/camera_info", INFO, info_message(30, 20, 25.0, 0), 0)]
    done = bag_info(write(tmp_path / "bag", messages))
    assert done.returncode == 0, done.stderr
    assert "images: none" in done.stdout and "/camera_info (CameraInfo)" in done.stdout
