# SPDX-License-Identifier: Apache-2.0
"""A random room, furnished: deterministic by its seed, and without a single model loaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import groups
from .plan import Opening, Plan

Group = Callable[[Plan], None]
STORAGE = groups.storing("shelf", "dresser", "shelf", "cabinet")

KINDS: dict[str, tuple[float, tuple[float, float], tuple[tuple[Group, float], ...]]] = {
    # share, smallest and largest side in metres, groups with their chances
    "living": (0.27, (3.2, 6.2), (
        (groups.seating, 1.0), (groups.television, 1.0), (groups.seating, 0.6), (STORAGE, 0.9),
        (groups.eating, 0.5), (STORAGE, 0.7), (groups.corner, 0.5), (groups.working, 0.2),
        (groups.storing("big"), 0.4),
    )),
    "bed": (0.25, (2.8, 4.8), (
        (groups.sleeping, 1.0), (groups.storing("wardrobe", "dresser", "rack"), 1.0),
        (groups.sleeping, 0.4), (STORAGE, 1.0), (groups.television, 0.5), (groups.working, 0.4),
        (groups.corner, 0.3),
    )),
    "dining": (0.11, (2.9, 5.4), (
        (groups.eating, 1.0), (STORAGE, 1.0), (STORAGE, 0.6), (groups.seating, 0.3),
        (groups.eating, 0.15), (groups.storing("big"), 0.2), (groups.corner, 0.2),
    )),
    "kitchen": (0.15, (2.3, 4.6), (
        (groups.cooking, 1.0), (STORAGE, 0.6), (groups.eating, 0.6),
    )),
    "bath": (0.08, (1.8, 3.6), ((groups.washing, 1.0),)),
    "office": (0.12, (2.6, 5.4), (
        (groups.working, 1.0), (groups.working, 0.6), (STORAGE, 1.0), (STORAGE, 0.5),
        (groups.working, 0.3), (groups.storing("cooler", "shelf"), 0.5), (groups.seating, 0.2),
        (groups.eating, 0.15),
    )),
    "corridor": (0.02, (1.5, 6.0), ((groups.storing("shelf", "dresser", "rack"), 1.0),)),
}  # fmt: skip


def clutter(plan: Plan) -> None:
    """What lies and stands around, in small heaps rather than evenly."""
    rng = plan.rng
    area = plan.width * plan.length
    for _ in range(int(rng.poisson(1.1 * area * rng.choice((0.2, 1.0, 2.0))))):
        role = str(rng.choice(("clutter", "clutter", "clutter", "box", "toy", "shoes", "cloth",
                               "books", "floorplant", "pillow", "pouf")))  # fmt: skip
        item = plan.against(role, tries=8) if rng.random() < 0.75 else plan.free(role, 8)
        if item is not None and role in ("box", "clutter") and item.size[2] < 0.5:
            groups.litter(plan, item, 0.4, "books", "cloth", "box")
    for role, chance in (("floorplant", 0.5), ("floorlamp", 0.35), ("sport", 0.06),
                         ("chair", 0.8), ("chair", 0.4), ("tv", 0.1), ("stool", 0.12),
                         ("armchair", 0.2)):  # fmt: skip
        if rng.random() < chance:
            plan.against(role) if rng.random() < 0.6 else plan.free(role)
    # Tops of cupboards and shelves are storage, too.
    for item in list(plan.items):
        stores = item.entry.rest is not None and item.parent is None and item.size[2] > 0.6
        if stores and item.role != "base" and rng.random() < 0.6:
            groups.litter(plan, item, 2, "box", "books", "plant", "livingsmall")


def hang(plan: Plan) -> None:
    """What hangs on walls and from the ceiling."""
    rng = plan.rng
    for o in plan.openings:
        if o.kind == "window" and o.bottom > 0.5 and rng.random() < 0.45:
            plan.against("heater", o.wall, (o.start + o.end) / 2, 0.08)
        elif o.kind != "window":
            plan.against("switch", o.wall, o.end + 0.18, 1.1, 0.0, 2)
    for role, mean, low, high in (
        ("picture", 5.0, 1.2, 1.7),
        ("wallthing", 0.8, 1.3, 1.8),
        ("switch", 0.8, 0.2, 0.25),
        ("mirror", 0.2, 0.9, 1.2),
    ):
        for _ in range(int(rng.poisson(mean))):
            plan.against(role, None, None, float(rng.uniform(low, high)), 0.0, 10)
    for _ in range(1 + int(plan.width * plan.length > 16)):
        lamp = plan.make("ceilinglamp", float(rng.uniform(-180, 180)))
        x, y = (float(s * rng.uniform(0.35, 0.65)) for s in (plan.width, plan.length))
        lamp.at = (x, y, plan.height - lamp.size[2])
        if lamp.size[2] < 0.9 and plan.fits(lamp):
            plan.items.append(lamp)


def people(plan: Plan) -> None:
    rng = plan.rng
    for _ in range(int(rng.choice((0, 1, 2), p=(0.66, 0.26, 0.08)))):
        seats = [i for i in plan.items if i.role in ("sofa", "chair", "armchair", "officechair")]
        style = rng.random()
        if style < 0.3 and seats:
            seat = seats[int(rng.integers(len(seats)))]
            if any(i.parent is seat for i in plan.items):
                continue
            sitter = plan.make("sit", seat.yaw, 1.0)
            sitter.parent = seat
            side = 0.3 * seat.size[0] if seat.role == "sofa" else 0.0
            front = sitter.size[1] / 2 - seat.size[1] / 2 + 0.12
            sitter.at = (*seat.beside(float(rng.uniform(-side, side)), float(front)), 0.0)
            if plan.fits(sitter, tuple(i for i in plan.items if i.role != "stand")):
                plan.items.append(sitter)
        elif style < 0.45:
            plan.free("ground", 30)
        else:
            plan.free("stand", 40, 0.1)
    if rng.random() < 0.1:
        plan.free("pet")


def furnish(plan: Plan) -> None:
    for _ in range(1 + int(plan.width * plan.length > 30)):  # twice in a large room
        for group, chance in KINDS[plan.kind][2]:
            if plan.rng.random() < chance:
                group(plan)
    if plan.rng.random() < 0.15:
        plan.against("pillar")
    people(plan)
    clutter(plan)
    hang(plan)


def _empty(kind: str, rng: np.random.Generator) -> Plan:
    low, high = KINDS[kind][1]
    width, length = (float(x) for x in rng.uniform(low, high, 2) * rng.choice((1, 1, 1, 1.5)))
    if kind == "corridor":
        width = float(rng.uniform(1.2, 1.9))
    height = float(np.clip(rng.normal(2.55, 0.18), 2.25, 3.3))
    return Plan(kind, width, length, height, rng, kind == "bath" or rng.random() < 0.1)


def draw(seed: int) -> list[Plan]:
    """The room of a seed, and the rooms behind its doorways."""
    rng = np.random.default_rng((seed, 20))
    names = list(KINDS)
    shares = np.array([KINDS[name][0] for name in names])
    plan = _empty(str(rng.choice(names, p=shares / shares.sum())), rng)
    groups.openings(plan)
    furnish(plan)
    plans = [plan]
    for o in plan.openings:
        if o.kind == "doorway":
            plans.append(_annex(plan, o, str(rng.choice(names, p=shares / shares.sum()))))
    return plans


WALL = 0.14
"""Thickness of the walls, metres."""


def _annex(plan: Plan, door: Opening, kind: str) -> Plan:
    """The room behind a doorway, which is a hole in its own opposite wall."""
    other = _empty(kind, plan.rng)
    other.height = max(other.height, door.top + 0.15)
    wall = (door.wall + 2) % 4
    size = door.end - door.start
    start = float(plan.rng.uniform(0.1, other.wall_length(wall) - size - 0.1))
    other.openings.append(Opening(wall, start, start + size, 0.0, door.top, "doorway", door.door))
    shift = door.start - start
    other.origin = (
        (shift, plan.length + WALL),
        (plan.width + WALL, shift),
        (shift, -other.length - WALL),
        (-other.width - WALL, shift),
    )[door.wall]
    furnish(other)
    return other
