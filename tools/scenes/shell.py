# SPDX-License-Identifier: Apache-2.0
"""Floor, walls, ceiling, windows and lights of a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import skins
from .models import Mesh
from .parts import CEILING, FLOOR, OBJECTS, WALL, WINDOW, Part, Surface, box, cloth, join, quad
from .plan import EAST, SOUTH, YAWS, Opening, Plan
from .rooms import WALL as THICK


@dataclass(frozen=True)
class Light:
    """The time of day: radiance of the sky through windows, whether lamps burn, their colour, and
    the sun (direction towards it, irradiance) if it shines."""

    sky: float
    lamps: bool
    tint: np.ndarray
    sun: tuple[np.ndarray, np.ndarray] | None

    @staticmethod
    def draw(rng: np.random.Generator) -> Light:
        sky = float(rng.choice((0.05, rng.uniform(2, 6), rng.uniform(4, 16)), p=(0.25, 0.35, 0.4)))
        warm = rng.uniform(0, 1)
        tint = np.array([1.0, 0.93 - 0.18 * warm, 0.85 - 0.45 * warm])
        sun = None
        if sky > 1 and rng.random() < 0.6:
            turn, rise = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 1.1)
            flat = np.cos(rise)
            toward = np.array([np.cos(turn) * flat, np.sin(turn) * flat, np.sin(rise)])
            sun = toward, sky * float(rng.uniform(3, 12)) * np.array([1.0, 0.93, 0.8])
        return Light(sky, sky < 1 or rng.random() < 0.5, tint, sun)


def facing(
    plan: Plan, wall: int, t: tuple[float, float], z: tuple[float, float], away: float
) -> Mesh:
    """A rectangle parallel to a wall, ``away`` metres in front of it, that faces the room; u runs
    to the right for somebody who looks at it."""
    right = t[::-1] if wall in (EAST, SOUTH) else t
    a, b = (np.array([*plan.from_wall(wall, x, away), z[0]]) for x in right)
    return quad(a, b - a, (0, 0, z[1] - z[0]))


def slab(plan: Plan, wall: int, t: tuple[float, float], z: tuple[float, float],
         away: tuple[float, float]) -> Mesh:  # fmt: skip
    """A box along a wall, between two distances in front of it."""
    a, b = (np.array(plan.from_wall(wall, x, y)) for x, y in zip(t, away))
    return box((*np.minimum(a, b), z[0]), (*np.maximum(a, b), z[1]))


def _wall(plan: Plan, k: int) -> Mesh:
    """The wall without its openings, uv continuous."""
    holes = [o for o in plan.openings if o.wall == k]
    ts = sorted({0.0, plan.wall_length(k), *(x for o in holes for x in (o.start, o.end))})
    zs = sorted({0.0, plan.height, *(x for o in holes for x in (o.bottom, o.top))})
    cells = []
    for a, b in zip(ts[:-1], ts[1:]):
        for c, d in zip(zs[:-1], zs[1:]):
            t, z = (a + b) / 2, (c + d) / 2
            if any(o.start < t < o.end and o.bottom < z < o.top for o in holes):
                continue
            cell = facing(plan, k, (a, b), (c, d), 0.0)
            assert cell.uv is not None
            cell.uv += (-b if k in (EAST, SOUTH) else a, c)
            cells.append(cell)
    return join(cells)


def _window(
    plan: Plan, o: Opening, rng: np.random.Generator, light: Light
) -> list[tuple[Mesh, Surface]]:
    frame = skins.timber(rng) if rng.random() < 0.3 else Surface(color=(0.9, 0.9, 0.88))
    t, z, thick = (o.start, o.end), (o.bottom, o.top), float(rng.uniform(0.03, 0.07))
    bars = [slab(plan, o.wall, t, (a, a + thick), (-0.12, -0.06)) for a in (z[0], z[1] - thick)]
    columns = max(int(round((t[1] - t[0]) / rng.uniform(0.35, 1.1))), 1)
    for x in np.linspace(t[0] + thick / 2, t[1] - thick / 2, columns + 1):
        bars.append(slab(plan, o.wall, (x - thick / 2, x + thick / 2), z, (-0.12, -0.06)))
    for h in np.linspace(z[0], z[1], int(rng.choice((1, 1, 2, 3))) + 1)[1:-1]:
        bars.append(slab(plan, o.wall, t, (h - thick / 3, h + thick / 3), (-0.11, -0.07)))
    gain = light.sky * np.array([0.95, 1.0, 1.08]) * rng.uniform(0.9, 1.1, 3)
    view, peak = skins.outside(rng, t[1] - t[0], z[1] - z[0])
    pane = Surface(texture=view, period=(t[1] - t[0], z[1] - z[0]), emission=tuple(gain * peak))
    out = [(facing(plan, o.wall, t, z, -0.1), pane), (join(bars), frame)]
    # Reveal and sill.
    sill = [slab(plan, o.wall, t, (z[0] - 0.02, z[0] + 0.005), (-THICK, 0.02 + 0.1 * rng.random()))]
    sill += [slab(plan, o.wall, (a, a + 0.002), z, (-THICK, 0.0)) for a in (t[0], t[1] - 0.002)]
    sill += [slab(plan, o.wall, t, (z[1] - 0.002, z[1]), (-THICK, 0.0))]
    out.append((join(sill), Surface(color=(0.88, 0.88, 0.86))))
    top = min(z[1] + float(rng.uniform(0.05, 0.25)), plan.height - 0.02)
    style = rng.random()
    if style < 0.55:  # curtains, more or less closed
        low = float(rng.choice((0.03, max(z[0] - 0.15, 0.03))))
        width = (t[1] - t[0]) * float(rng.choice((rng.uniform(0.15, 0.3), rng.uniform(0.3, 0.52))))
        stuff = skins.fabric(rng)
        for x0 in (t[0] - 0.12, t[1] + 0.12 - width):
            x1 = x0 + width
            x0, x1 = max(x0, 0.02), min(x1, plan.wall_length(o.wall) - 0.02)
            sheet = cloth(x1 - x0, top - low, max(int(width / 0.13), 2), 0.03)
            corner = x1 if o.wall in (EAST, SOUTH) else x0
            out.append(
                (sheet.moved((*plan.from_wall(o.wall, corner, 0.075), low), YAWS[o.wall]), stuff)
            )
        ends = max(t[0] - 0.2, 0), min(t[1] + 0.2, plan.wall_length(o.wall))
        rod = slab(plan, o.wall, ends, (top, top + 0.02), (0.065, 0.085))
        out.append((rod, skins.metal(rng)))
    elif style < 0.75:  # a blind, let down part of the way
        low = z[1] - (z[1] - z[0]) * float(rng.uniform(0.1, 0.8))
        step = float(rng.choice((0.03, z[1] - low)))
        slats = [slab(plan, o.wall, t, (h, h + step * 0.75), (-0.05, -0.04))
                 for h in np.arange(low, z[1] - step / 2, step)]  # fmt: skip
        out.append((join(slats), skins.plastic(rng) if rng.random() < 0.2 else skins.fabric(rng)))
    return out


def shell(plan: Plan, light: Light) -> list[Part]:
    """Everything of a room that is no item, at the plan's own origin."""
    rng = np.random.default_rng(int(plan.rng.integers(1 << 40)))
    w, le, h = plan.width, plan.length, plan.height
    parts: list[Part] = []

    def add(mesh: Mesh, surface: Surface, label: int, name: str = "") -> None:
        parts.append(Part(name, mesh, surface, label))

    add(quad((0, 0, 0), (w, 0, 0), (0, le, 0)), skins.floor(rng, plan.wet), FLOOR)
    add(quad((0, le, h), (w, 0, 0), (0, -le, 0)), skins.ceiling(rng), CEILING)
    main = skins.wall(rng, plan.wet)
    odd = int(rng.integers(20))  # one wall in five rooms has a colour of its own
    for k in range(4):
        add(_wall(plan, k), skins.wall(rng, False) if k == odd else main, WALL)
    skirting = skins.timber(rng) if rng.random() < 0.4 else Surface(color=(0.88, 0.88, 0.86))
    if not plan.wet and rng.random() < 0.8:
        height = float(rng.uniform(0.05, 0.13))
        runs = []
        for k in range(4):
            doors = sorted(
                (o.start, o.end) for o in plan.openings if o.wall == k and o.bottom < height
            )
            edges = [0.0, *(x for o in doors for x in o), plan.wall_length(k)]
            runs += [slab(plan, k, (a, b), (0, height), (0.0, 0.014))
                     for a, b in zip(edges[::2], edges[1::2]) if b - a > 0.01]  # fmt: skip
        add(join(runs), skirting, WALL)
    if rng.random() < 0.08:
        beams = [box((x, 0, h - 0.16), (x + 0.1, le, h)) for x in np.arange(0.3, w - 0.2, 0.9)]
        if beams:
            add(join(beams), skins.timber(rng), CEILING)
    for o in plan.openings:
        if o.kind == "window":
            for mesh, surface in _window(plan, o, rng, light):
                add(mesh, surface, WINDOW, "pane" if surface.emission is not None else "")
        else:
            t = (o.start, o.end)
            deep = -THICK if o.kind == "doorway" else -0.02
            sides = [slab(plan, o.wall, (a, b), (0, o.top + 0.06), (deep, 0.015))
                     for a, b in ((t[0] - 0.06, t[0]), (t[1], t[1] + 0.06))]  # fmt: skip
            sides.append(slab(plan, o.wall, t, (o.top, o.top + 0.06), (-THICK, 0.015)))
            add(join(sides), skirting, WALL)
            if o.kind == "doorway":
                add(slab(plan, o.wall, t, (-0.02, 0.002), (-THICK, 0.0)), skins.timber(rng), FLOOR)
    parts += _lamps(plan, light, rng)
    for part in parts:
        part.mesh = part.mesh.moved((*plan.origin, 0.0), 0.0)
    return parts


