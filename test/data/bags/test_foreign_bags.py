# SPDX-License-Identifier: Apache-2.0
"""Recordings of other worlds: ROS 1, MCAP of other tools, types that nobody knows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zstandard
from ros1_bags import OLD, ros1_header, ros1_image, write_ros1
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from proto_mtl_ros.data.bags import storage as bag_storage
from proto_mtl_ros.data.bags.bag import Bag, stamped
from proto_mtl_ros.data.bags.calibration import Calibration, recorded_transform
from proto_mtl_ros.data.bags.message_types import VIDEO_PACKET
from proto_mtl_ros.data.bags.recorded_frames import RecordedFrames
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.summary import summarise
from proto_mtl_ros.data.bags.topics import choose_topics
from proto_mtl_ros.errors import BagError
from recordings import START, write_mcap, write_messages, write_recording

FOREIGN = ("/foreign", "foxglove.CompressedImage", "{}", "json", b"{}")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_types_are_decoded_as_the_recording_defines_them(tmp_path: Path) -> None:
    """A type that this package does not know, and one that it knows with other fields."""
    other = "string what\nuint8[] bytes\n" + "=" * 80 + "\nMSG: std_msgs/Unused\nuint8 a\n"
    string = "std_msgs/msg/String"
    messages = [
        ("/thing", "my_msgs/msg/Thing", "uint8 value\nuint8 MOST=7\n", "cdr", b"\0\1\0\0\5"),
        ("/known", string, other, "cdr", b"\0\1\0\0\3\0\0\0ab\0\0\1\0\0\0\7"),
        ("/broken", string, "(", "cdr", b"\0\1\0\0\3\0\0\0ab\0"),
        FOREIGN,
        ("/nothing", "", "", "cdr", b"\0\1\0\0"),
    ]
    with Bag(write_mcap(tmp_path / "x.mcap", messages)) as bag:
        found = {message.topic: message.decode() for message in bag.messages()}
        assert [note.split(" is passed over")[0] for note in bag.notes] == [
            "/foreign (foxglove.CompressedImage, json)", "/nothing (no type, cdr)",
        ]  # fmt: skip
        with pytest.raises(BagError, match="it holds .*/thing"):
            choose_topics(bag)
    assert list(found) == ["/thing", "/known", "/broken"]
    assert found["/thing"].value == 5
    assert (found["/known"].what, found["/known"].bytes.tolist()) == ("ab", [7])
    assert found["/broken"].data == "ab"


@pytest.mark.parametrize("kind", ["old.bag", "converted.mcap"])
def test_a_ros1_bag_is_read_as_if_it_were_of_ros2(kind: str, tmp_path: Path) -> None:
    k = np.arange(9.0)
    roi = OLD.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    info = OLD.types["sensor_msgs/msg/CameraInfo"](
        ros1_header(), 40, 60, "plumb_bob", np.zeros(5), k, k, np.arange(12.0), 0, 0, roi
    )
    path = tmp_path / kind
    messages = [("/image", ros1_image(PIXELS)), ("/camera_info", info)]
    if kind == "old.bag":
        write_ros1(path, messages)
    else:  # as `mcap convert` makes it of one
        types = [message.__msgtype__ for _, message in messages]
        write_mcap(path, [
            (topic, name.replace("/msg/", "/"), "", "ros1", bytes(OLD.serialize_ros1(one, name)))
            for (topic, one), name in zip(messages, types)
        ])  # fmt: skip
    with Bag(path) as bag:
        image, camera = (next(bag.messages([name])) for name in ("/image", "/camera_info"))
        assert {topic.name: topic.type for topic in bag.topics} == {
            "/image": "sensor_msgs/msg/Image",
            "/camera_info": "sensor_msgs/msg/CameraInfo",
        }
    assert image.stamp == 5_000_000_007
    assert image.decode().header.frame_id == "cam"
    assert (image.decode().data.reshape(40, 60, 3) == PIXELS).all()
    assert (camera.decode().k == k).all()


def test_a_ros1_bag_whose_messages_are_scattered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message in the order of time would unpack another chunk."""
    path = tmp_path / "old.bag"
    kind = "sensor_msgs/msg/Image"
    message = bytes(OLD.serialize_ros1(ros1_image(PIXELS), kind))
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


