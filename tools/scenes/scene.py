# SPDX-License-Identifier: Apache-2.0
"""From plans to parts: models loaded, coloured, laid on what they stand on."""

from __future__ import annotations

import colorsys
import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from . import shell, skins
from .models import PROCEDURAL, Model, held_out, load_model
from .parts import Mesh, Part, Rng, Surface, scaled
from .plan import YAWS, Placed, Plan
from .shapes import Shape, shape

SOFT, HARD = ("bed", "sofa"), ("furniture", "table", "chair")


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


def dressed(item: Placed, folder: Path, rng: Rng, light: shell.Light) -> list[Shape]:
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
    light = shell.Light.draw(np.random.default_rng((seed, 21)))
    parts: list[Part] = []
    models: list[Model] = []
    for plan in plans:
        parts += shell.shell(plan, light)
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
