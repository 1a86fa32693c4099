# SPDX-License-Identifier: Apache-2.0
"""A random room, furnished by what stands together in a home: deterministic by its seed, and
without a single model loaded.
"""

from __future__ import annotations

import numpy as np

from .parts import rows
from .plan import YAWS, Opening, Placed, Plan

WALL = 0.14
"""Thickness of the walls, metres."""


KINDS = {row["kind"]: row for row in rows("kinds.csv")}
"""The kinds of rooms: share, smallest and largest side in metres, groups with their chances."""
SMALL = {"kitchen": "kitchensmall", "bath": "bathsmall", "office": "officesmall"}


def small(plan: Plan) -> str:
    """The role of the small things of a room."""
    return SMALL.get(plan.kind, "livingsmall")


def litter(plan: Plan, parent: Placed | None, count: float, *roles: str) -> None:
    """Lay about ``count`` small things on an item."""
    if parent is None:
        return
    names = roles or (small(plan), small(plan), "books", "plant", "plant", "tablelamp", "box",
                      "officesmall")  # fmt: skip
    for _ in range(int(plan.rng.poisson(2.2 * count))):
        plan.lay(str(plan.rng.choice(names)), parent)


def seating(plan: Plan) -> None:
    rng = plan.rng
    sofa = plan.against("sofa", gap=rng.choice((0.03, 0.03, 0.8)))
    if sofa is None:
        return
    wide, front = sofa.size[0] / 2, sofa.size[1] / 2
    if rng.random() < 0.95:
        litter(plan, plan.near("coffee", sofa, 0.0, front + rng.uniform(0.3, 0.6)), 4)
    if rng.random() < 0.6:
        rug(plan, sofa, front + 0.6)
    for side in (-1, 1):
        if rng.random() < 0.4:
            turn = side * rng.uniform(40, 100)
            plan.near("armchair", sofa, side * (wide - 0.2), front + 0.5, turn)
        if rng.random() < 0.45:
            stand = plan.near("night", sofa, side * (wide + 0.06), -0.1)
            litter(plan, stand, 1.5, "tablelamp", "plant", "livingsmall", "books")
        elif rng.random() < 0.4:
            plan.near("floorlamp", sofa, side * (wide + 0.05), -0.1)
    litter(plan, sofa, 2.5, "pillow", "pillow", "pillow", "cloth", "books", "toy")


def rug(plan: Plan, parent: Placed, front: float) -> None:
    item = plan.make("rug", parent.yaw + plan.rng.choice((0, 90)))
    item.at = (*parent.beside(0.0, front), 0.0)
    x0, y0, _, x1, y1, _ = item.box
    if min(x0, y0) > 0 and x1 < plan.width and y1 < plan.length:
        plan.items.insert(0, item)


def television(plan: Plan) -> None:
    if plan.rng.random() < 0.3:
        plan.against("walltv", z=plan.rng.uniform(0.8, 1.3))
        return
    stand = plan.against("tvstand")
    if stand is None or stand.entry.rest is None:
        return
    screen = plan.make("tv", stand.yaw, plan.rng.uniform(0.8, 1.5))
    screen.parent = stand
    screen.at = (*stand.beside(0.0, 0.0), stand.entry.rest / stand.entry.size[2] * stand.size[2])
    if screen.size[0] < stand.size[0] * 1.15:
        plan.put(screen, (stand,), 0.0)
    litter(plan, stand, 1.5)


