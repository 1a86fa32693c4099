# SPDX-License-Identifier: Apache-2.0
"""A recording of a camera that moves past a wall with boxes before it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from recordings import (
    COLOUR_FRAME,
    START,
    image_message,
    info_message,
    jpeg_message,
    write_messages,
)

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
    messages = []
    for frame in range(FRAMES):
        stamp = START + frame * 100_000_000
        rgb = world()[:, frame * STEP : frame * STEP + WIDTH]
        if frame in blurred:
            rgb = cv2.GaussianBlur(rgb, (0, 0), 4)
        depth = image_message(depth_of(frame), "16UC1", stamp, depth_frame)
        messages += [
            ("/color/image/compressed", stamp, jpeg_message(rgb, stamp)),
            ("/color/camera_info", stamp, info_message(WIDTH, HEIGHT, 120.0, stamp)),
            ("/depth/image", stamp, depth),
        ]
    return write_messages(path, messages)