def test_of_a_ros1_bag_its_own_definitions_serve(tmp_path: Path) -> None:
    """Noetic's store lacks these types, and ROS 2 one of them."""
    types = get_typestore(Stores.ROS1_NOETIC)
    for name, text in (
        ("tf2_msgs/msg/TFMessage", "geometry_msgs/TransformStamped[] transforms\n"),
        ("my_msgs/msg/Thing", "Header header\ntime when\nint32 MOST=4\nfloat32 value\n"),
    ):
        types.register(get_types_from_msg(text, name))
    own = types.types
    time = own["builtin_interfaces/msg/Time"](8, 9)
    header = own["std_msgs/msg/Header"](3, time, "/base")
    move = own["geometry_msgs/msg/Transform"](
        own["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0),
        own["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
    )
    stated = own["geometry_msgs/msg/TransformStamped"](header, "/cam", move)
    messages = [
        ("/tf_static", own["tf2_msgs/msg/TFMessage"]([stated])),
        ("/thing", own["my_msgs/msg/Thing"](header, time, 2.5)),
        ("/image", ros1_image(PIXELS)),
    ]
    with BagRecording(write_ros1(tmp_path / "old.bag", messages, types)) as recording:
        transform = recorded_transform(recording, "cam", "base")
        assert transform is not None and transform[:3, 3].tolist() == [1, 2, 3]
        (thing,) = recording.messages_of(["/thing"])
        assert thing.stamp == 8_000_000_009
        assert (thing.decode().when.sec, thing.decode().value) == (8, 2.5)


def test_json_alone_is_named_and_not_called_empty(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "x.mcap", [FOREIGN])
    with Bag(path) as bag, pytest.raises(BagError, match="only CDR and ROS 1"):
        choose_topics(bag)


@pytest.mark.parametrize("name", ["bag.mcap.zstd", ""])
def test_a_packed_storage_is_read_without_its_metadata(name: str, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "bag", 2)
    storage = path / "bag.mcap"
    (path / "bag.mcap.zstd").write_bytes(zstandard.compress(storage.read_bytes()))
    storage.unlink()
    (path / "metadata.yaml").unlink()
    with Bag(path / name) as bag:
        assert len(list(bag.messages())) == 8


def test_packets_of_video_become_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ffmpeg_image_transport sends them; the recording begins between two whole pictures."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base, codec.gop_size = Fraction(1, 10), 6
    codec.options = {"tune": "zerolatency"}
    packets = []
    for number in range(20):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number, np.uint8), "rgb24")
        frame.pts = number
        packets += [(packet.pts, bytes(packet)) for packet in codec.encode(frame)]
    messages = []
    for number, data in packets[3:]:
        stamp = START + number * 100_000_000
        data = data[:20] if number == 15 else data
        content = np.frombuffer(data, np.uint8)
        packet = stamped(
            "/cam/image_raw/ffmpeg", VIDEO_PACKET, stamp, stamp, "cam", width=64, height=48,
            encoding="h264", pts=number, flags=0, is_bigendian=False, data=content,
        )  # fmt: skip
        messages.append((packet.topic, stamp, packet.decode()))
    path = write_messages(tmp_path / "bag", messages)
    with BagRecording(path) as recording:
        frames = RecordedFrames(recording, Calibration.of(recording))
        found = {(one.stamp - START) // 100_000_000: one.rgb for one in frames}
        assert set(found) >= {*range(6, 15), 18, 19} and len(found) < 17
        assert all(abs(float(found[n].mean()) - 10 * n) < 3 for n in range(6, 15))
        again = frames.at(START + 10 * 100_000_000)
        assert (again.rgb == found[10]).all()
    for name, value, why in (
        ("MAX_PIXELS", 64 * 48 - 1, "damaged"), ("av", None, "needs PyAV, extra video"),
    ):  # fmt: skip
        monkeypatch.setattr(f"proto_mtl_ros.data.bags.video_packets.{name}", value)
        with Bag(path) as bag:
            (topic,) = summarise(bag).topics
        assert topic.look.size == f"not readable ({why})" and not topic.look.use
