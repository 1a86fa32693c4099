# SPDX-License-Identifier: Apache-2.0
"""A recording as a data set: its options, its camera, which labels are made; and as a folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sources
from dataset_command import dataset_command
from moving_recording import depth_of, moving
from rosbags.rosbag2 import StoragePlugin, Writer

from proto_mtl_ros.data.bags.bag import Bag, BagMessage
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.errors import BagError, DataError, ProtoMtlError
from recordings import DEPTH_FRAME, FX, START, changed, picture, write_recording


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
    return changed(source, path, lambda m, got: change(got) if "info" in m.topic else got)


def test_a_camera_can_be_given_where_the_recording_has_none(
    recording: Path, tmp_path: Path
) -> None:
    changes: dict[str, Callable[[Any], Any]] = {
        "no camera_info beside": lambda info: None,
        "is not calibrated": lambda info: replace(info, k=np.zeros(9), p=np.zeros(12)),
        "camera_info cannot be used": lambda info: replace(info, k=np.full(9, np.nan)),
    }
    for number, (said, change) in enumerate(changes.items()):
        path = with_other_info(recording, tmp_path / str(number), change)
        with pytest.raises(DataError, match=f"{said}.*give camera"):
            open_source("bag", path, "train")
        camera = {"fx": 90.0, "fy": 90.0, "cx": 79.5, "cy": 59.5, "width": 160, "height": 120}
        (tmp_path / "camera.json").write_text(json.dumps(camera))
        given = camera if number else str(tmp_path / "camera.json")
        frames = open_source("bag", path, "train", options={"camera": given})
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


def test_frames_of_a_recording(recording: Path) -> None:
    frames = open_source("bag", recording, "train")
    assert frames.frame_ids == [str(START + index * 100_000_000) for index in range(5)]
    assert frames.tasks == ("depth", "normals")
    for index in (3, 0):
        sample = frames[index]
        assert sample.camera.fx == FX
        assert np.abs(sample.rgb.astype(int) - picture(index)).mean() < 3  # JPEG
        expected = np.round(picture(index)[..., 2] * (1000 / 25.5)) / 1000
        np.testing.assert_allclose(sample.labels["depth"], expected, atol=1e-6)
        normals = sample.labels["normals"]
        lengths = np.linalg.norm(normals[normals.any(-1)], axis=-1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_every_nth_image_and_the_tolerance(recording: Path) -> None:
    frames = open_source("bag", recording, "train", options={"every": 2})
    assert frames.frame_ids == [str(START + index * 200_000_000) for index in range(3)]
    assert np.abs(frames[1].rgb.astype(int) - picture(2)).mean() < 3
    # depth is 4 ms late
    frames = open_source("bag", recording, "train", options={"tolerance": 0.003})
    assert frames.tasks == ()
    assert not frames[0].labels


def test_masks_named_by_stamp(recording: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "classes.txt").write_text("floor\nwall\n")
    ids = np.zeros((120, 160), np.uint8)
    ids[60:] = 1
    cv2.imwrite(str(masks / f"{START + 100_000_000 + 500}.png"), ids)
    cv2.imwrite(str(masks / "1700000000.300000000.png"), 1 - ids)
    frames = open_source("bag", recording, "train", options={"masks": str(masks)})
    has = [frames.has(frame_id) for frame_id in frames.frame_ids]
    assert ["segmentation" in tasks for tasks in has] == [False, True, False, True, False]
    np.testing.assert_array_equal(frames[1].labels["segmentation"], ids)
    np.testing.assert_array_equal(frames[3].labels["segmentation"], 1 - ids)
    cv2.imwrite(str(masks / f"{START}.png"), ids[::2, ::2])
    frames = open_source("bag", recording, "train", options={"masks": str(masks)})
    with pytest.raises(DataError, match="80x60, its image 160x120"):
        frames[0]


convert = partial(dataset_command, "convert")


def frames_in(folder: Path, split: str) -> list[int]:
    """Return the numbers of the frames of a split."""
    ids = Folder(folder, split).frame_ids
    return [(int(frame_id) - START) // 100_000_000 for frame_id in ids]


def test_splits_are_stretches_of_time_and_labels_are_clean(tmp_path: Path) -> None:
    bag, out = moving(tmp_path / "bag"), tmp_path / "data"
    blocks = ("--blocks", "train 0.5, skip 0.2, test 0.3", "--motion", 0.08)
    printed = convert(bag, "--out", out, *blocks)
    assert "registered to the images: both are in" in printed and "camera of /color" in printed
    train, test = frames_in(out, "train"), frames_in(out, "test")
    assert max(train) <= 14 and min(test) >= 20
    # every second frame has moved on far enough; the sharpest of the next few is taken
    assert 2 <= len(train) <= 8 and np.diff(train).min() >= 2
    assert f"test: {len(test)} frames (depth {len(test)}, normals {len(test)}), 0 written" in (
        convert(bag, "--out", out, *blocks)
    )
    sample = Folder(out, "train")[0]
    depth, expected = sample.labels["depth"], depth_of(train[0]) / 1000
    assert not depth[:5].any()  # too far
    assert not depth[100:103, 20:23].any()  # the speck
    kept = depth > 0
    assert kept[8:95].mean() > 0.95
    np.testing.assert_allclose(depth[kept], expected[kept], atol=1e-3)
    wall = sample.labels["normals"][90:98, 40:150]
    assert (wall[..., 2] < -0.99).mean() > 0.9
    assert sample.camera.fx == pytest.approx(120)


def test_blurred_frames_are_left_out_unless_all_are_wanted(tmp_path: Path) -> None:
    blurred = (4, 5, 10, 11, 12, 21)
    bag = moving(tmp_path / "bag", blurred=blurred)
    convert(bag, "--out", tmp_path / "data", "--blocks", "train 1", "--motion", 0.03)
    kept = frames_in(tmp_path / "data", "train")
    assert len(kept) >= 5 and not set(kept) & set(blurred)
    every = ("--blocks", "train 1", "--motion", 0, "--option", "every=7", "--images", "png")
    convert(bag, "--out", tmp_path / "all", *every)
    assert frames_in(tmp_path / "all", "train") == [0, 7, 14, 21, 28]
    assert (tmp_path / "all" / "images" / f"{START}.png").is_file()


def test_depth_that_is_not_registered_teaches_away_from_edges(tmp_path: Path) -> None:
    bag, out = moving(tmp_path / "bag", DEPTH_FRAME), tmp_path / "data"
    assert "right away from edges alone" in convert(bag, "--out", out, "--blocks", "train 1")
    depth = Folder(out, "train")[0].labels["depth"]
    edges = cv2.Canny((depth_of(frames_in(out, "train")[0]) // 20).astype(np.uint8), 10, 20) > 0
    edges[:10] = edges[95:110, 15:30] = False  # of the junk
    near = cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert near.any() and not depth[near].any()
    far = cv2.dilate(edges.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    far[:20] = far[90:115, 5:40] = False
    assert (depth[far] > 0).mean() > 0.95


def test_what_a_recording_cannot_become_is_refused(recording: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "data", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for arguments, said in (
        (("--out", out, "--blocks", "train"), "give names and parts"),
        (("--out", out, "--blocks", "train 0.5"), "add up to 1"),
        (("--out", out, "--option", "near=3", "--option", "far=2"), "must be less than"),
        (("--out", out, "--option", "nearest=3"), "kind bag has no option 'nearest'"),
        (("--out", out, "--option", "near=[1]"), "an option of kind bag cannot be used"),
        (("--out", out, "--manifest", out), "--manifest"),
        (("--out", mine), "not empty"),
    ):
        with pytest.raises(ProtoMtlError, match=said):
            convert(recording, *arguments)
    convert(recording, "--out", out, "--blocks", "train 1")
    with pytest.raises(DataError, match="begun with other settings"):
        convert(recording, "--out", out, "--blocks", "train 1", "--motion", 0.2)
    (out / ".selection.json").write_text("{}")
    with pytest.raises(DataError, match="is damaged: delete it"):
        convert(recording, "--out", out, "--blocks", "train 1")


def test_one_damaged_image_costs_no_conversion(tmp_path: Path) -> None:
    def cut(message: BagMessage, content: Any) -> Any:
        if message.topic.endswith("compressed") and message.stamp == START + 300_000_000:
            return replace(content, data=content.data[: len(content.data) // 2])
        return content

    broken = changed(moving(tmp_path / "bag"), tmp_path / "broken", cut)
    for motion, most in ((0.03, 29), (0, 29)):
        out = tmp_path / str(motion)
        printed = convert(broken, "--out", out, "--blocks", "train 1", "--motion", motion)
        kept = frames_in(out, "train")
        assert 5 < len(kept) <= most and 3 not in kept
        assert "note: 1 messages of /color/image/compressed cannot be decoded" in printed
