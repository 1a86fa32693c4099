# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag info` tells what a recording holds and what an evaluation would stumble over."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import mcap.writer
import numpy as np
import pytest

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.data.bags.summary import BagSummary, TopicSummary, summarise
from proto_mtl_ros.data.bags.topics import choose_topics
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import BagError, DataError
from recordings import (
    START,
    image_message,
    info_message,
    jpeg_message,
    write_messages,
    write_recording,
)

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
MS = 1_000_000


Messages = list[tuple[str, Any, int]]


def write(path: Path, messages: Messages) -> Path:
    """Write (topic, message, milliseconds) in that order."""
    return write_messages(path, [(name, START + time * MS, what) for name, what, time in messages])


def picture(time: int, encoding: str = "rgb8", frame_id: str = "camera") -> Any:
    shape = {"rgb8": (20, 30, 3), "mono8": (20, 30), "16UC1": (20, 30, 2)}[encoding]
    return image_message(np.zeros(shape, np.uint8), encoding, START + time * MS, frame_id)


def summary_of(path: Path) -> tuple[BagSummary, dict[str, TopicSummary]]:
    with Bag(path) as bag:
        summary = summarise(bag)
    return summary, {one.topic.name: one for one in summary.topics}


def test_rates_sizes_and_uses(tmp_path: Path) -> None:
    messages: Messages = []
    for number in range(11):
        time = 100 * number
        messages.append(("/color/image", picture(time), time))
        info = info_message(30, 20, 25.0, START + time * MS)
        messages.append(("/color/camera_info", info, time))
        messages.append(("/depth/image", picture(time, "16UC1"), time))
        messages.append(("/labels", picture(time, "mono8"), time))
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert summary.duration == pytest.approx(1.0) and not summary.notes
    assert {name: one.look.use for name, one in topics.items()} == {
        "/color/image": "image",
        "/color/camera_info": "camera_info",
        "/depth/image": "depth",
        "/labels": "labels",
    }
    image = topics["/color/image"]
    assert (image.count, image.look.size, image.look.encoding, image.look.frame_id) == (
        11, "30x20", "rgb8", "camera",
    )  # fmt: skip
    assert image.rate == pytest.approx(10.0) and image.largest_gap == pytest.approx(0.1)
    assert summary.camera is not None and summary.camera.depth is not None


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    stamps = [0, 100, 100, 90, 200, 300, 400, 500, 600, 700, 800]
    times = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 2000]
    messages: Messages = [
        ("/image", picture(stamp), time) for stamp, time in zip(stamps, times, strict=True)
    ]
    messages += [("/depth", picture(0, "16UC1", "elsewhere"), 0)]
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert (topics["/image"].backwards, topics["/image"].repeated) == (1, 1)
    text = "\n".join((*summary.notes, *summary.decisions))
    assert "/image: 1 stamps go backwards" in text
    assert "/image: 1 stamps are there twice" in text
    assert "/image: a gap of 1.10 s" in text
    assert "no camera_info beside /image" in text
    assert "/depth is in elsewhere, the images in camera" in text


def compressed(form: str, data: bytes) -> Any:
    message = jpeg_message(np.zeros((1, 1, 3), np.uint8), START, "camera")
    return replace(message, format=form, data=np.frombuffer(data, np.uint8))


def test_compressed_topics_and_those_of_no_use(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    png = cv2.imencode(".png", np.full((20, 30), 1500, np.uint16))[1].tobytes()
    text = typestore().types["std_msgs/msg/String"]("hello")
    messages = [
        ("/color/compressed", compressed("rgb8; jpeg compressed bgr8", jpeg), 0),
        ("/depth/compressed", compressed("16UC1; compressedDepth", bytes(12) + png), 0),
        ("/cut/compressed", compressed("jpeg", jpeg[:20]), 0),
        ("/confidence", picture(0, "mono8"), 0),
        ("/words", text, 0),
        ("/color/camera_info", info_message(30, 20, 0.0, 0), 0),
    ]
    summary, topics = summary_of(write(tmp_path / "bag", messages))
    assert any("is not calibrated" in note for note in summary.decisions)
    looks = {name: one.look for name, one in topics.items() if "cut" not in name}
    assert {name: (look.use, look.size) for name, look in looks.items()} == {
        "/color/compressed": ("image", "30x20"),
        "/depth/compressed": ("depth", "30x20"),
        "/confidence": ("", "30x20"),
        "/words": ("", ""),
        "/color/camera_info": ("", "30x20"),
    }
    assert topics["/cut/compressed"].look.size.startswith("not readable (")
    assert topics["/words"].count == 1 and topics["/words"].repeated == 0


def test_a_topic_without_messages_is_listed_and_not_chosen(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/rgb/image", IMAGE)
        writer.add_topic("/image", IMAGE)
        writer.write("/image", START, picture(0))
    summary, topics = summary_of(tmp_path / "bag")
    assert topics["/rgb/image"].count == 0 and topics["/rgb/image"].look.use == ""
    assert summary.camera is not None and summary.camera.image.name == "/image"
    with (
        Bag(tmp_path / "bag") as bag,
        pytest.raises(BagError, match="/rgb/image is in .* without a message"),
    ):
        choose_topics(bag, image="/rgb/image")


def test_a_topic_that_has_fewer_messages_than_it_says(tmp_path: Path) -> None:
    """As in a recording whose list of contents was written and whose messages were not."""
    path = tmp_path / "x.mcap"
    with path.open("wb") as sink:
        writer = mcap.writer.Writer(sink)
        writer.start("ros2")
        for name, kind, message in (
            ("/image", IMAGE, picture(0)),
            ("/depth", IMAGE, None),
            ("/camera_info", INFO, None),
        ):
            text, _ = typestore().generate_msgdef(kind)
            schema = writer.register_schema(kind, "ros2msg", text.encode())
            channel = writer.register_channel(name, "cdr", schema, {"offered_qos_profiles": ""})
            if message is None:
                writer._Writer__statistics.channel_message_counts[channel] = 7
            else:
                data = bytes(typestore().serialize_cdr(message, kind))
                writer.add_message(channel, START, data, START)
        writer.finish()
    summary, _ = summary_of(path)
    for name in ("/depth", "/camera_info"):
        assert f"{name}: none of its 7 messages can be read" in summary.notes
    assert summary.camera is not None and summary.camera.depth is None
    with pytest.raises(DataError, match="is not calibrated: .*give camera"):
        BagFrames(path)


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
    messages = [("/camera_info", info_message(30, 20, 25.0, 0), 0)]
    done = bag_info(write(tmp_path / "bag", messages))
    assert done.returncode == 0, done.stderr
    assert "images: none" in done.stdout and "/camera_info (CameraInfo)" in done.stdout
