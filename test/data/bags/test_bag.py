# SPDX-License-Identifier: Apache-2.0
"""Reading and writing rosbag2 recordings; what is broken is told in one line."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from rosbags.rosbag2 import Writer

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.message_types import decode, typestore
from proto_mtl_ros.data.bags.stamp_log import header_stamp
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import BagError
from recordings import START, image_message, write_recording

COLOUR = "/camera/color/image_raw/compressed"


@pytest.mark.parametrize("place", ["", "bag.mcap", "metadata.yaml", "without metadata", "../b.bag"])
def test_what_is_written_is_read_back(place: str, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "bag", frames=3)
    if place == "without metadata":  # as a recorder leaves it that was killed
        (path / "metadata.yaml").unlink()
        place = ""
    elif place == "../b.bag":  # a folder may be called so
        path, place = path.rename(tmp_path / "b.bag"), ""
    with Bag(path / place) as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
        messages = list(bag.messages([COLOUR]))
    assert counts[COLOUR] == 3
    assert [m.stamp for m in messages] == [START + n * 100_000_000 for n in range(3)]
    assert messages[0].decode().header.frame_id == "camera_color_optical_frame"


def test_a_writer_that_fails_leaves_the_older_recording(tmp_path: Path) -> None:
    path = tmp_path / "results"
    write_recording(path, frames=4)
    write_recording(path, frames=2)
    with pytest.raises(RuntimeError), BagWriter(path) as writer:
        writer.add_topic("/new", "sensor_msgs/msg/Image")
        raise RuntimeError("the disk is full")
    with Bag(path) as bag:
        assert {t.name: t.count for t in bag.topics}[COLOUR] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("place", ["file/results", "x" * 250, "/proc/results"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file is no folder")
    with pytest.raises(BagError, match="cannot write") as error:
        BagWriter(tmp_path / place)
    assert place in str(error.value) and "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BagError, match="choose another name"):
        BagWriter(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").exists()


@pytest.mark.parametrize("step", ["open", "write", "close"])
def test_a_disk_that_fills_leaves_the_older_recording(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recording(tmp_path / "results", frames=2)
    monkeypatch.setattr(Writer, step, Mock(side_effect=OSError(errno.ENOSPC, "no space")))
    with pytest.raises(BagError, match="make room") as error:
        write_recording(path, frames=4)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
    with Bag(path) as bag:
        assert {t.name: t.count for t in bag.topics}[COLOUR] == 2


def test_of_recordings_that_were_cut_all_that_hold_a_message_are_kept(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), np.uint8)
    for count in (2, 2, 0):
        with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "drive", True) as writer:
            writer.add_topic("/image", "sensor_msgs/msg/Image")
            for stamp in range(count):
                writer.write("/image", stamp, image_message(noise, "rgb8", stamp))
            raise KeyboardInterrupt
        assert len(writer.kept) == min(count, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive-cut-1", "drive-cut-2"]
    with Bag(tmp_path / "drive-cut-2") as bag:
        assert len(list(bag.messages())) >= 1


def test_topics_of_types_that_ros_alone_has_are_recorded(tmp_path: Path) -> None:
    kind = "vision_msgs/msg/LabelInfo"
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/labels", kind)
        writer.add_topic("/labels", kind)  # announced before
        types = typestore().types
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](5, 0), "cam")
        named = types["vision_msgs/msg/VisionClass"](3, "wall")
        writer.write("/labels", 5, types[kind](header, [named], 0.5))
        with pytest.raises(BagError, match="my_msgs/msg/Thing cannot be recorded: unknown type"):
            writer.add_topic("/thing", "my_msgs/msg/Thing")
    with Bag(tmp_path / "bag") as bag:
        (message,) = bag.messages()
        assert [(t.name, t.count) for t in bag.topics] == [("/labels", 1)]
    assert message.decode().class_map[0].class_name == "wall"


def test_the_stamp_is_read_in_both_endiannesses() -> None:
    little = b"\x00\x01\x00\x00" + (7).to_bytes(4, "little") + (9).to_bytes(4, "little")
    big = b"\x00\x00\x00\x00" + (7).to_bytes(4, "big") + (9).to_bytes(4, "big")
    assert header_stamp(little) == header_stamp(big) == 7_000_000_009


def test_a_message_that_is_cut_short_is_told() -> None:
    with pytest.raises(BagError, match="^a sensor_msgs/msg/Image message cannot be decoded: .*$"):
        decode("sensor_msgs/msg/Image", b"\x00\x01\x00\x00\x00")
    with pytest.raises(BagError, match="too short to hold a header"):
        header_stamp(b"\x00\x01\x00\x00\x00")
