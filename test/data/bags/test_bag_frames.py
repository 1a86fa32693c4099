# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording: its options, its camera, which labels are made, what cannot be used."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sources
from rosbags.rosbag2 import StoragePlugin, Writer

from proto_mtl_ros.data.bags.bag import Bag, typestore
from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import notes_of
from proto_mtl_ros.errors import BagError, DataError
from recordings import DEPTH_FRAME, FX, START, picture, write_recording


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "bag", 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every must be 1 or more"),
        ({"tolerance": -1}, "tolerance 0 to 10 seconds"),
        ({"masks": "{masks}"}, "none of the 1 masks of .* is named by the stamp of an image"),
        ({"masks": "{bare}"}, "neither classes.txt nor classes.json; name the classes"),
        ({"camera": {**sources.CAMERA, "width": 70}}, "another aspect ratio"),
    ],
)
def test_options_that_do_not_fit_a_recording_are_told(
    recording: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    for name in ("masks", "bare"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / f"{START + 50_000_000}.png"), np.zeros((120, 160)))
    (tmp_path / "masks" / "classes.txt").write_text("floor\n")
    places = {"{masks}": tmp_path / "masks", "{bare}": tmp_path / "bare"}
    for name, value in options.items():
        if isinstance(value, str):
            options = {**options, name: str(places[value])}
    with pytest.raises(DataError, match=said):
        open_source("bag", recording, "train", options=options)


def with_other_info(source: Path, path: Path, change: Callable[[Any], Any]) -> Path:
    """Copy a recording; ``change`` gets each camera_info and may return None to leave it out."""
    with Bag(source) as bag, BagWriter(path) as writer:
        for message in bag.messages():
            changed = message.decode()
            if "info" in message.topic:
                changed = change(changed)
            if changed is not None:
                writer.add_topic(message.topic, message.type)
                writer.write(message.topic, message.time, changed)
    return path


def test_a_camera_can_be_given_where_the_recording_has_none(
    recording: Path, tmp_path: Path
) -> None:
    changes: dict[str, Callable[[Any], Any]] = {
        "no camera_info beside": lambda info: None,
        "is not calibrated": lambda info: replace(info, k=np.zeros(9), p=np.zeros(12)),
        "camera_info of .* cannot be used": lambda info: replace(info, k=np.full(9, np.nan)),
    }
    for number, (said, change) in enumerate(changes.items()):
        path = with_other_info(recording, tmp_path / str(number), change)
        with pytest.raises(DataError, match=f"{said}.*give camera"):
            open_source("bag", path, "train")
        camera = {"fx": 90.0, "fy": 90.0, "cx": 79.5, "cy": 59.5, "width": 160, "height": 120}
        frames = open_source("bag", path, "train", options={"camera": camera})
        assert frames[0].camera.fx == 90.0 and "depth" in frames[0].labels


def test_whether_images_are_rectified_can_be_said(recording: Path, tmp_path: Path) -> None:
    def half(info: Any) -> Any:
        return replace(info, p=info.p * np.array([0.5, 1, 1, 1, 1, 0.5, 1, 1, 1, 1, 1, 1]))

    path = with_other_info(recording, tmp_path / "half", half)
    focal = [
        open_source("bag", path, "train", options=options)[0].camera.fx
        for options in ({}, {"rectified": True}, {"rectified": False})
    ]
    assert focal == [FX, FX / 2, FX]


def test_of_a_recording_only_the_labels_that_are_allowed_are_made(
    recording: Path, tmp_path: Path
) -> None:
    frames = open_source("bag", recording, "train", options={"every": 2})
    first, second, third = frames.frame_ids
    (tmp_path / "m.csv").write_text(
        f"frame_id,depth,normals\n{first},1,0\n{second},0,1\n{third},0,0\n"
    )
    frames = open_source(
        "bag", recording, "train", manifest=tmp_path / "m.csv", options={"every": 2}
    )
    # whoever may use depth may use the normals that are made of it
    assert [tuple(frames[i].labels) for i in range(3)] == [("depth", "normals"), ("normals",), ()]
    with pytest.raises(DataError, match="no frame '5'"):
        frames.has("5")


def test_depth_that_is_not_registered_is_kept_away_from_edges(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "bag", 1, depth_frame=DEPTH_FRAME)
    frames = open_source("bag", path, "train")
    labels = frames[0].labels
    assert list(labels) == ["depth", "normals"] and 0 < (labels["depth"] > 0).mean() < 1
    assert any("right away from edges alone" in note for note in notes_of(frames))


def test_pictures_of_chosen_frames_pass_by_once_each(recording: Path, tmp_path: Path) -> None:
    with Bag(recording) as bag, BagWriter(tmp_path / "twice") as writer:
        for message in bag.messages():
            writer.add_topic(message.topic, message.type)
            for again in (0, 1):
                writer.write(message.topic, message.time + again, message.cdr)
    wanted = [str(START + index * 100_000_000) for index in (3, 1)]
    frames = BagFrames(tmp_path / "twice", frame_ids=wanted)
    seen = list(frames.pictures())
    frames.close()
    assert [stamp for stamp, _ in seen] == [int(wanted[1]), int(wanted[0])]
    assert np.abs(seen[0][1].astype(int) - picture(1)).mean() < 3


def test_messages_of_one_time_are_told_apart_and_a_changed_recording_is_noticed(
    recording: Path, tmp_path: Path
) -> None:
    path = tmp_path / "slow"
    with (
        Bag(recording) as bag,
        Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        kinds = {topic.name: topic.type for topic in bag.topics}
        connections = {
            name: writer.add_connection(name, kind, typestore=typestore())
            for name, kind in kinds.items()
        }
        for message in bag.messages():  # as a recorder whose disk was slow
            writer.write(connections[message.topic], START, message.cdr)
    frames = open_source("bag", path, "train")
    for index in (4, 0):
        assert np.abs(frames[index].rgb.astype(int) - picture(index)).mean() < 3
    file = path / "slow.mcap"
    seconds, nanoseconds = divmod(START, 1_000_000_000)
    there, other = (struct.pack("<iI", seconds, nanoseconds + more) for more in (0, 1))
    file.write_bytes(file.read_bytes().replace(there, other))
    with pytest.raises(BagError, match="open it again"):
        frames[0]
