# SPDX-License-Identifier: Apache-2.0
"""From plans to parts: floor, walls, ceiling, windows and lights; models loaded, coloured, laid on
what they stand on.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from . import skins
from .models import PROCEDURAL, Model, held_out, load_model
from .parts import Mesh, Pair, Part, Rng, Surface, block, box, cloth, join, quad, scaled
from .plan import EAST, SOUTH, YAWS, Opening, Placed, Plan
from .rooms import WALL as THICK
from .shapes import Shape, shape

SOFT, HARD = ("bed", "sofa"), ("furniture", "table", "chair")


@dataclass(frozen=True)
class Light:
    """The time of day: radiance of the sky through windows, whether lamps burn, their colour, and
    the sun (direction towards it, irradiance) if it shines."""

    sky: float
    lamps: bool
    tint: np.ndarray
    sun: tuple[np.ndarray, np.ndarray] | None

    @staticmethod
    def draw(rng: Rng) -> Light:
        sky = rng.choice((0.05, rng.uniform(2, 6), rng.uniform(4, 16)), p=(0.25, 0.35, 0.4))
        warm, sun = rng.uniform(0, 1), None
        if sky > 1 and rng.random() < 0.6:
            turn, rise = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 1.1)
            flat = np.cos(rise)
            toward = np.array([np.cos(turn) * flat, np.sin(turn) * flat, np.sin(rise)])
            sun = toward, sky * rng.uniform(3, 12) * np.array([1.0, 0.93, 0.8])
        tint = np.array([1.0, 0.93 - 0.18 * warm, 0.85 - 0.45 * warm])
        return Light(sky, sky < 1 or rng.random() < 0.5, tint, sun)


def facing(plan: Plan, wall: int, t: Pair, z: Pair, away: float) -> Mesh:
    """A rectangle parallel to a wall, ``away`` metres in front of it, that faces the room; u runs
    to the right for somebody who looks at it."""
    right = t[::-1] if wall in (EAST, SOUTH) else t
    a, b = (np.array([*plan.from_wall(wall, x, away), z[0]]) for x in right)
    return quad(a, b - a, (0, 0, z[1] - z[0]))


def slab(plan: Plan, wall: int, t: Pair, z: Pair, away: Pair) -> Mesh:
    """A box along a wall, between two distances in front of it."""
    a, b = (np.array(plan.from_wall(wall, x, y)) for x, y in zip(t, away))
    return box((*np.minimum(a, b), z[0]), (*np.maximum(a, b), z[1]))


def wall(plan: Plan, k: int) -> Mesh:
    """The wall without its openings, uv continuous."""
    holes = [o for o in plan.openings if o.wall == k]
    ts = sorted({0.0, plan.wall_length(k), *(x for o in holes for x in (o.start, o.end))})
    zs = sorted({0.0, plan.height, *(x for o in holes for x in (o.bottom, o.top))})
    cells = []
    for a, b in zip(ts[:-1], ts[1:]):
        for c, d in zip(zs[:-1], zs[1:]):
            if not any(o.start < (a + b) / 2 < o.end and o.bottom < (c + d) / 2 < o.top
                       for o in holes):  # fmt: skip
                cells.append(facing(plan, k, (a, b), (c, d), 0.0))
                cells[-1].uv += (-b if k in (EAST, SOUTH) else a, c)
    return join(cells)


def _window(plan: Plan, o: Opening, rng: Rng, light: Light) -> list[Part]:
    frame = skins.timber(rng) if rng.random() < 0.3 else Surface(color=(0.9, 0.9, 0.88))
    t, z, thick = (o.start, o.end), (o.bottom, o.top), rng.uniform(0.03, 0.07)
    wide, high, half = t[1] - t[0], z[1] - z[0], thick / 2
    across = partial(slab, plan, o.wall)
    bars = [across(t, (a, a + thick), (-0.12, -0.06)) for a in (z[0], z[1] - thick)]
    columns = max(round(wide / rng.uniform(0.35, 1.1)), 1)
    for x in np.linspace(t[0] + half, t[1] - half, columns + 1):
        bars.append(across((x - half, x + half), z, (-0.12, -0.06)))
    for h in np.linspace(z[0], z[1], rng.choice((1, 1, 2, 3)) + 1)[1:-1]:
        bars.append(across(t, (h - thick / 3, h + thick / 3), (-0.11, -0.07)))
    gain = light.sky * np.array([0.95, 1.0, 1.08]) * rng.uniform(0.9, 1.1, 3)
    view, peak = skins.outside(rng, wide, high)
    pane = Surface(texture=view, period=(wide, high), emission=tuple(gain * peak))
    sill = [across(t, (z[0] - 0.02, z[0] + 0.005), (-THICK, 0.02 + 0.1 * rng.random())),
            *(across((a, a + 0.002), z, (-THICK, 0.0)) for a in (t[0], t[1] - 0.002)),
            across(t, (z[1] - 0.002, z[1]), (-THICK, 0.0))]  # fmt: skip
    out = [Part(facing(plan, o.wall, t, z, -0.1), pane, "window", True)]
    out.append(Part(join(bars), frame, "window"))
    out.append(Part(join(sill), Surface(color=(0.88, 0.88, 0.86)), "window"))
    top, end = min(z[1] + rng.uniform(0.05, 0.25), plan.height - 0.02), plan.wall_length(o.wall)
    style = rng.random()
    if style < 0.55:  # curtains, more or less closed
        low = rng.choice((0.03, max(z[0] - 0.15, 0.03)))
        width = wide * rng.choice((rng.uniform(0.15, 0.3), rng.uniform(0.3, 0.52)))
        stuff = skins.fabric(rng)
        for x0 in (t[0] - 0.12, t[1] + 0.12 - width):
            x0, x1 = max(x0, 0.02), min(x0 + width, end - 0.02)
            sheet = cloth(x1 - x0, top - low, max(int(width / 0.13), 2), 0.03)
            corner = plan.from_wall(o.wall, x1 if o.wall in (EAST, SOUTH) else x0, 0.075)
            out.append(Part(sheet.moved((*corner, low), YAWS[o.wall]), stuff, "window"))
        ends = max(t[0] - 0.2, 0), min(t[1] + 0.2, end)
        rod = across(ends, (top, top + 0.02), (0.065, 0.085))
        out.append(Part(rod, skins.metal(rng), "window"))
    elif style < 0.75:  # a blind, let down part of the way
        low = z[1] - high * rng.uniform(0.1, 0.8)
        step = rng.choice((0.03, z[1] - low))
        slats = [across(t, (h, h + step * 0.75), (-0.05, -0.04))
                 for h in np.arange(low, z[1] - step / 2, step)]  # fmt: skip
        stuff = skins.plastic(rng) if rng.random() < 0.2 else skins.fabric(rng)
        out.append(Part(join(slats), stuff, "window"))
    return out


def shell(plan: Plan, light: Light) -> list[Part]:
    """Everything of a room that is no item, at the plan's own origin."""
    rng = np.random.default_rng(int(plan.rng.integers(1 << 40)))
    w, le, h = plan.width, plan.length, plan.height
    low, high = quad((0, 0, 0), (w, 0, 0), (0, le, 0)), quad((0, le, h), (w, 0, 0), (0, -le, 0))
    parts = [Part(low, skins.floor(rng, plan.wet), "floor")]
    parts.append(Part(high, skins.ceiling(rng), "ceiling"))
    main = skins.wall(rng, plan.wet)
    odd = rng.integers(20)  # one wall in five rooms has a colour of its own
    for k in range(4):
        surface = skins.wall(rng, False) if k == odd else main
        parts.append(Part(wall(plan, k), surface, "wall"))
    skirting = skins.timber(rng) if rng.random() < 0.4 else Surface(color=(0.88, 0.88, 0.86))
    if not plan.wet and rng.random() < 0.8:
        height, runs = rng.uniform(0.05, 0.13), []
        for k in range(4):
            doors = [o for o in plan.openings if o.wall == k and o.bottom < height]
            edges = sorted(
                [0.0, *(x for o in doors for x in (o.start, o.end)), plan.wall_length(k)]
            )
            runs += [slab(plan, k, (a, b), (0, height), (0.0, 0.014))
                     for a, b in zip(edges[::2], edges[1::2]) if b - a > 0.01]  # fmt: skip
        parts.append(Part(join(runs), skirting, "wall"))
    if rng.random() < 0.08:
        beams = [box((x, 0, h - 0.16), (x + 0.1, le, h)) for x in np.arange(0.3, w - 0.2, 0.9)]
        parts.append(Part(join(beams), skins.timber(rng), "ceiling"))
    for o in plan.openings:
        t = (o.start, o.end)
        if o.kind == "window":
            parts += _window(plan, o, rng, light)
            continue
        deep = -THICK if o.kind == "doorway" else -0.02
        sides = [slab(plan, o.wall, (a, b), (0, o.top + 0.06), (deep, 0.015))
                 for a, b in ((t[0] - 0.06, t[0]), (t[1], t[1] + 0.06))]  # fmt: skip
        sides.append(slab(plan, o.wall, t, (o.top, o.top + 0.06), (-THICK, 0.015)))
        parts.append(Part(join(sides), skirting, "wall"))
        if o.kind == "doorway":
            sill = slab(plan, o.wall, t, (-0.02, 0.002), (-THICK, 0.0))
            parts.append(Part(sill, skins.timber(rng), "floor"))
    if light.lamps or not any(o.kind == "window" for o in plan.openings):  # never dark
        parts += _lamps(plan, light, rng)
    for part in parts:
        part.mesh = part.mesh.moved((*plan.origin, 0.0), 0.0)
    return parts


