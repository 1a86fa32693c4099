# SPDX-License-Identifier: Apache-2.0
"""A random room, furnished: deterministic by its seed, and without a single model loaded."""

from __future__ import annotations

import numpy as np

from . import groups
from .parts import rows
from .plan import Opening, Plan

WALL = 0.14
"""Thickness of the walls, metres."""


KINDS = {row["kind"]: row for row in rows("kinds.csv")}
"""The kinds of rooms: share, smallest and largest side in metres, groups with their chances."""


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
        ("picture", 5.0, 1.2, 1.7), ("wallthing", 0.8, 1.3, 1.8), ("switch", 0.8, 0.2, 0.25),
        ("mirror", 0.2, 0.9, 1.2),
    ):  # fmt: skip
        for _ in range(int(rng.poisson(mean))):
            plan.against(role, None, None, rng.uniform(low, high), 0.0, 10)
    for _ in range(1 + int(plan.width * plan.length > 16)):
        lamp = plan.make("ceilinglamp", rng.uniform(-180, 180))
        x, y = (s * rng.uniform(0.35, 0.65) for s in (plan.width, plan.length))
        lamp.at = (x, y, plan.height - lamp.size[2])
        if lamp.size[2] < 0.9:
            plan.put(lamp)


def people(plan: Plan) -> None:
    rng = plan.rng
    for _ in range(rng.choice((0, 1, 2), p=(0.66, 0.26, 0.08))):
        seats = [i for i in plan.items if i.role in ("sofa", "chair", "armchair", "officechair")]
        style = rng.random()
        if style < 0.3 and seats:
            seat = seats[rng.integers(len(seats))]
            if any(i.parent is seat for i in plan.items):
                continue
            sitter = plan.make("sit", seat.yaw, 1.0)
            sitter.parent = seat
            side = 0.3 * seat.size[0] if seat.role == "sofa" else 0.0
            front = sitter.size[1] / 2 - seat.size[1] / 2 + 0.12
            sitter.at = (*seat.beside(rng.uniform(-side, side), front), 0.0)
            plan.put(sitter, tuple(i for i in plan.items if i.role != "stand"))
        elif style < 0.45:
            plan.free("ground", 30)
        else:
            plan.free("stand", 40, 0.1)
    if rng.random() < 0.1:
        plan.free("pet")


def furnish(plan: Plan) -> None:
    for _ in range(1 + int(plan.width * plan.length > 30)):  # twice in a large room
        for word in KINDS[plan.kind]["groups"].split():
            name, chance = word.split(":")
            if plan.rng.random() < float(chance):
                if name in groups.GROUPS:
                    groups.GROUPS[name](plan)
                else:
                    groups.storing(plan, name.strip("/").split("/"))
    if plan.rng.random() < 0.15:
        plan.against("pillar")
    people(plan)
    clutter(plan)
    hang(plan)


def _empty(rng: np.random.Generator) -> Plan:
    shares = np.array([float(row["share"]) for row in KINDS.values()])
    kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
    low, high = (float(KINDS[kind][key]) for key in ("low", "high"))
    width, length = rng.uniform(low, high, 2) * rng.choice((1, 1, 1, 1.5))
    if kind == "corridor":
        width = rng.uniform(1.2, 1.9)
    height = np.clip(rng.normal(2.55, 0.18), 2.25, 3.3)
    return Plan(kind, width, length, height, rng, kind == "bath" or rng.random() < 0.04)


def draw(seed: int) -> list[Plan]:
    """The room of a seed, and the rooms behind its doorways."""
    plan = _empty(np.random.default_rng((seed, 20)))
    groups.openings(plan)
    furnish(plan)
    return [plan, *(_annex(plan, o) for o in plan.openings if o.kind == "doorway")]


def _annex(plan: Plan, door: Opening) -> Plan:
    """The room behind a doorway, which is a hole in its own opposite wall."""
    other = _empty(plan.rng)
    other.height = max(other.height, door.top + 0.15)
    wall, size = (door.wall + 2) % 4, door.end - door.start
    start = plan.rng.uniform(0.1, other.wall_length(wall) - size - 0.1)
    other.openings.append(Opening(wall, start, start + size, 0.0, door.top, "doorway", door.door))
    shift = door.start - start
    other.origin = (
        (shift, plan.length + WALL), (plan.width + WALL, shift), (shift, -other.length - WALL),
        (-other.width - WALL, shift),
    )[door.wall]  # fmt: skip
    furnish(other)
    return other
