# SPDX-License-Identifier: Apache-2.0
"""Storages of every kind, whole, cut and broken: mcap, sqlite3, ROS 1."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mcap.writer
import numpy as np
import pytest
import yaml
from ros1_bags import ros1_image, write_ros1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from proto_mtl_ros.data.bags import mcap_storage
from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.errors import BagError
from recordings import image_message, write_messages, write_recording


def recorded(path: Path, change: Callable[[Path], object]) -> Path:
    """Write a recording, of a single chunk, and change its folder."""
    change(write_recording(path / "bag", frames=6))
    return path / "bag"


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda bag: (bag / name).write_bytes(change((bag / name).read_bytes()))


def split_without_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    (bag / "bag_1.mcap").write_bytes((bag / "bag.mcap").read_bytes())


def content(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        (path / name).write_bytes(data)
        return path / name

    return write


def ros1_without_index(path: Path) -> Path:
    """As a recorder leaves it that was killed."""
    file = write_ros1(path / "old.bag", [("/image", ros1_image(images(1)[0]))])
    whole = file.read_bytes()
    place = whole.index(b"index_pos=") + len(b"index_pos=")
    file.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
    return file


BAD: list[tuple[str, Callable[[Path], Path]]] = [
    ("before its first whole message",
     lambda path: recorded(path, rewritten("bag.mcap", lambda all: all[: len(all) // 10]))),
    # the head of the only chunk
    ("damaged",
     lambda path: recorded(path, rewritten("bag.mcap", lambda a: a[:60] + bytes(540) + a[600:]))),
    ("ros2 bag reindex", lambda path: recorded(path, split_without_metadata)),
    ("damaged", lambda path: recorded(path, rewritten("metadata.yaml", lambda _: b"a: [1, {"))),
    ("copy the whole folder again",
     lambda path: recorded(path, lambda bag: (bag / "bag.mcap").unlink())),
    ("nothing was recorded", content("new.mcap", b"")),
    ("copy it again", content("new.mcap", b"\x89MCAP0\r\n\x01")),
    ("damaged", content("old.db3", b"SQLite format 3\x00" + bytes(300))),
    ("damaged", content("old.bag", b"#ROSBAG V2.0\n")),
    ("was never closed: make its index with `rosbag reindex", ros1_without_index),
    ("make its index with `rosbag reindex",
     lambda path: ros1_without_index(path).rename(path / "x.bag.active")),
    ("run `git lfs pull`", content("new.mcap", b"version https://git-lfs.github.com/spec/v1\n")),
    ("holds neither .mcap nor .db3", lambda path: path),
    ("neither a file nor a folder",
     lambda path: os.mkfifo(path / "new.mcap") or path / "new.mcap"),  # type: ignore[func-returns-value]
    ("rename it", lambda path: sqlite(path / "x", images(1)).rename(path / "what?.db3")),
    ("check the path", lambda path: path / "missing"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "make"), BAD)
def test_a_bad_recording_is_told_in_one_line(
    hint: str, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(BagError) as error, Bag(path) as bag:
        for _ in bag.messages():
            pass
    assert hint in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.EIO, "Input/output error"), (errno.ENOSPC, "set TMPDIR")]
)
def test_a_disk_that_fails_is_told_in_one_line(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recording(tmp_path / "bag", frames=2)
    fails = Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr(mcap_storage, "open_regular", fails)
    with pytest.raises(BagError) as error:
        Bag(tmp_path / "bag")
    assert hint in str(error.value) and "\n" not in str(error.value)


def test_a_message_above_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sqlite(tmp_path / "x", images(1))
    monkeypatch.setattr("proto_mtl_ros.data.bags.bag.MAX_CHUNK", 7000)
    with pytest.raises(BagError, match=r"/image has 72\d\d bytes"), Bag(file) as bag:
        list(bag.messages())


def images(count: int) -> list[np.ndarray]:
    """Noise, so that compression does not put everything into one chunk."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(count)]


def chunked(path: Path, pictures: list[np.ndarray], **layout: Any) -> Path:
    """A file of many small chunks, as a long recording has, or of another layout."""
    kind = "sensor_msgs/msg/Image"
    text, _ = typestore().generate_msgdef(kind)
    with path.open("wb") as sink:
        writer = mcap.writer.Writer(sink, chunk_size=20_000, **layout)
        writer.start("ros2")
        schema = writer.register_schema(kind, "ros2msg", text.encode())
        channel = writer.register_channel("/image", "cdr", schema, {"offered_qos_profiles": ""})
        for number, pixels in enumerate(pictures):
            stamp = 1_000_000_000 + number * 100_000_000
            message = image_message(pixels, "rgb8", stamp)
            writer.add_message(
                channel, stamp, bytes(typestore().serialize_cdr(message, kind)), stamp
            )
        writer.finish()
    return path


