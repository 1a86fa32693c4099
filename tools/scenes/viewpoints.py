# SPDX-License-Identifier: Apache-2.0
"""Where a camera may be in a room: on a vacuum robot, a cart, a hand, a head, a shelf."""

from __future__ import annotations

import numpy as np

from .parts import CLASSES, WALL
from .plan import Plan
from .renderer import Hits, Pinhole, Pose, look

WORTH = np.array([3.2, 0.5, 0.2, 1.7, 0.5, 1.6, 1.7, 1.0, 1.4, 2.4, 1.6, 0.65, 1.0, 0.2])
"""What a pixel of each class is worth: more where random views show less than real ones do."""


def pinhole(rng: np.random.Generator, width: int, height: int) -> Pinhole:
    """A camera of 45 to 100 degrees across, mostly those of depth cameras and phones."""
    degrees = float(
        np.clip(rng.normal(63, 8) if rng.random() < 0.7 else rng.uniform(45, 100), 45, 100)
    )
    return Pinhole(width, height, width / 2 / float(np.tan(np.radians(degrees / 2))))


def pose(rng: np.random.Generator, plan: Plan) -> Pose | None:
    """A pose in free space, which looks at something; None where the draw was inside a thing."""
    low, high = ((0.08, 0.3), (0.3, 1.0), (1.0, 1.8), (1.8, 2.3))[
        int(rng.choice(4, p=(0.1, 0.18, 0.67, 0.05)))
    ]
    z = min(float(rng.uniform(low, high)), plan.height - 0.1)
    margin = 0.12
    x, y = rng.uniform(margin, plan.width - margin), rng.uniform(margin, plan.length - margin)
    # People with a camera stand at the edge of a room more often than in its middle.
    if rng.random() < 0.65:
        side = int(rng.integers(4))
        x, y = plan.from_wall(
            side, rng.uniform(margin, plan.wall_length(side) - margin), rng.uniform(margin, 0.6)
        )
    for item in plan.items:
        a, b, c, d, e, f = item.box
        if a - 0.1 < x < d + 0.1 and b - 0.1 < y < e + 0.1 and c - 0.1 < z < f + 0.1:
            return None
    here = np.array([x, y, z])
    things = [i for i in plan.items if i.parent is None and i.role not in ("switch", "ceilinglamp")]
    if things and rng.random() < 0.75:
        # Large things across the room are what pictures are taken of.
        away = np.array([np.hypot(i.at[0] - x, i.at[1] - y) for i in things])
        sides = np.array([np.hypot(*i.size[:2]) * (0.3 + i.size[2]) for i in things])
        weights = np.clip(sides, 0.05, 2.0) * np.clip(away / 2, 0.1, 1.0)
        item = things[int(rng.choice(len(things), p=weights / weights.sum()))]
        target = np.array(item.at) + (0, 0, item.size[2] / 2)
    else:
        target = rng.uniform((0, 0, 0), (plan.width, plan.length, plan.height))
    ahead = target - here
    flat = float(np.hypot(*ahead[:2]))
    if flat < 0.4:
        return None
    aim = float(np.degrees(np.arctan2(ahead[2], flat)))
    usual = {0.08: 4.0, 0.3: -4.0, 1.0: -15.0, 1.8: -25.0}[low]
    pitch = np.radians(np.clip(0.5 * aim + 0.5 * usual + rng.normal(0, 9), -75, 55))
    heading = np.arctan2(ahead[1], ahead[0]) + np.radians(rng.normal(0, 8))
    roll = np.radians(rng.normal(0, float(rng.choice((1.0, 4.0, 12.0), p=(0.65, 0.3, 0.05)))))
    return look(here + np.array([*plan.origin, 0.0]), heading, pitch, roll)


def worth(hits: Hits, rng: np.random.Generator) -> bool:
    """Whether a view shows enough: things at a distance, several classes; a few dull ones pass."""
    if (hits.labels == 255).mean() > 0.01:
        return False
    near, middle = np.percentile(hits.depth, (2, 50))
    if (
        near < 0.15
        or middle < 0.55
        or (middle < 1.2 and rng.random() < 0.8)
        or not np.isfinite(hits.depth).all()
    ):
        return False
    counts = np.bincount(hits.labels, minlength=256)[: len(CLASSES)] / len(hits.labels)
    if counts[WALL] > 0.48 and rng.random() < 0.7:
        return False
    return bool(
        rng.random() < 0.04
        or (counts @ WORTH > rng.uniform(0.8, 1.2) and (counts > 0.01).sum() >= 4)
    )
