# SPDX-License-Identifier: Apache-2.0
"""Reading and writing rosbag2 recordings; what is broken is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from proto_mtl_ros.data.bag import Bag, decode, typestore
from proto_mtl_ros.data.bag_writer import BagWriter
from proto_mtl_ros.data.stamp_log import header_stamp
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.files import replace_folder
from recordings import image_message, write_recording

COLOUR = "/camera/color/image_raw/compressed"


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_recording(tmp_path / "bag", frames=3)
    with Bag(tmp_path / "bag") as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
        messages = list(bag.messages([COLOUR]))
    assert counts[COLOUR] == 3
    assert [m.stamp for m in messages] == sorted(m.stamp for m in messages)
    assert messages[1].stamp - messages[0].stamp == 100_000_000
    assert messages[0].decode().header.frame_id == "camera_color_optical_frame"


def test_a_single_mcap_file_is_a_recording_too(tmp_path: Path) -> None:
    write_recording(tmp_path / "bag", frames=2)
    with Bag(tmp_path / "bag" / "bag.mcap") as bag:
        assert bag.first(COLOUR) is not None


def test_sqlite3_storage_is_read(tmp_path: Path) -> None:
    kind = "sensor_msgs/msg/Image"
    message = image_message(np.zeros((4, 6, 3), np.uint8), "rgb8", stamp=5)
    path = tmp_path / "old"
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/image", kind, typestore=typestore())
        writer.write(topic, 5, typestore().serialize_cdr(message, kind))
    with Bag(path) as bag:
        first = bag.first("/image")
    assert first is not None
    assert first.stamp == 5
    assert first.decode().width == 6


def test_a_writer_that_fails_leaves_the_older_recording(tmp_path: Path) -> None:
    path = tmp_path / "results"
    write_recording(path, frames=2)
    with pytest.raises(RuntimeError), BagWriter(path) as writer:
        writer.add_topic("/new", "sensor_msgs/msg/Image")
        raise RuntimeError("the disk is full")
    with Bag(path) as bag:
        assert COLOUR in {topic.name for topic in bag.topics}
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_failed_swap_puts_the_older_recording_back(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "results", frames=2)
    with pytest.raises(OSError):
        replace_folder(tmp_path / "not there", path)
    with Bag(path) as bag:
        assert COLOUR in {topic.name for topic in bag.topics}
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("place", ["file/results", "x" * 250, "/proc/results"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file is no folder")
    with pytest.raises(BagError, match="cannot write") as error:
        BagWriter(tmp_path / place)
    assert place in one_line(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_new_recording_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "results"
    write_recording(path, frames=4)
    write_recording(path, frames=2)
    with Bag(path) as bag:
        assert {t.name: t.count for t in bag.topics}[COLOUR] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BagError, match="choose another name"):
        BagWriter(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_the_stamp_is_read_in_both_endiannesses() -> None:
    little = b"\x00\x01\x00\x00" + (7).to_bytes(4, "little") + (9).to_bytes(4, "little")
    big = b"\x00\x00\x00\x00" + (7).to_bytes(4, "big") + (9).to_bytes(4, "big")
    assert header_stamp(little) == header_stamp(big) == 7_000_000_009


def test_a_message_that_is_cut_short_is_told() -> None:
    with pytest.raises(BagError) as error:
        decode("sensor_msgs/msg/Image", b"\x00\x01\x00\x00\x00")
    one_line(error.value)


def truncated(path: Path) -> Path:
    write_recording(path / "bag", frames=6)
    file = path / "bag" / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    return path / "bag"


def scrambled(path: Path) -> Path:
    write_recording(path / "bag", frames=6)
    file = path / "bag" / "bag.mcap"
    content = bytearray(file.read_bytes())
    content[60:600] = bytes(540)  # the head of the only chunk
    file.write_bytes(bytes(content))
    return path / "bag"


def without_metadata(path: Path) -> Path:
    write_recording(path / "bag", frames=2)
    (path / "bag" / "metadata.yaml").unlink()
    return path / "bag"


def broken_metadata(path: Path) -> Path:
    write_recording(path / "bag", frames=2)
    (path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: [1, {")
    return path / "bag"


def without_storage(path: Path) -> Path:
    write_recording(path / "bag", frames=2)
    (path / "bag" / "bag.mcap").unlink()
    return path / "bag"


def empty_file(path: Path) -> Path:
    (path / "new.mcap").touch()
    return path / "new.mcap"


def tiny_file(path: Path) -> Path:
    (path / "new.mcap").write_bytes(b"\x89MCAP0\r\n\x01")
    return path / "new.mcap"


def damaged_sqlite(path: Path) -> Path:
    (path / "old.db3").write_bytes(b"SQLite format 3\x00" + bytes(300))
    return path / "old.db3"


def ros1_bag(path: Path) -> Path:
    (path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    return path / "old.bag"


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (truncated, "mcap recover"),
        (scrambled, "damaged"),
        (without_metadata, "ros2 bag reindex"),
        (broken_metadata, "damaged"),
        (without_storage, "copy the whole folder again"),
        (empty_file, "nothing was recorded"),
        (tiny_file, "damaged"),
        (damaged_sqlite, "damaged"),
        (ros1_bag, "rosbags-convert"),
        (lambda path: path / "missing", "check the path"),
    ],
)
def test_a_bad_recording_is_told_in_one_line(make, hint: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(BagError) as error, Bag(path) as bag:
        for _ in bag.messages():
            pass
    assert hint in one_line(error.value)
    assert str(tmp_path) in str(error.value)
