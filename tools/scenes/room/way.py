# SPDX-License-Identifier: Apache-2.0
"""The camera: its intrinsics and its way through the room.

Optical frame: x right, y down, z forward (REP-103). World: x east, y north, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FX = FY = 525.0
IMAGE_WIDTH, IMAGE_HEIGHT = 640, 480
# Pixel centres are whole numbers, so the middle of 640 x 480 pixels is (319.5, 239.5).
CX, CY = (IMAGE_WIDTH - 1) / 2, (IMAGE_HEIGHT - 1) / 2

# time 0..1, x, y, heading in degrees (0 = east, 90 = north)
WAY = np.array([
    [0.00, 5.10, 0.95, 141.0],
    [0.25, 4.55, 0.80, 118.0],
    [0.50, 3.75, 0.85, 92.0],
    [0.75, 2.95, 0.95, 61.0],
    [1.00, 2.35, 1.15, 27.0],
])  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Position [3] of the camera, and ``axes`` [3,3], whose columns are right, down, forward."""

    position: np.ndarray
    axes: np.ndarray


def _spline(t: float, column: int) -> float:
    """A smooth curve through the way's points: the one polynomial of degree 4."""
    return float(np.polyval(np.polyfit(WAY[:, 0], WAY[:, column], len(WAY) - 1), t))


def pose(frame: int, frames: int, pitch: float, sway: float) -> Pose:
    """The pose of a frame. ``pitch`` is degrees downwards; ``sway`` scales a hand's motion."""
    t = frame / max(frames - 1, 1)
    s = 2 * np.pi * t
    position = np.array([_spline(t, 1), _spline(t, 2), 1.32])
    position += sway * np.array([
        0.008 * np.sin(5.1 * s), 0.008 * np.sin(4.3 * s + 1), 0.015 * np.sin(3.3 * s) + 0.03 * t,
    ])  # fmt: skip
    heading = np.radians(_spline(t, 3) + sway * 0.35 * np.sin(4.7 * s + 2))
    down = np.radians(pitch + sway * (0.9 * np.sin(1.7 * s) + 0.25 * np.sin(5.9 * s + 1)))
    roll = np.radians(sway * (0.5 * np.sin(1.3 * s + 0.5) + 0.2 * np.sin(6.1 * s)))
    level = np.array([np.cos(heading), np.sin(heading), 0.0])
    forward = np.cos(down) * level - np.sin(down) * np.array([0, 0, 1.0])
    right = np.array([np.sin(heading), -np.cos(heading), 0.0])
    lower = np.cross(forward, right)
    axes = np.stack([
        np.cos(roll) * right + np.sin(roll) * lower,
        np.cos(roll) * lower - np.sin(roll) * right,
        forward,
    ], 1)  # fmt: skip
    return Pose(position, axes)


def rays(supersampling: int = 1) -> np.ndarray:
    """Viewing rays (x, y, 1) in the optical frame, float64 [N,3], row by row. One through each
    pixel's centre, or a grid of ``supersampling`` x ``supersampling`` inside each pixel."""
    s = supersampling
    v, u = np.mgrid[: IMAGE_HEIGHT * s, : IMAGE_WIDTH * s].astype(np.float64)
    u, v = (u + 0.5) / s - 0.5, (v + 0.5) / s - 0.5
    return np.stack([(u - CX) / FX, (v - CY) / FY, np.ones_like(u)], -1).reshape(-1, 3)
