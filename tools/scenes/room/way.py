# SPDX-License-Identifier: Apache-2.0
"""The camera's way through the room. Optical frame: x right, y down, z forward (REP-103)."""

from __future__ import annotations

import numpy as np

from ..renderer import Pinhole, Pose, look

CAMERA = Pinhole(640, 480, 525.0)

# time 0..1, x, y, heading in degrees (0 = east, 90 = north)
WAY = np.array([
    [0.00, 5.10, 0.95, 141.0],
    [0.25, 4.55, 0.80, 118.0],
    [0.50, 3.75, 0.85, 92.0],
    [0.75, 2.95, 0.95, 61.0],
    [1.00, 2.35, 1.15, 27.0],
])  # fmt: skip


def _spline(t: float, column: int) -> float:
    """A smooth curve through the way's points: the one polynomial of degree 4."""
    return float(np.polyval(np.polyfit(WAY[:, 0], WAY[:, column], len(WAY) - 1), t))


def pose(frame: int, frames: int) -> Pose:
    """The pose of a frame: level with a hand's motion, four degrees downwards."""
    t = frame / max(frames - 1, 1)
    s = 2 * np.pi * t
    position = np.array([_spline(t, 1), _spline(t, 2), 1.32])
    position += np.array([
        0.008 * np.sin(5.1 * s), 0.008 * np.sin(4.3 * s + 1), 0.015 * np.sin(3.3 * s) + 0.03 * t,
    ])  # fmt: skip
    heading = np.radians(_spline(t, 3) + 0.35 * np.sin(4.7 * s + 2))
    down = np.radians(4.0 + 0.9 * np.sin(1.7 * s) + 0.25 * np.sin(5.9 * s + 1))
    roll = np.radians(0.5 * np.sin(1.3 * s + 0.5) + 0.2 * np.sin(6.1 * s))
    return look(position, float(heading), float(-down), float(roll))
