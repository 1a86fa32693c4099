# SPDX-License-Identifier: Apache-2.0
"""Frames are kept that show something new and are sharp; splits are stretches of time."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.data.bags.frame_selection import FrameLook, choose_frames, motion, time_blocks


@lru_cache
def world(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.zeros((300, 1600, 3), np.float32)
    for size in (2, 6, 20):
        noise = rng.standard_normal(picture.shape[:2]).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), size)
        picture += (noise / noise.std())[..., None]
    return np.clip(128 + 30 * picture, 0, 255).astype(np.uint8)


def view(x: float, blur: float = 0.0, of: np.ndarray | None = None) -> np.ndarray:
    shift = np.array([[1, 0, -x], [0, 1, 0]], np.float64)
    seen = cv2.warpAffine(world() if of is None else of, shift, (320, 240))
    return cv2.GaussianBlur(seen, (0, 0), blur) if blur else seen


def looks(views: list[np.ndarray]) -> list[tuple[int, FrameLook]]:
    return [(stamp, FrameLook.of(picture)) for stamp, picture in enumerate(views)]


@pytest.mark.parametrize("shift", [0, 4, 16, 28])
def test_motion_is_the_part_of_the_width_that_was_moved(shift: int) -> None:
    first, second = FrameLook.of(view(100)), FrameLook.of(view(100 + shift))
    assert motion(first.small, second.small) == pytest.approx(shift / 320, abs=0.012)


def test_another_scene_has_moved_and_a_dark_one_has_not() -> None:
    first, other = FrameLook.of(view(0)), FrameLook.of(view(0, of=world(1)))
    assert motion(first.small, other.small) > 0.05
    dark = np.zeros_like(first.small)
    assert motion(dark, dark) == 0
    far = FrameLook.of(view(100))
    assert motion(first.small, far.small) == 1
    assert motion(first.small, first.small[:50]) == 1


def test_a_camera_that_stands_still_gives_one_frame() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(view(50) + rng.normal(0, 3, (240, 320, 3)), 0, 255).astype(np.uint8)
        for _ in range(20)
    ]
    assert len(choose_frames(looks(noisy))) == 1


def test_a_camera_that_moves_gives_one_frame_per_step() -> None:
    views = [view(4.0 * n) for n in range(100)]  # 400 pixels, 1.25 widths
    kept = choose_frames(looks(views), least_motion=0.1, window=1)
    # every 32 pixels one
    assert 10 <= len(kept) <= 14
    assert np.diff(kept).min() >= 5


def test_the_sharpest_of_the_next_few_is_taken_and_blur_never() -> None:
    blurs = [0, 0, 0, 3, 0, 3, 3, 0, 3, 0]
    views = [view(16.0 * n, blur) for n, blur in enumerate(blurs)]
    kept = choose_frames(looks(views), least_motion=0.03, window=2)
    assert kept and not {n for n in kept if blurs[n]}
    for_a_while = [view(16.0 * n, 4 if 5 <= n < 9 else 0) for n in range(15)]
    assert not set(choose_frames(looks(for_a_while), least_motion=0.03, window=1)) & {5, 6, 7, 8}


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60, unique=True))
def test_splits_are_stretches_of_time(stamps: list[int]) -> None:
    blocks = [("train", 0.5), ("skip", 0.2), ("test", 0.3)]
    found = time_blocks(stamps, blocks)
    assert set(found) == {"train", "test"}
    start, end = min(stamps), max(stamps)
    for stamp in stamps:
        part = (stamp - start) / max(end - start, 1)
        if part < 0.499:
            assert stamp in found["train"]
        elif 0.501 < part < 0.699:
            assert stamp not in found["train"] + found["test"]
        elif part > 0.701:
            assert stamp in found["test"]


def test_no_frames_are_divided_and_parts_that_are_not_the_whole_are_refused() -> None:
    blocks = [("train", 0.5), ("skip", 0.25), ("val", 0.25)]
    assert time_blocks([], blocks) == {"train": [], "val": []}
    for blocks in ([], [("train", 0.5)], [("train", 1.2), ("test", -0.2)]):
        with pytest.raises(ValueError, match="add up to 1"):
            time_blocks([1, 2], blocks)