def _lamps(plan: Plan, light: Light, rng: Rng) -> list[Part]:
    """What shines from the ceiling: the lamps that hang there, else lights in it."""
    w, le, h = plan.width, plan.length, plan.height
    hung = [i.at for i in plan.items if i.role == "ceilinglamp"]
    meshes = [block(0.12, 0.12, z - 0.1, z - 0.01, x, y) for x, y, z in hung]
    area = 0.0144 * len(hung)
    if not hung:
        style = rng.random()
        nx, ny = (max(int(s / rng.uniform(1.2, 2.2)), 1) for s in (w, le))
        a, b = (0.08, 0.08) if style < 0.4 else (0.6, 0.6) if style < 0.6 else (0.14, 1.2)
        if style > 0.8:
            nx, ny, a, b = 1, 1, 0.3, 0.3
        meshes = [block(a, b, h - 0.03, h - 0.004, x, y) for x in (np.arange(nx) + 0.5) / nx * w
                  for y in (np.arange(ny) + 0.5) / ny * le
                  if a < 2 * min(x, w - x) and b < 2 * min(y, le - y)]  # fmt: skip
        area = a * b * len(meshes)
    if not meshes:
        return []
    gain = rng.uniform(0.3, 1.0) * w * le * 0.12 / max(area, 0.01)
    color = tuple(np.minimum(gain, 120.0) * light.tint)
    return [Part(join(meshes), Surface(emission=color), "objects")]


