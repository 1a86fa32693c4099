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
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from proto_mtl_ros.data.bags import mcap_storage
from proto_mtl_ros.data.bags import storage as bag_storage
from proto_mtl_ros.data.bags.bag import Bag, typestore
from proto_mtl_ros.data.bags.summary import summarise
from proto_mtl_ros.errors import BagError
from recordings import image_message, write_recording


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
    ("make its index with `rosbag reindex", ros1_without_index),
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


def sqlite(path: Path, pictures: list[np.ndarray]) -> Path:
    kind = "sensor_msgs/msg/Image"
    with Writer(path.parent / "db", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/image", kind, typestore=typestore())
        for number, pixels in enumerate(pictures):
            stamp = 1_000_000_000 + number * 100_000_000
            message = image_message(pixels, "rgb8", stamp)
            writer.write(topic, stamp, typestore().serialize_cdr(message, kind))
    return path.parent / "db" / "db.db3"


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


def folder_of_one_image(folder: Path) -> Path:
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=typestore())
        message = image_message(np.zeros((4, 6, 3), np.uint8), "rgb8", stamp=5)
        writer.write(topic, 5, typestore().serialize_cdr(message, "sensor_msgs/msg/Image"))
    return folder


def test_a_folder_of_which_one_file_was_cut_is_read(tmp_path: Path) -> None:
    folder = folder_of_one_image(tmp_path / "bag")
    content = chunked(tmp_path / "long.mcap", images(40)).read_bytes()
    (folder / "bag_1.mcap").write_bytes(content[: len(content) // 2])
    metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"].append("bag_1.mcap")
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    with Bag(folder) as bag:
        stamps = [message.stamp for message in bag.messages(["/image"])]
        assert stamps[0] == 5 and 16 <= len(stamps) <= 21
        assert ["bag_1.mcap is cut off" in note for note in bag.notes] == [True]


OLD = get_typestore(Stores.ROS1_NOETIC)


def ros1_header() -> Any:
    time = OLD.types["builtin_interfaces/msg/Time"](sec=5, nanosec=7)
    return OLD.types["std_msgs/msg/Header"](seq=3, stamp=time, frame_id="cam")


def ros1_image(pixels: np.ndarray) -> Any:
    return OLD.types["sensor_msgs/msg/Image"](
        ros1_header(), 40, 60, "rgb8", 0, 180, pixels.reshape(-1)
    )


def write_ros1(path: Path, messages: list[tuple[str, Any]]) -> Path:
    with Ros1Writer(path) as writer:
        for topic, message in messages:
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=OLD)
            writer.write(connection, 9, bytes(OLD.serialize_ros1(message, kind)))
    return path


def test_types_are_decoded_as_the_recording_defines_them(tmp_path: Path) -> None:
    """A type that this package does not know, and one that it knows with other fields."""
    path = tmp_path / "x.mcap"
    other = "string what\nuint8[] bytes\n" + "=" * 80 + "\nMSG: std_msgs/Unused\nuint8 a\n"
    with path.open("wb") as sink:
        writer = mcap.writer.Writer(sink)
        writer.start("ros2")
        for topic, kind, text, data in (
            ("/thing", "my_msgs/msg/Thing", "uint8 value\nuint8 MOST=7\n", b"\0\1\0\0\5"),
            ("/known", "std_msgs/msg/String", other, b"\0\1\0\0\3\0\0\0ab\0\0\1\0\0\0\7"),
            ("/broken", "std_msgs/msg/String", "(", b"\0\1\0\0\3\0\0\0ab\0"),
            ("/foreign", "x", "{}", b"{}"),
        ):
            encoding = "jsonschema" if topic == "/foreign" else "ros2msg"
            schema = writer.register_schema(kind, encoding, text.encode())
            coded = "json" if topic == "/foreign" else "cdr"
            writer.add_message(writer.register_channel(topic, coded, schema), 5, data, 5)
        writer.finish()
    with Bag(path) as bag:
        found = {message.topic: message.decode() for message in bag.messages()}
        assert bag.notes == ("/foreign is recorded as json: passed over",)
    assert list(found) == ["/thing", "/known", "/broken"]
    assert found["/thing"].value == 5
    assert (found["/known"].what, found["/known"].bytes.tolist()) == ("ab", [7])
    assert found["/broken"].data == "ab"


@pytest.mark.parametrize("kind", ["old.bag", "converted.mcap"])
def test_a_ros1_bag_is_read_as_if_it_were_of_ros2(kind: str, tmp_path: Path) -> None:
    pixels = images(1)[0]
    k = np.arange(9.0)
    roi = OLD.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    info = OLD.types["sensor_msgs/msg/CameraInfo"](
        ros1_header(), 40, 60, "plumb_bob", np.zeros(5), k, k, np.arange(12.0), 0, 0, roi
    )
    path = tmp_path / kind
    if kind == "old.bag":
        write_ros1(path, [("/image", ros1_image(pixels)), ("/camera_info", info)])
    else:  # as `mcap convert` makes it of one
        with path.open("wb") as sink:
            writer = mcap.writer.Writer(sink)
            writer.start("ros1")
            for topic, message in (("/image", ros1_image(pixels)), ("/camera_info", info)):
                name = message.__msgtype__
                schema = writer.register_schema(name.replace("/msg/", "/"), "ros1msg", b"")
                channel = writer.register_channel(topic, "ros1", schema)
                writer.add_message(channel, 9, bytes(OLD.serialize_ros1(message, name)), 9)
            writer.finish()
    with Bag(path) as bag:
        image, camera = bag.first("/image"), bag.first("/camera_info")
        assert {topic.name: topic.type for topic in bag.topics} == {
            "/image": "sensor_msgs/msg/Image",
            "/camera_info": "sensor_msgs/msg/CameraInfo",
        }
    assert image is not None and camera is not None
    assert image.stamp == 5_000_000_007
    assert image.decode().header.frame_id == "cam"
    assert (image.decode().data.reshape(40, 60, 3) == pixels).all()
    assert (camera.decode().k == k).all()


def test_a_ros1_bag_whose_messages_are_scattered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message in the order of time would unpack another chunk."""
    path = tmp_path / "old.bag"
    kind = "sensor_msgs/msg/Image"
    message = bytes(OLD.serialize_ros1(ros1_image(images(1)[0]), kind))
    with Ros1Writer(path) as writer:
        writer.chunk_threshold = 1
        connections = [writer.add_connection(f"/{n}", kind, typestore=OLD) for n in (0, 1)]
        for number in range(20):
            writer.write(connections[number % 2], 100 + number, message)
    with Bag(path) as bag:
        assert len(list(bag.messages())) == 20
    monkeypatch.setattr(bag_storage, "_FREE", 0)
    monkeypatch.setattr(bag_storage, "_FACTOR", 0.5)
    with pytest.raises(BagError, match="are scattered: sort it with `rosbag filter`"):
        Bag(path)


def test_of_a_ros1_bag_types_that_ros2_does_not_have_are_passed_over(tmp_path: Path) -> None:
    goal = OLD.types["actionlib/msg/TwoIntsGoal"](1, 2)
    messages = [("/wait", goal), ("/image", ros1_image(images(1)[0]))]
    with Bag(write_ros1(tmp_path / "old.bag", messages)) as bag:
        assert [message.topic for message in bag.messages()] == ["/image"]
        notes = summarise(bag).notes
    assert "/wait: none of its 1 messages can be read" in notes
