# SPDX-License-Identifier: Apache-2.0
"""Bags, videos and folders of images look alike; their topics are guessed right."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.pictures import decode_depth
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.topics import choose_topics
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.geometry import Camera
from recordings import (
    COLOUR_FRAME,
    START,
    image_message,
    info_message,
    jpeg_message,
    picture,
    write_messages,
    write_recording,
)

# Read once, by the first video of a process, which here is one that a test writes.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

COMPRESSED = "sensor_msgs/msg/CompressedImage"
RGB = np.zeros((4, 6, 3), np.uint8)
DEPTH = np.full((4, 6), 1500, np.uint16)
PNG = cv2.imencode(".png", DEPTH)[1].reshape(-1)
MESSAGES = {
    "rgb8": image_message(RGB, "rgb8", START),
    "mono8": image_message(RGB[..., 0], "mono8", START),
    "16UC1": image_message(DEPTH, "16UC1", START),
    "32FC1": image_message(DEPTH.astype(np.float32), "32FC1", START),
    "jpeg": jpeg_message(RGB, START),
    "mono16": image_message(DEPTH, "mono16", START),
    "png": replace(jpeg_message(RGB, START), format="png", data=PNG),
    "16UC1 png": replace(jpeg_message(RGB, START), format="16UC1; png compressed ", data=PNG),
    "info": info_message(6, 4, 5.0, START),
}


def write_topics(path: Path, topics: dict[str, str]) -> Path:
    """Write a recording with one message of each topic, of the given kind."""
    return write_messages(path, [(name, START, MESSAGES[kind]) for name, kind in topics.items()])


REALSENSE = {
    "/camera/infra1/image_rect_raw": "mono8",
    "/camera/infra1/camera_info": "info",
    "/camera/depth/image_rect_raw": "16UC1",
    "/camera/depth/camera_info": "info",
    "/camera/aligned_depth_to_color/image_raw": "16UC1",
    "/camera/aligned_depth_to_color/camera_info": "info",
    "/camera/color/image_raw/compressed": "jpeg",
    "/camera/color/image_raw": "rgb8",
    "/camera/color/camera_info": "info",
}


@pytest.mark.parametrize(
    ("topics", "image", "info", "depth"),
    [
        (REALSENSE, "/camera/color/image_raw", "/camera/color/camera_info",
         "/camera/aligned_depth_to_color/image_raw"),
        ({"/camera/rgb/image_color": "rgb8", "/camera/rgb/camera_info": "info",
          "/camera/depth/image": "32FC1", "/camera/depth/camera_info": "info"},
         "/camera/rgb/image_color", "/camera/rgb/camera_info", "/camera/depth/image"),
        ({"/usb_cam/image_raw": "rgb8"}, "/usb_cam/image_raw", None, None),
        ({"/image": "jpeg", "/camera_info": "info"}, "/image", "/camera_info", None),
        # The only camera_info is the depth camera's: it says nothing about the colour camera.
        ({"/c/color/image": "rgb8", "/c/depth/image": "16UC1", "/c/depth/camera_info": "info"},
         "/c/color/image", None, "/c/depth/image"),
        ({"/cam/image": "rgb8", "/cam/segmentation/image": "mono8", "/cam/label": "mono8"},
         "/cam/image", None, None),
        # 16 bits of one channel may be heat, infrared light, what a laser has got back, or depth
        ({"/cam/color": "rgb8", "/thermal/image_raw": "mono16", "/c/infra/image": "16UC1",
          "/ouster/signal_image": "mono16", "/ouster/reflec_image": "16UC1",
          "/cam/depth/confidence": "mono16"}, "/cam/color", None, None),
        ({"/cam/color": "rgb8", "/cam/depth": "mono16"}, "/cam/color", None, "/cam/depth"),
        ({"/thermal/image_raw": "mono16"}, "/thermal/image_raw", None, None),
        ({"/cam/color": "jpeg", "/cam/depth/compressed": "png"}, "/cam/color", None,
         "/cam/depth/compressed"),
        ({"/cam/color": "jpeg", "/cam/a/compressed": "16UC1 png"}, "/cam/color", None,
         "/cam/a/compressed"),
        ({"/cam/color": "jpeg", "/cam/ir/compressed": "png"}, "/cam/color", None, None),
        ({"/mono/image_raw": "mono8"}, "/mono/image_raw", None, None),
        ({"/cam/rgb": "rgb8", "/cam/rgb/depth": "16UC1"}, "/cam/rgb", None, "/cam/rgb/depth"),
        # As Gazebo names an RGB-D camera; what was made from its images comes after them.
        ({"/depth_camera/image_raw": "rgb8", "/depth_camera/camera_info": "info",
          "/depth_camera/depth/image_raw": "32FC1", "/depth_camera/normals/color": "rgb8"},
         "/depth_camera/image_raw", "/depth_camera/camera_info", "/depth_camera/depth/image_raw"),
        ({"/realsense_depth/color/image_raw/compressed": "jpeg"},
         "/realsense_depth/color/image_raw/compressed", None, None),
    ],
)  # fmt: skip
def test_topics_are_guessed(
    topics: dict[str, str], image: str, info: str | None, depth: str | None, tmp_path: Path
) -> None:
    with Bag(write_topics(tmp_path / "bag", topics)) as bag:
        chosen = choose_topics(bag)
    assert chosen.image.name == image
    assert (chosen.camera_info.name if chosen.camera_info else None) == info
    assert (chosen.depth.name if chosen.depth else None) == depth


def test_named_topics_are_taken_as_named(tmp_path: Path) -> None:
    with Bag(write_topics(tmp_path / "bag", REALSENSE)) as bag:
        chosen = choose_topics(
            bag, image="/camera/infra1/image_rect_raw", depth="/camera/depth/image_rect_raw"
        )
        assert chosen.image.name == "/camera/infra1/image_rect_raw"
        assert chosen.camera_info is not None
        assert chosen.camera_info.name == "/camera/infra1/camera_info"
        assert chosen.depth is not None
        assert chosen.depth.name == "/camera/depth/image_rect_raw"
        with pytest.raises(BagError, match=r"has no topic /wrong.*it holds .*/camera/color"):
            choose_topics(bag, image="/wrong")
        with pytest.raises(BagError, match="is a sensor_msgs/msg/CameraInfo"):
            choose_topics(bag, image="/camera/color/camera_info")


def test_a_bag_gives_pictures_and_depth_in_metres(tmp_path: Path) -> None:
    with open_recording(write_recording(tmp_path / "bag", frames=3)) as recording:
        stamps = [m.stamp for m in recording.messages() if m.type == COMPRESSED]
        found = recording.pictures({stamps[1]})
        depth = decode_depth(list(recording.depth_frames())[1])
        assert (recording.kind, recording.frames, round(recording.rate)) == ("bag", 3, 10)
        assert recording.frame_of(recording.topics.depth) == COLOUR_FRAME
        # a stamp that no image has is left out
        assert list(recording.pictures({stamps[2], 5})) == [stamps[2]]
    assert list(found) == [stamps[1]]
    assert np.abs(found[stamps[1]].astype(int) - picture(1)).mean() < 3
    np.testing.assert_allclose(depth, picture(1)[..., 2] / 25.5, atol=1e-3)


@pytest.mark.parametrize("kind", ["images", "bag"])
def test_a_camera_that_was_given_is_published_with_every_image(kind: str, tmp_path: Path) -> None:
    if kind == "bag":
        path = write_topics(tmp_path / "bag", {"/c/image": "rgb8", "/c/camera_info": "info"})
    else:
        path = tmp_path
        cv2.imwrite(str(path / "a.png"), RGB)
    camera = Camera(np.array([[9.0, 0, 3], [0, 9, 2], [0, 0, 1]]), 6, 4)
    with open_recording(path, camera=camera) as recording:
        info, image = recording.messages()
    assert recording.topics.camera_info is not None
    assert info.topic == recording.topics.camera_info.name and info.stamp == image.stamp
    assert info.decode().k[0] == 9 and info.decode().header.frame_id == COLOUR_FRAME
    with open_recording(path, camera=False) as recording:
        assert len(list(recording.messages())) == 1 and recording.topics.camera_info is None


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("missing", None, "check the path"),
        ("empty", {}, "holds neither a rosbag2 nor images"),
        ("texts", {"a.txt": b"text"}, "holds neither a rosbag2 nor images"),
        ("clip.mp4", b"\x00\x00\x00\x18ftypmp42 and nothing more", "neither a rosbag2 nor a video"),
        ("notes.txt", b"text", "neither a rosbag2 nor a video"),
        ("old.db3", b"", "is empty"),
    ],
)
def test_what_cannot_be_played_is_told_in_one_line(
    name: str, content: object, hint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, dict):
        path.mkdir()
        for file, data in content.items():
            (path / file).write_bytes(data)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(BagError) as error:
        open_recording(path)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""  # the libraries below say nothing of their own


def test_options_that_do_not_fit_the_kind_of_recording_are_refused(tmp_path: Path) -> None:
    bag = write_topics(tmp_path / "bag", {"/image": "jpeg"})
    with pytest.raises(BagError, match="leave out --fps"):
        open_recording(bag, fps=5)
    with pytest.raises(BagError, match="give --fps between"):
        open_recording(bag, fps=0)
    with open_recording(bag) as recording:
        assert list(recording.depth_frames()) == [] and recording.frame_of(None) == ""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), RGB)
    (images / "b.bmp").write_bytes(b"BM but no more")
    with open_recording(images) as recording:
        assert len(list(recording.messages())) == 1
        assert "1 images are left out, the first: " in recording.notes[0]
        (images / "a.png").rename(tmp_path / "a.png")
    with (
        pytest.raises(BagError, match=r"none of the 1 images.*b\.bmp is not a readable image"),
        open_recording(images) as recording,
    ):
        list(recording.messages())
    (tmp_path / "a.png").rename(images / "a.png")
    (images / "b.bmp").unlink()
    own = open_recording(images).topics.image.name
    assert open_recording(images, image_topic=own).frames == 1
    for option in ("image_topic", "info_topic", "depth_topic"):
        with pytest.raises(BagError, match=f"no topic /front.*its images are {own}"):
            open_recording(images, **{option: "/front"})


@pytest.mark.data
def test_the_kitchen_recording_is_understood(kitchen_bag: Path) -> None:
    with open_recording(kitchen_bag) as recording:
        assert recording.frames == 240
        assert recording.topics.depth is not None
        assert recording.topics.depth.name == "/camera/depth/image_rect_raw"
        depth = decode_depth(next(recording.depth_frames()))
        frames = [recording.frame_of(t) for t in (recording.topics.image, recording.topics.depth)]
        assert frames[0] != frames[1]
    assert 0.5 < float(np.nanmedian(depth)) < 5


@pytest.mark.data
def test_the_video_is_understood(video: Path) -> None:
    with open_recording(video) as recording:
        first = next(recording.messages())
        assert recording.rate == pytest.approx(10, abs=0.1)
        assert recording.pictures({first.stamp})[first.stamp].shape == (432, 768, 3)
