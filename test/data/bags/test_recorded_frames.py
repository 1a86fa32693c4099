# SPDX-License-Identifier: Apache-2.0
"""Images and what belongs to them: one to one, nearest first, in the order of recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recorded_frames import RecordedFrames, match_one_to_one
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import DataError
from recordings import START, image_message, write_messages

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


KINDS = {"/image": "rgb8", "/depth": "16UC1", "/label": "mono8", "/wrong": "rgb8"}


def recorded(path: Path, messages: list[tuple[str, int, int]]) -> BagRecording:
    """Write (topic, stamp, time), milliseconds; an image's value is its place in the list."""
    written = []
    for number, (topic, stamp, time) in enumerate(messages):
        shape = {"rgb8": (4, 6, 3), "16UC1": (4, 6, 2), "mono8": (4, 6)}[KINDS[topic]]
        pixels: Any = np.full(shape, number + 1, np.uint8)
        message = image_message(pixels, KINDS[topic], START + stamp * MS)
        written.append((topic, START + time * MS, message))
    return BagRecording(write_messages(path, written), "/image")


def frames_of(recording: BagRecording, *options: Any, **named: Any) -> RecordedFrames:
    return RecordedFrames(recording, Calibration.of(recording), *options, **named)


def pairs_of(frames: RecordedFrames, messages: list[tuple[str, int, int]]) -> list[tuple]:
    """Return the stamps, in milliseconds, of all images and of the depth that they come with."""
    found = []
    for frame in frames:
        depth = None
        if frame.depth is not None:
            place = round(float(frame.depth[0, 0]) * 1000 / 257) - 1
            depth = messages[place][1]
        found.append(((frame.stamp - START) // MS, depth))
    return found


@pytest.mark.parametrize(
    ("messages", "pairs"),
    [
        (
            [
                ("/depth", 5, 0), ("/image", 0, 10), ("/image", 100, 110), ("/image", 200, 210),
                ("/depth", 205, 215), ("/depth", 103, 220), ("/image", 300, 310),
            ],
            [(0, 5), (100, 103), (200, 205), (300, None)],
        ),
        (
            [
                ("/image", 100, 0), ("/image", 0, 1), ("/image", 100, 2), ("/depth", 1, 3),
                ("/depth", 99, 4), ("/depth", 101, 5),
            ],
            [(100, 99), (0, 1)],
        ),
        # of the first image, recorded long after it: that would have to wait for ever
        (
            [*(("/image", 10 * n, 10 * n) for n in range(100)), ("/depth", 0, 5000)],
            [(10 * n, None) for n in range(100)],
        ),
        # of as many as may wait the latest, and no image has another's
        (
            [
                *(("/depth", 100 * n, n) for n in range(50)),
                *(("/image", 100 * n, 1000 + n) for n in range(50)),
            ],
            [(100 * n, None if n < 18 else 100 * n) for n in range(50)],
        ),
    ],
    ids=["before and after", "out of order and twice", "much later", "much earlier"],
)  # fmt: skip
def test_images_come_once_with_their_depth(
    messages: list[tuple[str, int, int]], pairs: list[tuple], tmp_path: Path
) -> None:
    frames = frames_of(recorded(tmp_path / "bag", messages))
    assert pairs_of(frames, messages) == pairs
    with_depth = sum(depth is not None for _, depth in pairs)
    assert (frames.passed, frames.matched) == (len(pairs), {"/depth": with_depth})
    assert frames.repeated == sum(m[0] == "/image" for m in messages) - len(pairs)
    assert any("no depth within" in note for note in frames.notes()) == (with_depth < len(pairs))
    assert frames.index() == [START + image * MS for image, _ in pairs]
    for image, depth in pairs:
        again = frames.at(START + image * MS)
        assert (again.depth is not None) == (depth is not None)
        assert frames.has_partner(again.stamp, "/depth") == (depth is not None)


def test_labels_and_depth_each_wait_for_their_own(tmp_path: Path) -> None:
    messages = [
        ("/image", 0, 0), ("/image", 100, 1), ("/label", 1, 2), ("/depth", 101, 3),
        ("/label", 101, 4), ("/depth", 1, 5),
    ]  # fmt: skip
    frames = frames_of(recorded(tmp_path / "bag", messages), "/label")
    found = list(frames)
    assert [frame.labels[0, 0] for frame in found if frame.labels is not None] == [3, 5]
    depths = [float(frame.depth[0, 0]) for frame in found if frame.depth is not None]
    np.testing.assert_allclose(depths, [6 * 0.257, 4 * 0.257], atol=1e-6)


def test_part_of_a_recording_and_a_pass_that_goes_on(tmp_path: Path) -> None:
    messages = [("/image", 100 * n, 100 * n) for n in range(21)]
    recording = recorded(tmp_path / "bag", messages)
    part = frames_of(recording, part=(0.5, 1.0), every=2)
    stamps = [(frame.stamp - START) // MS for frame in part]
    assert stamps == [1000, 1200, 1400, 1600, 1800, 2000]
    assert len(part) == 5
    later = [frame.stamp for frame in part.starting_at(START + 1600 * MS)]
    assert later == [START + n * MS for n in (1600, 1800, 2000)] and part.passed == 6


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "bag", [("/image", 0, 0), ("/wrong", 0, 0)])
    with pytest.raises(DataError, match="/wrong has no class ids"):
        list(frames_of(recording, "/wrong"))