def _lamps(plan: Plan, light: Light, rng: np.random.Generator) -> list[Part]:
    """What shines from the ceiling; rooms without a window are never dark."""
    windows = any(o.kind == "window" for o in plan.openings)
    if windows and not light.lamps:
        return []
    hung = [i for i in plan.items if i.role == "ceilinglamp"]
    w, le, h = plan.width, plan.length, plan.height
    meshes = [
        box((x - 0.06, y - 0.06, z - 0.1), (x + 0.06, y + 0.06, z - 0.01))
        for x, y, z in (i.at for i in hung)
    ]
    area = 0.0144 * len(hung)
    if not hung:
        style = rng.random()
        nx, ny = (max(int(s / rng.uniform(1.2, 2.2)), 1) for s in (w, le))
        half = (0.04, 0.04) if style < 0.4 else (0.3, 0.3) if style < 0.6 else (0.07, 0.6)
        if style > 0.8:
            nx, ny, half = 1, 1, (0.15, 0.15)
        for x in (np.arange(nx) + 0.5) / nx * w:
            for y in (np.arange(ny) + 0.5) / ny * le:
                low, high = (x - half[0], y - half[1]), (x + half[0], y + half[1])
                if min(low) > 0 and high[0] < w and high[1] < le:
                    meshes.append(box((*low, h - 0.03), (*high, h - 0.004)))
        area = 4 * half[0] * half[1] * len(meshes)
    if not meshes:
        return []
    gain = float(rng.uniform(0.3, 1.0)) * w * le * 0.12 / max(area, 0.01)
    color = tuple(float(x) for x in np.minimum(gain, 120.0) * light.tint)
    return [Part("", join(meshes), Surface(emission=color), OBJECTS)]  # type: ignore[arg-type]