def eating(plan: Plan) -> None:
    rng = plan.rng
    table = plan.free("dining", 20, 0.35) if rng.random() < 0.3 else None
    for _ in range(12):
        if table is not None:
            break
        item = plan.make("dining", rng.choice((0, 90)) + rng.normal(0, 3))
        item.at = (rng.uniform(1, plan.width - 1), rng.uniform(1, plan.length - 1), 0)
        table = plan.put(item, margin=0.5)
    table = table or plan.against("dining")
    if table is None:
        return
    chairs = plan.make("chair").entry  # one kind of chair around a table
    width, depth = table.size[:2]
    sides = ((180, depth, width), (0, depth, width), (90, width, depth), (-90, width, depth))
    for turn, across, span in sides:
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        for slot in np.linspace(-1, 1, max(int(span / 0.65), 1) + 2)[1:-1]:
            if rng.random() < 0.25:
                continue
            out = across / 2 + rng.uniform(-0.05, 0.35)
            along = slot * span / 2 + rng.normal(0, 0.05)
            chair = plan.make("chair", table.yaw + turn + 180 + rng.normal(0, 12))
            scale = rng.uniform(0.95, 1.05)
            chair.entry, chair.size = chairs, tuple(x * scale for x in chairs.size)
            chair.at = (*table.beside(along * c + out * s, out * c + along * s), 0.0)
            if plan.put(chair, (table,), 0.02):
                litter(plan, chair, 0.15, "cloth", "box", "books", "pillow")
    litter(plan, table, 8, small(plan), "kitchensmall", "kitchensmall", "plant", "books")
    if rng.random() < 0.4:
        rug(plan, table, 0.0)


def sleeping(plan: Plan) -> None:
    rng = plan.rng
    bed = plan.against("bunk" if rng.random() < 0.15 else "bed")
    if bed is None:
        return
    for side in (-1, 1):
        if rng.random() < 0.75:
            right = side * (bed.size[0] / 2 + 0.05)
            stand = plan.near("night", bed, right, 0.45 - bed.size[1] / 2)
            litter(plan, stand, 2, "tablelamp", "tablelamp", "books", "livingsmall", "plant")
    litter(plan, bed, 3, "pillow", "pillow", "cloth", "books", "toy", "cloth", "livingsmall", "box")
    if rng.random() < 0.5:
        rug(plan, bed, bed.size[1] / 2)


def working(plan: Plan) -> None:
    desk = plan.against("desk")
    if desk is None:
        return
    front = desk.size[1] / 2 + 0.03
    plan.near("officechair", desk, plan.rng.normal(0, 0.15), front, 180.0, (desk,))
    litter(plan, desk, 1.3, "computer", "screen")
    litter(plan, desk, 5, "officesmall", "officesmall", "books", "books", "tablelamp", "box",
           "livingsmall")  # fmt: skip


def cooking(plan: Plan) -> None:
    """Rows of kitchen units along one or two walls, cupboards above."""
    rng = plan.rng
    for k in rng.permutation(4)[: 1 + int(rng.random() < 0.6)].tolist():
        t = rng.uniform(0, 0.3)
        units = ["fridge", *rng.choice(("base", "base", "machine", "sink", "stove"), 7).tolist()]
        if rng.random() < 0.5:
            units.reverse()
        style = {role: plan.make(role).entry for role in (*units, "upper", "hood")}
        for role in units:
            item = plan.make(role)
            item.entry = style[role] if rng.random() < 0.8 else item.entry
            item.size, item.yaw = item.entry.size, YAWS[k]
            if t + item.size[0] > plan.wall_length(k):
                break
            along = t + item.size[0] / 2
            item.at = (*plan.from_wall(k, along, item.size[1] / 2 + 0.01), 0.0)
            t += item.size[0] + 0.002
            if not plan.put(item, margin=0.0) or item.size[2] >= 1.2:
                continue
            litter(plan, item, 1.8, "kitchensmall")
            if rng.random() < 0.75:
                above = plan.make("hood" if role == "stove" else "upper", item.yaw)
                if role != "stove":
                    above.entry = style["upper"]
                above.size = (item.size[0], *above.entry.size[1:])
                above.at = (*plan.from_wall(k, along, above.size[1] / 2 + 0.01), 1.45)
                plan.put(above, margin=0.0)
    if rng.random() < 0.35:
        island = plan.free("island", margin=0.6)
        litter(plan, island, 4, "kitchensmall")
        if island is not None and rng.random() < 0.6:
            for side in (-0.4, 0.4):
                plan.near("stool", island, side, island.size[1] / 2 + 0.1, 180.0)


