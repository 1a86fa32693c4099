# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag to-dataset`: new and sharp frames, clean labels, splits by time, killed or not."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from proto_mtl_ros.data.bags.bag import typestore
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.data.folder import Folder
from recordings import COLOUR_FRAME, DEPTH_FRAME, START, image_message, info_message, jpeg_message

WIDTH, HEIGHT, FRAMES, STEP = 160, 120, 30, 8
"""The camera moves by ``STEP`` pixels a frame: a twentieth of the width."""


@lru_cache
def world() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((HEIGHT, WIDTH + FRAMES * STEP)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    grey = np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def depth_of(frame: int) -> np.ndarray:
    """Millimetres: a wall with a box before it that stands still in the world, and junk."""
    depth = np.full((HEIGHT, WIDTH + FRAMES * STEP), 3000, np.uint16)
    depth[40:80, 60:100] = 1500
    depth[40:80, 160:200] = 1500
    depth = depth[:, frame * STEP : frame * STEP + WIDTH].copy()
    depth[:5] = 12_000  # beyond what is believed
    depth[100:103, 20:23] = 900  # a speck
    return depth


def moving(path: Path, depth_frame: str = COLOUR_FRAME, blurred: tuple[int, ...] = ()) -> Path:
    with BagWriter(path) as writer:
        topics = {
            "/color/image/compressed": "sensor_msgs/msg/CompressedImage",
            "/color/camera_info": "sensor_msgs/msg/CameraInfo",
            "/depth/image": "sensor_msgs/msg/Image",
        }
        for name, kind in topics.items():
            writer.add_topic(name, kind)
        for frame in range(FRAMES):
            stamp = START + frame * 100_000_000
            rgb = world()[:, frame * STEP : frame * STEP + WIDTH]
            if frame in blurred:
                rgb = cv2.GaussianBlur(rgb, (0, 0), 4)
            depth = image_message(depth_of(frame), "16UC1", stamp, depth_frame)
            messages = (jpeg_message(rgb, stamp), info_message(WIDTH, HEIGHT, 120.0, stamp), depth)
            for (name, kind), message in zip(topics.items(), messages, strict=True):
                writer.write(name, stamp, bytes(typestore().serialize_cdr(message, kind)))
    return path


def to_dataset(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "to-dataset"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )


def frames_of(folder: Path, split: str) -> list[int]:
    """Return the numbers of the frames of a split."""
    ids = Folder(folder, split).frame_ids
    return [(int(frame_id) - START) // 100_000_000 for frame_id in ids]


def test_splits_are_stretches_of_time_and_labels_are_clean(tmp_path: Path) -> None:
    bag, out = moving(tmp_path / "bag"), tmp_path / "data"
    done = to_dataset(bag, "--out", out, "--blocks", "train 0.5, skip 0.2, test 0.3",
                      "--motion", 0.08)  # fmt: skip
    assert done.returncode == 0, done.stderr
    train, test = frames_of(out, "train"), frames_of(out, "test")
    assert max(train) <= 14 and min(test) >= 20
    # every second frame has moved on far enough; the sharpest of the next few is taken
    assert 2 <= len(train) <= 8 and np.diff(train).min() >= 2
    sample = Folder(out, "train")[0]
    frame = train[0]
    depth = sample.labels["depth"]
    expected = depth_of(frame) / 1000
    assert not depth[:5].any()  # too far
    assert not depth[100:103, 20:23].any()  # the speck
    kept = depth > 0
    assert kept[8:95].mean() > 0.95
    np.testing.assert_allclose(depth[kept], expected[kept], atol=1e-3)
    wall = sample.labels["normals"][90:98, 40:150]
    assert (wall[..., 2] < -0.99).mean() > 0.9
    assert sample.camera.fx == pytest.approx(120)


def test_blurred_frames_are_left_out(tmp_path: Path) -> None:
    blurred = (4, 5, 10, 11, 12, 21)
    out = tmp_path / "data"
    bag = moving(tmp_path / "bag", blurred=blurred)
    done = to_dataset(bag, "--out", out, "--blocks", "train 1", "--motion", 0.03)
    assert done.returncode == 0, done.stderr
    kept = frames_of(out, "train")
    assert len(kept) >= 5 and not set(kept) & set(blurred)


def test_depth_that_is_not_registered_teaches_away_from_edges(tmp_path: Path) -> None:
    bag, out = moving(tmp_path / "bag", DEPTH_FRAME), tmp_path / "data"
    done = to_dataset(bag, "--out", out, "--blocks", "train 1")
    assert done.returncode == 0, done.stderr
    frames = Folder(out, "train")
    number = frames_of(out, "train")[0]
    depth = frames[0].labels["depth"]
    edges = cv2.Canny((depth_of(number) // 20).astype(np.uint8), 10, 20) > 0
    edges[:10] = edges[95:110, 15:30] = False  # of the junk
    near = cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert near.any() and not depth[near].any()
    far = cv2.dilate(edges.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    far[:20] = far[90:115, 5:40] = False
    assert (depth[far] > 0).mean() > 0.95


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    bag = moving(tmp_path / "bag")
    out = tmp_path / "data"
    for arguments, said in (
        (("--blocks", "train"), "give names and parts"),
        (("--blocks", "train 0.5"), "add up to 1"),
        (("--near", 3, "--far", 2), "must be less than"),
    ):
        done = to_dataset(bag, "--out", out, *arguments)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert to_dataset(bag, "--out", out, "--blocks", "train 1").returncode == 0
    done = to_dataset(bag, "--out", out, "--blocks", "train 1", "--motion", 0.2)
    assert done.returncode == 3 and "begun with other settings" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = to_dataset(bag, "--out", tmp_path / "mine")
    assert done.returncode == 3 and "not empty" in done.stderr
