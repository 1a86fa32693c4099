# SPDX-License-Identifier: Apache-2.0
"""What stands together in a home: the furniture of a room, group by group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .plan import Opening, Placed, Plan

SMALL = {"living": "livingsmall", "bed": "livingsmall", "dining": "livingsmall",
         "kitchen": "kitchensmall", "bath": "bathsmall", "office": "officesmall",
         "corridor": "livingsmall"}  # fmt: skip


def litter(plan: Plan, parent: Placed | None, count: float, *roles: str) -> None:
    """Lay about ``count`` small things on an item."""
    if parent is None:
        return
    names = roles or (SMALL[plan.kind], SMALL[plan.kind], "books", "plant", "plant", "tablelamp",
                      "box", "officesmall")  # fmt: skip
    for _ in range(int(plan.rng.poisson(2.2 * count))):
        plan.lay(str(plan.rng.choice(names)), parent)


def seating(plan: Plan) -> None:
    rng = plan.rng
    sofa = plan.against("sofa", gap=float(rng.choice((0.03, 0.03, 0.8))))
    if sofa is None:
        return
    front = sofa.size[1] / 2
    table = None
    if rng.random() < 0.95:
        table = plan.near("coffee", sofa, 0.0, front + rng.uniform(0.3, 0.6))
        litter(plan, table, 4)
    if rng.random() < 0.6:
        rug(plan, sofa, front + 0.6)
    for side in (-1, 1):
        if rng.random() < 0.4:
            turn = side * float(rng.uniform(40, 100))
            plan.near("armchair", sofa, side * (sofa.size[0] / 2 - 0.2), front + 0.5, turn)
        if rng.random() < 0.45:
            stand = plan.near("night", sofa, side * (sofa.size[0] / 2 + 0.06), -0.1)
            litter(plan, stand, 1.5, "tablelamp", "plant", "livingsmall", "books")
        elif rng.random() < 0.4:
            plan.near("floorlamp", sofa, side * (sofa.size[0] / 2 + 0.05), -0.1)
    litter(plan, sofa, 2.5, "pillow", "pillow", "pillow", "cloth", "books", "toy")


def rug(plan: Plan, parent: Placed, front: float) -> None:
    item = plan.make("rug", parent.yaw + float(plan.rng.choice((0, 90))))
    item.at = (*parent.beside(0.0, front), 0.0)
    x0, y0, _, x1, y1, _ = item.box
    if min(x0, y0) > 0 and x1 < plan.width and y1 < plan.length:
        plan.items.insert(0, item)


def television(plan: Plan) -> None:
    if plan.rng.random() < 0.3:
        plan.against("walltv", z=float(plan.rng.uniform(0.8, 1.3)))
        return
    stand = plan.against("tvstand")
    if stand is None or stand.entry.rest is None:
        return
    screen = plan.make("tv", stand.yaw, float(plan.rng.uniform(0.8, 1.5)))
    screen.parent = stand
    screen.at = (*stand.beside(0.0, 0.0), stand.entry.rest / stand.entry.size[2] * stand.size[2])
    if screen.size[0] < stand.size[0] * 1.15 and plan.fits(screen, (stand,), 0.0):
        plan.items.append(screen)
    litter(plan, stand, 1.5)


def eating(plan: Plan) -> None:
    rng = plan.rng
    table = plan.free("dining", 20, 0.35) if rng.random() < 0.3 else None
    for _ in range(12):
        if table is not None:
            break
        item = plan.make("dining", float(rng.choice((0, 90)) + rng.normal(0, 3)))
        item.at = (float(rng.uniform(1, plan.width - 1)), float(rng.uniform(1, plan.length - 1)), 0)
        if plan.fits(item, margin=0.5):
            plan.items.append(item)
            table = item
    if table is None:
        table = plan.against("dining")
    if table is None:
        return
    chairs = plan.make("chair").entry  # one kind of chair around a table
    width, depth = table.size[:2]
    for turn, half, span in ((180, depth / 2, width), (0, depth / 2, width), (90, width / 2, depth),
                             (-90, width / 2, depth)):  # fmt: skip
        for slot in np.linspace(-1, 1, max(int(span / 0.65), 1) + 2)[1:-1]:
            if rng.random() < 0.25:
                continue
            angle = np.radians(turn)
            out, along = half + rng.uniform(-0.05, 0.35), slot * span / 2 + rng.normal(0, 0.05)
            chair = plan.make("chair", table.yaw + turn + 180 + float(rng.normal(0, 12)))
            chair.entry, scale = chairs, float(rng.uniform(0.95, 1.05))
            chair.size = (chairs.size[0] * scale, chairs.size[1] * scale, chairs.size[2] * scale)
            right, front = along * np.cos(angle) + out * np.sin(angle), out * np.cos(angle)
            chair.at = (*table.beside(float(right), float(front + along * np.sin(angle))), 0.0)
            if plan.fits(chair, (table,), 0.02):
                plan.items.append(chair)
                litter(plan, chair, 0.15, "cloth", "box", "books", "pillow")
    litter(plan, table, 8, SMALL[plan.kind], "kitchensmall", "kitchensmall", "plant", "books")
    if rng.random() < 0.4:
        rug(plan, table, 0.0)


def sleeping(plan: Plan) -> None:
    rng = plan.rng
    bed = plan.against("bunk" if rng.random() < 0.15 else "bed")
    if bed is None:
        return
    for side in (-1, 1):
        if rng.random() < 0.75:
            stand = plan.near("night", bed, side * (bed.size[0] / 2 + 0.05),
                              -bed.size[1] / 2 + 0.45)  # fmt: skip
            litter(plan, stand, 2, "tablelamp", "tablelamp", "books", "livingsmall", "plant")
    litter(plan, bed, 3, "pillow", "pillow", "cloth", "books", "toy", "cloth", "livingsmall", "box")
    if rng.random() < 0.5:
        rug(plan, bed, bed.size[1] / 2)


def working(plan: Plan) -> None:
    desk = plan.against("desk")
    if desk is None:
        return
    plan.near("officechair", desk, float(plan.rng.normal(0, 0.15)), desk.size[1] / 2 + 0.03, 180.0,
              ignore=(desk,))  # fmt: skip
    litter(plan, desk, 1.3, "computer", "screen")
    litter(plan, desk, 5, "officesmall", "officesmall", "books", "books", "tablelamp", "box",
           "livingsmall")  # fmt: skip


def cooking(plan: Plan) -> None:
    """Rows of kitchen units along one or two walls, cupboards above."""
    rng = plan.rng
    for wall in rng.permutation(4)[: 1 + int(rng.random() < 0.6)]:
        k, t = int(wall), float(rng.uniform(0, 0.3))
        units = ["fridge", *rng.choice(("base", "base", "machine", "sink", "stove"), 7)]
        if rng.random() < 0.5:
            units.reverse()
        style = {role: plan.make(str(role)).entry for role in (*units, "upper", "hood")}
        for role in units:
            item = plan.make(str(role))
            item.entry = style[role] if rng.random() < 0.8 else item.entry
            item.size = item.entry.size
            if t + item.size[0] > plan.wall_length(k):
                break
            item.yaw = (0.0, -90.0, 180.0, 90.0)[k]
            along = t + item.size[0] / 2
            item.at = (*plan.from_wall(k, along, item.size[1] / 2 + 0.01), 0.0)
            t += item.size[0] + 0.002
            if not plan.fits(item, margin=0.0):
                continue
            plan.items.append(item)
            if item.size[2] < 1.2:
                litter(plan, item, 1.8, "kitchensmall")
                if rng.random() < 0.75:
                    above = plan.make("hood" if role == "stove" else "upper", item.yaw)
                    if role != "stove":
                        above.entry = style["upper"]
                    above.size = (item.size[0], *above.entry.size[1:])
                    above.at = (*plan.from_wall(k, along, above.size[1] / 2 + 0.01), 1.45)
                    if plan.fits(above, margin=0.0):
                        plan.items.append(above)
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
        plan.against("towels", z=float(plan.rng.uniform(0.5, 0.9)))
    plan.free("rug")


def storing(*roles: str) -> Callable[[Plan], None]:
    def group(plan: Plan) -> None:
        for role in roles:
            if plan.rng.random() < 0.75:
                litter(plan, plan.against(role), 3)

    return group


def corner(plan: Plan) -> None:
    """A reading corner: an armchair, a lamp, a small table."""
    chair = plan.free("armchair")
    if chair is not None:
        plan.near("floorlamp", chair, 0.5, -0.3)
        litter(plan, plan.near("coffee", chair, -0.5, 0.2), 2)
        litter(plan, chair, 0.6, "pillow", "cloth", "books")


def openings(plan: Plan) -> None:
    """Draw windows and doors; call before anything is placed."""
    rng = plan.rng
    walls = [int(k) for k in rng.permutation(4)]
    count = int(
        rng.choice((0, 0, 1, 1, 1, 2)) if plan.kind != "corridor" else rng.choice((0, 0, 1))
    )
    for n, k in enumerate(walls[:3]):
        length = plan.wall_length(k)
        if n < count:
            width = min(float(rng.uniform(0.6, 1.7)), length - 0.6)
            bottom = float(rng.choice((0.02, rng.uniform(0.35, 0.7), rng.uniform(0.75, 1.15))))
            top = min(plan.height - 0.12, float(rng.uniform(1.95, 2.35)))
            kind, door = "window", None
        else:
            door = plan.make("door").entry
            width, top, bottom = door.size[0] - 0.04, door.size[2] - 0.02, 0.0
            kind = "door" if n == count or rng.random() < 0.6 else "doorway"
        if width > length - 0.3 or top > plan.height - 0.05:
            continue
        start = float(rng.uniform(0.15, length - width - 0.15))
        if any(o.wall == k for o in plan.openings):
            continue
        plan.openings.append(Opening(k, start, start + width, bottom, top, kind, door))
