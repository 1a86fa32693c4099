# SPDX-License-Identifier: Apache-2.0
"""Images and what belongs to them: one to one, nearest first, in the order of recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.data.bags.bag import typestore
from proto_mtl_ros.data.bags.frame_stream import FrameStream, match_one_to_one
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.writer import BagWriter
from recordings import START, image_message

KIND = "sensor_msgs/msg/Image"
MS = 1_000_000
stamps = st.lists(st.integers(0, 400), max_size=30)


@given(stamps, stamps, st.integers(0, 40))
def test_pairs_are_near_and_no_stamp_is_used_twice(
    first: list[int], second: list[int], tolerance: int
) -> None:
    pairs = match_one_to_one(first, second, tolerance)
    assert set(pairs) <= set(first) and set(pairs.values()) <= set(second)
    assert len(set(pairs.values())) == len(pairs)
    assert all(abs(a - b) <= tolerance for a, b in pairs.items())
    # nobody is left who could have had each other
    for a in set(first) - set(pairs):
        for b in set(second) - set(pairs.values()):
            assert abs(a - b) > tolerance


def test_the_nearest_wins_and_the_next_nearest_is_free_for_another() -> None:
    assert match_one_to_one([0, 30], [20, 31, 70], 25) == {30: 31, 0: 20}
    assert match_one_to_one([0, 10], [6], 10) == {10: 6}


def recorded(path: Path, messages: list[tuple[str, int, int]]) -> BagRecording:
    """Write (topic, stamp, time), milliseconds; an image's value is its place in the list."""
    with BagWriter(path) as writer:
        for topic in dict.fromkeys(topic for topic, *_ in messages):
            writer.add_topic(topic, KIND)
        for number, (topic, stamp, time) in enumerate(messages):
            depth = topic == "/depth"
            pixels: Any = np.full((4, 6, 2 if depth else 3), number, np.uint8)
            message = image_message(pixels, "16UC1" if depth else "rgb8", START + stamp * MS)
            writer.write(topic, START + time * MS, bytes(typestore().serialize_cdr(message, KIND)))
    return BagRecording(path, "/image")


def pairs_of(recording: BagRecording, tolerance: float = 0.02) -> list[tuple[int, int | None]]:
    """Return the stamps, in milliseconds, of all images and their depth."""
    found = []
    for frame in FrameStream(recording, ["/depth"], tolerance):
        depth = frame.partners.get("/depth")
        found.append(
            (
                (frame.stamp - START) // MS,
                None if depth is None else (depth.stamp - START) // MS,
            )
        )
    return found


def test_depth_that_comes_before_or_after_its_image(tmp_path: Path) -> None:
    messages = [
        ("/depth", 5, 0), ("/image", 0, 10), ("/image", 100, 110), ("/image", 200, 210),
        ("/depth", 205, 215), ("/depth", 103, 220), ("/image", 300, 310),
    ]  # fmt: skip
    recording = recorded(tmp_path / "bag", messages)
    assert pairs_of(recording) == [(0, 5), (100, 103), (200, 205), (300, None)]
    stream = FrameStream(recording, ["/depth"])
    assert (len(stream), stream.matched) == (4, {"/depth": 3})


def test_stamps_out_of_order_and_twice(tmp_path: Path) -> None:
    messages = [
        ("/image", 100, 0), ("/image", 0, 1), ("/image", 100, 2), ("/depth", 1, 3),
        ("/depth", 99, 4), ("/depth", 101, 5),
    ]  # fmt: skip
    recording = recorded(tmp_path / "bag", messages)
    assert pairs_of(recording) == [(100, 99), (0, 1)]
    assert FrameStream(recording, ["/depth"]).repeated == 1


def test_many_images_without_depth_do_not_wait_for_it(tmp_path: Path) -> None:
    messages = [("/image", 10 * n, 10 * n) for n in range(200)]
    messages.append(("/depth", 0, 5000))  # of the first image, recorded long after it
    recording = recorded(tmp_path / "bag", messages)
    found = pairs_of(recording)
    assert [image for image, _ in found] == [10 * n for n in range(200)]
    assert not any(depth is not None for _, depth in found)  # it would have to wait for ever


def test_depth_that_comes_long_before_its_image_is_not_kept_for_ever(tmp_path: Path) -> None:
    messages = [("/depth", 10 * n, n) for n in range(100)]
    messages += [("/image", 10 * n, 1000 + n) for n in range(100)]
    found = pairs_of(recorded(tmp_path / "bag", messages))
    assert [image for image, _ in found] == [10 * n for n in range(100)]
    # of as many as may wait the latest, and no image has another's
    assert [depth for _, depth in found] == [None] * 36 + [10 * n for n in range(36, 100)]


def test_images_that_still_wait_at_the_end_come_with_what_there_is(tmp_path: Path) -> None:
    messages = [("/depth", 10 * n, n) for n in range(50)]
    messages += [("/label", 10 * n, 100 + n) for n in range(50)]
    messages += [("/image", 10 * n, 1000 + n) for n in range(50)]
    recording = recorded(tmp_path / "bag", messages)
    frames = list(FrameStream(recording, ["/depth", "/label"]))
    assert [frame.stamp - START for frame in frames] == [10 * n * MS for n in range(50)]
    assert all("/label" in frame.partners for frame in frames)
    assert ["/depth" in frame.partners for frame in frames] == [False] * 36 + [True] * 14


def test_two_streams_each_wait_for_their_own(tmp_path: Path) -> None:
    messages = [
        ("/image", 0, 0), ("/image", 100, 1), ("/label", 1, 2), ("/depth", 101, 3),
        ("/label", 101, 4), ("/depth", 1, 5),
    ]  # fmt: skip
    recording = recorded(tmp_path / "bag", messages)
    frames = list(FrameStream(recording, ["/depth", "/label"]))
    assert [frame.stamp - START for frame in frames] == [0, 100 * MS]
    for frame in frames:
        stamps = {name: one.stamp - frame.stamp for name, one in frame.partners.items()}
        assert stamps == {"/depth": MS, "/label": MS}
