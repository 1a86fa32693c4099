# SPDX-License-Identifier: Apache-2.0
"""Flicker and jitter are those that were put in, however the camera moves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from proto_mtl_ros.evaluation.stability import WIDTH, Stability


def texture(seed: int = 0) -> np.ndarray:
    """Smooth noise, uint8 [300, 420, 3], that flow can hold on to."""
    noise = np.random.default_rng(seed).random((300, 420)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.repeat((255 * smooth).astype(np.uint8)[..., None], 3, 2)


def view(world: np.ndarray, shift: int) -> np.ndarray:
    """What a camera sees that has moved by so many pixels."""
    return np.ascontiguousarray(world[30:270, 40 + shift : 360 + shift])


IDS = (np.mgrid[:300, :420][1] // 60).astype(np.uint8)
DEPTHS = (1 + np.mgrid[:300, :420][0] / 100).astype(np.float32)


@pytest.mark.parametrize("shift", [0, 3, 8])
def test_what_moves_with_the_picture_is_steady(shift: int) -> None:
    stability = Stability()
    assert stability.add(view(texture(), 0), view(IDS, 0), view(DEPTHS, 0)) is None
    # nearer by a tenth, all of it, as when the camera moves forward
    now = stability.add(view(texture(), shift), view(IDS, shift), 0.9 * view(DEPTHS, shift))
    assert now is not None
    assert now.followed > 0.85
    assert now.motion == pytest.approx(shift * WIDTH / 320, abs=0.3)
    assert now.flicker < 0.01
    assert now.jitter < 0.005


def test_what_changes_is_counted() -> None:
    rng = np.random.default_rng(0)
    stability = Stability()
    stability.add(view(texture(), 0), view(IDS, 0), view(DEPTHS, 0))
    ids = view(IDS, 4).copy()
    changed = rng.random(ids.shape) < 0.2
    ids[changed] = 12
    depth = view(DEPTHS, 4) * np.exp(rng.choice([-0.05, 0.05], ids.shape)).astype(np.float32)
    now = stability.add(view(texture(), 4), ids, depth)
    assert now is not None
    assert now.flicker == pytest.approx(0.2, abs=0.02)
    assert now.jitter == pytest.approx(0.05, abs=0.01)


def test_unlabelled_pixels_and_missing_depth_do_not_flicker() -> None:
    stability = Stability()
    stability.add(view(texture(), 0), view(IDS, 0), None)
    ids = view(IDS, 0).copy()
    ids[:120] = 255
    now = stability.add(view(texture(), 0), ids, None)
    assert now is not None and now.flicker == 0
    assert now.jitter is None
    empty = np.full(ids.shape, np.nan, np.float32)
    now = stability.add(view(texture(), 0), np.full_like(ids, 255), empty)
    assert now is not None and now.flicker is None and now.jitter is None


def test_another_place_cannot_be_followed_and_another_size_begins_anew() -> None:
    stability = Stability()
    stability.add(view(texture(0), 0), view(IDS, 0), view(DEPTHS, 0))
    now = stability.add(view(texture(1), 0), view(IDS, 0), view(DEPTHS, 0))
    assert now is not None and now.followed < 0.5
    small = np.ascontiguousarray(texture()[:100])
    assert stability.add(small, None, None) is None
    assert stability.add(small, None, None) is not None
