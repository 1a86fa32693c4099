# SPDX-License-Identifier: Apache-2.0
"""Videos and folders of images, played as a camera would be."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoded import turned_jpeg

from proto_mtl_ros.data.bags.pictures import decode_picture
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.errors import BagError
from recordings import COLOUR_FRAME

# Read once, by the first video of a process, which here is one that a test writes.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
RGB = np.zeros((4, 6, 3), np.uint8)


def test_a_folder_of_images_plays_in_natural_order(tmp_path: Path) -> None:
    for number, suffix in ((10, "png"), (9, "jpg"), (2, "bmp")):
        image = np.full((8, 10, 3), number * 10, np.uint8)
        cv2.imwrite(str(tmp_path / f"frame{number}.{suffix}"), image)
    (tmp_path / "notes.txt").write_text("not an image")
    photo = cv2.imencode(".jpg", np.full((8, 10, 3), 150, np.uint8))[1].tobytes()
    (tmp_path / "frame11.jpg").write_bytes(turned_jpeg(photo))
    with open_recording(tmp_path, fps=4) as recording:
        messages = list(recording.messages())
        pictures = recording.pictures({m.stamp for m in messages})
    assert [int(pictures[m.stamp].mean().round()) for m in messages] == [20, 90, 100, 150]
    assert pictures[messages[3].stamp].shape == (10, 8, 3)  # as its EXIF says
    assert np.diff([m.stamp for m in messages]).tolist() == [250_000_000] * 3
    assert messages[0].stamp > 0  # 0 would mean "no time"
    assert recording.topics.depth is None


def video(path: Path, frames: int | list[np.ndarray]) -> Path:
    """Write a video of 20 frames a second: these, or so many of noise."""
    if isinstance(frames, int):
        rng = np.random.default_rng(0)
        frames = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(frames)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_a_video_plays_at_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    video(path, [np.full((48, 64, 3), level, np.uint8) for level in (40, 120, 200)])
    with open_recording(path) as recording:
        messages = list(recording.messages())
        pictures = recording.pictures({messages[2].stamp})
    assert recording.frames == len(messages) == 3
    assert messages[1].stamp - messages[0].stamp == 50_000_000
    assert messages[0].decode().encoding == "rgb8"
    assert messages[0].decode().header.frame_id == COLOUR_FRAME
    assert abs(float(pictures[messages[2].stamp].mean()) - 200) < 4


def test_a_video_that_was_cut_plays_to_its_end(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.avi", 30)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_recording(path) as recording:
        stamps = [message.stamp for message in recording.messages()]
        assert 5 < len(stamps) < 30
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(BagError, match="no readable frame|neither a rosbag2 nor a video"):
        open_recording(path)


def test_a_video_of_no_possible_rate_needs_one(tmp_path: Path) -> None:
    path = video(tmp_path / "fast.avi", 3)
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, content.index(b"strh") + 28, 1, 5000)  # scale, rate
    path.write_bytes(content)
    with pytest.raises(BagError, match="how many frames a second it has: give --fps"):
        open_recording(path)
    with open_recording(path, fps=100) as recording:
        assert recording.rate == pytest.approx(100)


@pytest.mark.parametrize("count", [0, 2, 50, 1 << 31])
def test_a_video_plays_to_its_end_whatever_its_header_says(count: int, tmp_path: Path) -> None:
    path = video(tmp_path / "clip.avi", 5)
    content = bytearray(path.read_bytes())
    for place in (content.index(b"avih") + 24, content.index(b"strh") + 40):
        struct.pack_into("<I", content, place, count)
    path.write_bytes(content)
    with open_recording(path) as recording:
        stamps = [message.stamp for message in recording.messages()]
        assert list(recording.pictures(stamps)) == stamps
    assert np.diff(stamps).tolist() == [50_000_000] * 4


def test_a_video_of_a_varying_rate_keeps_its_times(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path, times = tmp_path / "clip.mkv", [0, 33, 66, 166, 266]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.codec_context.time_base = 64, 48, Fraction(1, 1000)
        for time in (*times, None):
            frame = None
            if time is not None:
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
    with open_recording(path) as recording:
        stamps = [message.stamp for message in recording.messages()]
    assert [(stamp - stamps[0]) // 1_000_000 for stamp in stamps] == times


def test_a_single_image_and_a_pipe_are_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "clip.avi", 1)
    monkeypatch.setattr("proto_mtl_ros.data.bags.image_sequence.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(BagError, match="frames above 3071 pixels: scale it down"):
        open_recording(path)
    cv2.imwrite(str(tmp_path / "a.png"), RGB)
    with pytest.raises(BagError, match="a single image: give the folder that it is in"):
        open_recording(tmp_path / "a.png")
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(BagError, match=r"clip\.mp4 cannot be read"):
        open_recording(tmp_path / "clip.mp4")


def test_names_of_images_may_hold_any_digit(tmp_path: Path) -> None:
    for level, name in enumerate(("9", "10", "²", "²7", "a²", "a٣", "a10")):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((4, 6, 3), 10 * level, np.uint8))
    with open_recording(tmp_path) as recording:
        pictures = [decode_picture(message)[0, 0, 0] // 10 for message in recording.messages()]
    assert pictures == [0, 1, 5, 6, 4, 3, 2]  # ٣ is a three, ² no number