def washing(plan: Plan) -> None:
    for role, chance in (("bath", 0.85), ("toilet", 0.85), ("basin", 0.5), ("vanity", 0.6),
                         ("machine", 0.25), ("shelf", 0.2), ("night", 0.2)):  # fmt: skip
        if plan.rng.random() < chance:
            litter(plan, plan.against(role), 2, "bathsmall", "bathsmall", "cloth", "plant")
    for _ in range(2):
        plan.against("towels", z=plan.rng.uniform(0.5, 0.9))
    plan.free("rug")


def corner(plan: Plan) -> None:
    """A reading corner: an armchair, a lamp, a small table."""
    chair = plan.free("armchair")
    if chair is not None:
        plan.near("floorlamp", chair, 0.5, -0.3)
        litter(plan, plan.near("coffee", chair, -0.5, 0.2), 2)
        litter(plan, chair, 0.6, "pillow", "cloth", "books")


def storing(plan: Plan, roles: list[str]) -> None:
    for role in roles:
        if plan.rng.random() < 0.75:
            litter(plan, plan.against(role), 3)


GROUPS = {f.__name__: f for f in (seating, television, eating, sleeping, working, cooking, washing,
                                  corner)}  # fmt: skip
"""By their names in ``kinds.csv``; other names there are roles of storage, parted by slashes."""


def openings(plan: Plan) -> None:
    """Draw windows and doors; call before anything is placed."""
    rng = plan.rng
    walls = rng.permutation(4).tolist()
    count = rng.choice((0, 1, 1, 1, 1, 2) if plan.kind != "corridor" else (0, 0, 1))
    for n, k in enumerate(walls[:3]):
        length = plan.wall_length(k)
        if n < count:
            width = min(rng.uniform(0.6, 1.7), length - 0.6)
            bottom = rng.choice((0.02, rng.uniform(0.35, 0.7), rng.uniform(0.75, 1.15)))
            top = min(plan.height - 0.12, rng.uniform(1.95, 2.35))
            kind, door = "window", None
        else:
            door = plan.make("door").entry
            width, top, bottom = door.size[0] - 0.04, door.size[2] - 0.02, 0.0
            kind = "door" if n == count or rng.random() < 0.6 else "doorway"
        if width <= length - 0.3 and top <= plan.height - 0.05:
            start = rng.uniform(0.15, length - width - 0.15)
            plan.openings.append(Opening(k, start, start + width, bottom, top, kind, door))


def clutter(plan: Plan) -> None:
    """What lies and stands around, in small heaps rather than evenly."""
    rng = plan.rng
    area = plan.width * plan.length
    for _ in range(int(rng.poisson(1.1 * area * rng.choice((0.2, 1.0, 2.0))))):
        role = str(rng.choice(("clutter", "clutter", "clutter", "box", "toy", "shoes", "cloth",
                               "books", "floorplant", "pillow", "pouf")))  # fmt: skip
        item = plan.against(role, tries=8) if rng.random() < 0.75 else plan.free(role, 8)
        if item is not None and role in ("box", "clutter") and item.size[2] < 0.5:
            litter(plan, item, 0.4, "books", "cloth", "box")
    for role, chance in (("floorplant", 0.5), ("floorlamp", 0.35), ("sport", 0.06),
                         ("chair", 0.8), ("chair", 0.4), ("tv", 0.1), ("stool", 0.12),
                         ("armchair", 0.2)):  # fmt: skip
        if rng.random() < chance:
            plan.against(role) if rng.random() < 0.6 else plan.free(role)
    # Tops of cupboards and shelves are storage, too.
    for item in list(plan.items):
        stores = item.entry.rest is not None and item.parent is None and item.size[2] > 0.6
        if stores and item.role != "base" and rng.random() < 0.6:
            litter(plan, item, 2, "box", "books", "plant", "livingsmall")


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
                if name in GROUPS:
                    GROUPS[name](plan)
                else:
                    storing(plan, name.strip("/").split("/"))
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
    openings(plan)
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