@cache
def hidden_textures(folder: Path) -> frozenset[str]:
    """Digests of the textures of the recording's models, which other models may share."""
    found = (s for key in held_out() for _, s in load_model(folder, *key).shapes.values())
    return frozenset(digest(s.texture) for s in found if s.texture is not None)


def digest(texture: np.ndarray) -> str:
    return hashlib.sha256(texture.tobytes()).hexdigest()


def _tint(rng: Rng, color: tuple[float, ...], strength: float) -> tuple[float, ...]:
    h, s, v = colorsys.rgb_to_hsv(*color)
    if rng.random() < strength:
        h = rng.uniform()
        s = np.clip(s * rng.uniform(0.5, 1.2) + rng.uniform(0, 0.3), 0, 0.9)
    return colorsys.hsv_to_rgb(h, s, np.clip(v * rng.uniform(0.7, 1.25), 0.03, 0.95))


def dressed(item: Placed, folder: Path, rng: Rng, light: Light) -> list[Shape]:
    """A model's meshes at the item's size, recoloured."""
    m, label = load_model(folder, item.entry.library, item.entry.name), item.entry.label
    scale = np.asarray(item.size) / np.asarray(m.size)
    fixed = label == "person" or "plant" in item.role or item.role in ("pet", "kitchensmall")
    hue = rng.permutation(3) if not fixed and rng.random() < 0.05 else np.arange(3)
    gain = rng.uniform(0.75, 1.2) * (1 + rng.uniform(-0.1, 0.1, 3) * (not fixed))
    strength = 0.0 if fixed else rng.choice((0.0, 0.0, 0.0, 0.4))
    shade = new = None
    if item.role == "tablelamp" and rng.random() < (0.7 if light.lamps else 0.2):
        # The widest part in the upper half is the shade.
        points = {key: mesh.vertices for key, (mesh, _) in m.shapes.items()}
        shade = max(points, key=lambda k: (points[k][:, 2].mean() > m.size[2] / 2)
                    * np.ptp(points[k][:, 0]))  # fmt: skip
    if label in (*SOFT, *HARD) and rng.random() < 0.45:  # new cloth, new wood
        new = max(m.shapes, key=lambda k: _area(m.shapes[k][0]))
    out: list[Shape] = []
    for name, (mesh, material) in m.shapes.items():
        surface = Surface(color=_tint(rng, material.color, strength))
        texture = None if mesh.uv is None else material.texture
        if texture is not None and digest(texture) not in hidden_textures(folder):
            surface.texture = np.clip(skins.small(texture)[..., hue] * gain, 0, 255)
            surface.texture = surface.texture.astype(np.uint8)
        if rng.random() < 0.3 and label != "person":
            surface.gloss = rng.uniform(0.08, 0.3)
        mesh = scaled(mesh, scale)
        if name == new:
            surface = skins.fabric(rng) if label in SOFT else skins.timber(rng)
            # Planes of every direction get a pattern, some of them slanted.
            mesh.uv = mesh.vertices[:, [0, 2]] + 0.7 * mesh.vertices[:, [1, 1]]
        if name == shade:
            surface.texture, surface.emission = None, tuple(rng.uniform(1, 5) * light.tint)
        out.append((mesh, surface, None))
    return out