LAYOUTS: dict[str, dict[str, Any]] = {
    "no chunks": {"use_chunking": False},
    "no index": {"index_types": mcap.writer.IndexType.NONE, "use_statistics": False},
    "no repeated channels": {"repeat_channels": False, "repeat_schemas": False},
    "channels without their types": {"repeat_schemas": False},
    "nothing": {
        "use_chunking": False, "use_statistics": False, "use_summary_offsets": False,
        "repeat_channels": False, "repeat_schemas": False,
        "index_types": mcap.writer.IndexType.NONE,
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mcap_files_of_every_layout_are_read(layout: str, tmp_path: Path) -> None:
    pictures = images(40)
    path = chunked(tmp_path / "x.mcap", pictures, **LAYOUTS[layout])
    whole = path.read_bytes()
    for share, least in ((1.0, 40), (0.6, 18)):
        path.write_bytes(whole[: int(share * len(whole))])
        with Bag(path) as bag:
            found = list(bag.messages(["/image"]))
            assert least <= len(found) <= 40 * share
            assert sum(topic.count for topic in bag.topics) == len(found)
            part = list(bag.messages(None, found[3].time, found[6].time))
            assert [m.time for m in part] == [m.time for m in found[3:6]]
            assert bool(bag.notes) == (share < 1)
        assert [m.stamp for m in found] == sorted(m.stamp for m in found)
        assert (found[7].decode().data.reshape(40, 60, 3) == pictures[7]).all()


def sqlite(
    path: Path, pictures: list[np.ndarray], mode: CompressionMode = CompressionMode.NONE
) -> Path:
    kind = "sensor_msgs/msg/Image"
    writer = Writer(path.parent / "db", version=8, storage_plugin=StoragePlugin.SQLITE3)
    if mode is not CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection("/image", kind, typestore=typestore())
        for number, pixels in enumerate(pictures):
            stamp = 1_000_000_000 + number * 100_000_000
            message = image_message(pixels, "rgb8", stamp)
            writer.write(topic, stamp, typestore().serialize_cdr(message, kind))
    return path.parent / "db" / "db.db3"


@pytest.mark.parametrize(
    "mode", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE]
)
def test_sqlite3_storage_is_read(mode: CompressionMode, tmp_path: Path) -> None:
    with Bag(sqlite(tmp_path / "x", images(2), mode).parent) as bag:
        found = [message.decode().data.reshape(40, 60, 3) for message in bag.messages()]
    np.testing.assert_array_equal(found, images(2))


@pytest.mark.parametrize("make", [chunked, sqlite])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_of_a_file_that_was_cut_all_before_the_cut_is_read(
    make: Callable[[Path, list[np.ndarray]], Path], share: float, tmp_path: Path
) -> None:
    pictures = images(40)
    whole = make(tmp_path / "whole.mcap", pictures)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{whole.suffix}"
    cut.write_bytes(content[: int(share * len(content))])
    with Bag(cut) as bag:
        found = [message.decode() for message in bag.messages(["/image"])]
        (note,) = bag.notes
    assert 40 * share - 5 <= len(found) <= 40 * share + 1
    for message, pixels in zip(found, pictures, strict=False):
        assert (message.data.reshape(pixels.shape) == pixels).all()
    assert f"{len(found)} messages of its first {(len(found) - 1) / 10:.1f} s are whole" in note
    assert cut.read_bytes() == content[: int(share * len(content))]  # left as it was


def test_a_cut_recording_is_unpacked_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chunked(tmp_path / "x.mcap", images(40))
    path.write_bytes(path.read_bytes()[:-1000])
    monkeypatch.setattr(mcap_storage, "most_unpacked", lambda size: size // 2)
    with Bag(path) as bag:
        assert 10 <= len(list(bag.messages())) <= 20


def test_a_folder_of_which_one_file_was_cut_is_read(tmp_path: Path) -> None:
    image = image_message(np.zeros((4, 6, 3), np.uint8), "rgb8", stamp=5)
    folder = write_messages(tmp_path / "bag", [("/image", 5, image)])
    content = chunked(tmp_path / "long.mcap", images(40)).read_bytes()
    (folder / "bag_1.mcap").write_bytes(content[: len(content) // 2])
    metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"].append("bag_1.mcap")
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    with Bag(folder) as bag:
        stamps = [message.stamp for message in bag.messages(["/image"])]
        assert stamps[0] == 5 and 16 <= len(stamps) <= 21
        assert ["bag_1.mcap is cut off" in note for note in bag.notes] == [True]
