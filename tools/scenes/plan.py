# SPDX-License-Identifier: Apache-2.0
"""A room's plan: walls with openings, and what stands where. Needs no model, only sizes.

The room is x 0..width, y 0..length, z 0..height. Walls are numbered north, east, south, west; an
item at yaw 0 has its back to the north. Positions along a wall are x or y.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .models import PROCEDURAL, Entry, by_role
from .parts import Pair, Point, Rng

YAWS = (0.0, -90.0, 180.0, 90.0)
NORTH, EAST, SOUTH, WEST = range(4)
Box = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Opening:
    """A hole in a wall from ``start`` to ``end`` along it, ``bottom`` to ``top`` in height.
    ``kind`` is window, door (closed by ``door``) or doorway (to another room)."""

    wall: int
    start: float
    end: float
    bottom: float
    top: float
    kind: str
    door: Entry | None = None


@dataclass(eq=False)
class Placed:
    """An item: the middle of its bottom, turn in degrees, size in metres. ``parent`` is what it
    lies on, None for the floor; ``seed`` decides its looks."""

    entry: Entry
    at: Point
    yaw: float
    size: Point
    parent: Placed | None = None
    seed: int = 0
    role: str = ""

    @property
    def box(self) -> Box:
        """x, y, z of the low and the high corner."""
        c, s = abs(np.cos(np.radians(self.yaw))), abs(np.sin(np.radians(self.yaw)))
        w, d, h = self.size
        dx, dy = (w * c + d * s) / 2, (w * s + d * c) / 2
        x, y, z = self.at
        return x - dx, y - dy, z, x + dx, y + dy, z + h

    def beside(self, right: float, front: float) -> Pair:
        """The point ``right`` and ``front`` metres from the middle, as the item faces."""
        c, s = np.cos(np.radians(self.yaw)), np.sin(np.radians(self.yaw))
        return self.at[0] + right * c + front * s, self.at[1] + right * s - front * c


def touch(a: Box, b: Box, margin: float = 0.0) -> bool:
    """Whether two boxes share space, or are less than ``margin`` apart in x and y."""
    near = all(a[i] < b[i + 3] + margin and a[i + 3] > b[i] - margin for i in (0, 1))
    return near and a[2] < b[5] and a[5] > b[2]


@dataclass
class Plan:
    """A room. ``wet`` rooms have tiles; ``origin`` places it beside another one."""

    kind: str
    width: float
    length: float
    height: float
    rng: Rng
    wet: bool = False
    origin: Pair = (0.0, 0.0)
    openings: list[Opening] = field(default_factory=list)
    items: list[Placed] = field(default_factory=list)

    def wall_length(self, wall: int) -> float:
        return self.width if wall in (NORTH, SOUTH) else self.length

    def from_wall(self, wall: int, along: float, away: float) -> Pair:
        """The point ``away`` metres in front of a wall."""
        return (
            (along, self.length - away), (self.width - away, along), (along, away), (away, along),
        )[wall]  # fmt: skip

    def zone(self, opening: Opening, depth: float) -> tuple[float, float, float, float]:
        """The floor in front of an opening: x, y of the low and the high corner."""
        a = self.from_wall(opening.wall, opening.start, 0.0)
        b = self.from_wall(opening.wall, opening.end, depth)
        return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])

    def fits(self, item: Placed, ignore: tuple[Placed, ...] = (), margin: float = 0.01) -> bool:
        """Whether an item is inside the room, and clear of items, doors and windows."""
        x0, y0, _, x1, y1, z1 = item.box
        if min(x0, y0) < 0 or x1 > self.width or y1 > self.length or z1 > self.height:
            return False
        for o in self.openings:
            a, b, c, d = self.zone(o, 0.12 if o.kind == "window" else 0.8)
            if touch(item.box, (a, b, o.bottom + 0.03, c, d, o.top)):
                return False
        return not any(touch(item.box, other.box, margin) for other in self.items
                       if other not in ignore and other.role != "rug")  # fmt: skip

    def put(self, item: Placed, ignore: tuple[Placed, ...] = (), margin: float = 0.01):
        """The item, in the room now; None where it does not fit."""
        if not self.fits(item, ignore, margin):
            return None
        self.items.append(item)
        return item

    def make(self, role: str, yaw: float = 0.0, scale: float | None = None) -> Placed:
        """An item of a role, at no place yet, its size varied."""
        choice = by_role(role)
        entry = choice[int(self.rng.integers(len(choice)))]
        scale = self.rng.uniform(0.92, 1.08) if scale is None else scale
        spread = 0.25 if entry.library == PROCEDURAL else 0.04
        size = tuple(x * scale * (1 + self.rng.uniform(-spread, spread)) for x in entry.size)
        return Placed(entry, (0, 0, 0), yaw, size, None, int(self.rng.integers(1 << 30)), role)

    def against(self, role: str, wall: int | None = None, along: float | None = None,
                z: float = 0.0, gap: float = 0.02, tries: int = 14) -> Placed | None:  # fmt: skip
        """Place an item with its back to a wall; None where there is no room."""
        for _ in range(tries):
            k = int(self.rng.integers(4)) if wall is None else wall
            item = self.make(role, YAWS[k])
            span = self.wall_length(k) - item.size[0]
            if span < 0:
                continue
            share = self.rng.uniform()
            if z == 0.0:  # half of all furniture stands in a corner or near one
                share = self.rng.choice((0.02, 0.98, share, share))
            t = item.size[0] / 2 + span * share if along is None else along
            away = item.size[1] / 2 + gap + self.rng.exponential(0.01)
            item.at = (*self.from_wall(k, t, away), z)
            if self.put(item):
                return item
        return None

    def free(self, role: str, tries: int = 14, margin: float = 0.05) -> Placed | None:
        """Place an item anywhere on the floor, turned at random."""
        for _ in range(tries):
            item = self.make(role, self.rng.uniform(-180, 180))
            item.at = (self.rng.uniform(0, self.width), self.rng.uniform(0, self.length), 0.0)
            if self.put(item, margin=margin):
                return item
        return None

    def near(self, role: str, parent: Placed, right: float, front: float, turn: float = 0.0,
             ignore: tuple[Placed, ...] = ()) -> Placed | None:  # fmt: skip
        """Place an item relative to another one; None where there is no room. ``right`` and
        ``front`` are between the middle of the parent and the near edge of the item."""
        item = self.make(role, parent.yaw + turn)
        w, d = item.size[1::-1] if abs(np.sin(np.radians(turn))) > 0.7 else item.size[:2]
        right += np.sign(right) * w / 2
        front += np.sign(front) * d / 2
        item.at = (*parent.beside(right, front), 0.0)
        return self.put(item, ignore)

    def lay(self, role: str, parent: Placed) -> Placed | None:
        """Lay an item on another one, clear of what lies there already."""
        if parent.entry.rest is None:
            return None
        z = parent.at[2] + parent.entry.rest * parent.size[2] / parent.entry.size[2]
        others = [i for i in self.items if i.parent is parent]
        for _ in range(6):
            item = self.make(role, parent.yaw + self.rng.normal(0, 35))
            item.parent, long = parent, max(item.size[:2])
            if long > max(parent.size[:2]):
                continue
            w, d = (max(0.85 * s - long * 0.8, 0.0) / 2 for s in parent.size[:2])
            item.at = (*parent.beside(self.rng.uniform(-w, w), self.rng.uniform(-d, d)), z)
            x0, y0, _, x1, y1, top = item.box
            inside = min(x0, y0) > 0 and x1 < self.width and y1 < self.length and top < self.height
            if inside and not any(touch(item.box, other.box) for other in others):
                self.items.append(item)
                return item
        return None