def _area(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def top_at(meshes: list[Mesh], x: np.ndarray, y: np.ndarray, below: float) -> np.ndarray:
    """Height of the highest surface under ``below`` at x, y [N]; -inf where there is none."""
    best = np.full(len(x), -np.inf)
    for mesh in meshes:
        corners = mesh.vertices[mesh.faces]
        near = (corners.min(1)[:, :2] <= (x.max(), y.max())).all(1)
        near &= (corners.max(1)[:, :2] >= (x.min(), y.min())).all(1)
        a, b, c = corners[near].transpose(1, 2, 0)  # each x, y, z [F]
        (bx, by, bz), (cx, cy, cz) = b - a, c - a
        area = bx * cy - by * cx
        area = np.where(np.abs(area) < 1e-12, np.inf, area)
        px, py = x[:, None] - a[0], y[:, None] - a[1]
        u, v = (px * cy - py * cx) / area, (bx * py - by * px) / area
        z = a[2] + u * bz + v * cz
        ok = (u >= 0) & (v >= 0) & (u + v <= 1) & (z < below) & np.isfinite(area)
        best = np.maximum(best, np.where(ok, z, -np.inf).max(1, initial=-np.inf))
    return best


def _settle(item: Placed, parent: list[Mesh]) -> float | None:
    """The height at which an item lies on its parent's real surface; None if it would not lie."""
    w, d = item.size[0] * 0.35, item.size[1] * 0.35
    x, y = np.array([item.beside(i * w, j * d) for i, j in
                     ((0, 0), (-1, 1), (1, 1), (-1, -1), (1, -1))]).T  # fmt: skip
    heights = top_at(parent, x, y, item.at[2] + 0.25)
    soft = 0.08 if item.role in ("pillow", "cloth") else 0.025
    high = heights.max()
    if not np.isfinite(heights).all() or np.ptp(heights) > soft or high < item.at[2] - 0.35:
        return None
    return float(high) + 0.001


def build(plans: list[Plan], folder: Path, seed: int):
    """The parts of a scene, its light, and the models in it (for the credits)."""
    light = Light.draw(np.random.default_rng((seed, 21)))
    parts: list[Part] = []
    models: list[Model] = []
    for plan in plans:
        parts += shell(plan, light)
        placed: dict[int, list[Mesh]] = {}
        for item in [*plan.items, *_doors(plan)]:
            own = np.random.default_rng((item.seed, 22))
            drawn = item.entry.library == PROCEDURAL
            if item.parent is not None and item.role != "sit":
                parent = placed.get(id(item.parent))
                height = None if parent is None else _settle(item, parent)
                if height is None:
                    continue
                item.at = (*item.at[:2], height)
            if drawn:
                shapes = shape(item.entry.name, own, item.size)
            else:
                shapes = dressed(item, folder, own, light)
                models.append(load_model(folder, item.entry.library, item.entry.name))
            placed[id(item)] = [mesh.moved(item.at, item.yaw) for mesh, _, _ in shapes]
            for mesh, (_, surface, label) in zip(placed[id(item)], shapes):
                there = mesh.moved((*plan.origin, 0.0), 0.0)
                parts.append(Part(there, surface, item.entry.label if label is None else label))
    return parts, light, models


def _doors(plan: Plan) -> list[Placed]:
    """The doors of a plan, each in its hole, flush with the wall but for its frame."""
    out = []
    for o in plan.openings:
        if o.kind == "door" and o.door is not None:
            size, seed = o.door.size, int(plan.rng.integers(1 << 30))
            at = (*plan.from_wall(o.wall, (o.start + o.end) / 2, 0.03 - size[1] / 2), 0.0)
            out.append(Placed(o.door, at, YAWS[o.wall], size, None, seed, "door"))
    return out
