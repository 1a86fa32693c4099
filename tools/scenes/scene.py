# SPDX-License-Identifier: Apache-2.0
"""From plans to parts: models loaded, coloured, laid on what they stand on."""

from __future__ import annotations

import colorsys
import hashlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from . import shell, skins
from .catalogue import PROCEDURAL, held_out
from .models import Mesh, Model, load_model
from .parts import BED, CHAIR, FURNITURE, PERSON, SOFA, TABLE, Part, Surface
from .plan import YAWS, Placed, Plan
from .shapes import Shape, shape

LIGHTS = ("tablelamp",)
SOFT, HARD = (BED, SOFA), (FURNITURE, TABLE, CHAIR)


@cache
def model(folder: Path, library: str, name: str) -> Model:
    return load_model(folder, library, name)


@cache
def hidden_textures(folder: Path) -> frozenset[str]:
    """Digests of the textures of the recording's models, which other models may share."""
    found = (m for key in held_out() for m in model(folder, *key).materials.values())
    return frozenset(digest(m.texture) for m in found if m.texture is not None)


def digest(texture: np.ndarray) -> str:
    return hashlib.sha256(texture.tobytes()).hexdigest()


def _tint(
    rng: np.random.Generator, color: tuple[float, float, float], strength: float
) -> tuple[float, ...]:
    h, s, v = colorsys.rgb_to_hsv(*color)
    if rng.random() < strength:
        h = float(rng.uniform())
        s = float(np.clip(s * rng.uniform(0.5, 1.2) + rng.uniform(0, 0.3), 0, 0.9))
    return colorsys.hsv_to_rgb(h, s, float(np.clip(v * rng.uniform(0.7, 1.25), 0.03, 0.95)))


def dressed(
    item: Placed, folder: Path, rng: np.random.Generator, light: shell.Light
) -> list[Shape]:
    """A model's meshes at the item's size, recoloured."""
    m = model(folder, item.entry.library, item.entry.name)
    scale = np.asarray(item.size) / np.asarray(m.size)
    fixed = (
        item.entry.label == PERSON or "plant" in item.role or item.role in ("pet", "kitchensmall")
    )
    hue = rng.permutation(3) if not fixed and rng.random() < 0.05 else np.arange(3)
    gain = rng.uniform(0.75, 1.2) * (1 + rng.uniform(-0.1, 0.1, 3) * (not fixed))
    strength = 0.0 if fixed else float(rng.choice((0.0, 0.0, 0.0, 0.4)))
    shade = None
    if item.role in LIGHTS and rng.random() < (0.7 if light.lamps else 0.2):
        # The widest part in the upper half is the shade.
        shade = max(m.meshes, key=lambda k: (m.meshes[k].vertices[:, 2].mean() > m.size[2] / 2)
                    * np.ptp(m.meshes[k].vertices[:, 0]))  # fmt: skip
    new = None
    if item.entry.label in (*SOFT, *HARD) and rng.random() < 0.45:  # new cloth, new wood
        new = max(m.meshes, key=lambda k: _area(m.meshes[k]))
    out: list[Shape] = []
    for name, mesh in m.meshes.items():
        material = m.materials.get(name)
        surface = Surface() if material is None else Surface(color=material.color)
        surface.color = _tint(rng, surface.color, strength)  # type: ignore[assignment]
        texture = None if material is None or mesh.uv is None else material.texture
        if texture is not None and digest(texture) not in hidden_textures(folder):
            small = 512 / max(texture.shape[:2])
            if small < 1:
                texture = cv2.resize(
                    texture, None, fx=small, fy=small, interpolation=cv2.INTER_AREA
                )
            surface.texture = np.clip(texture[..., hue] * gain, 0, 255).astype(np.uint8)
        if rng.random() < 0.3 and item.entry.label != PERSON:
            surface.gloss = float(rng.uniform(0.08, 0.3))
        vertices, uv = mesh.vertices * scale, mesh.uv
        if name == new:
            surface = skins.fabric(rng) if item.entry.label in SOFT else skins.timber(rng)
            # Planes of every direction get a pattern, some of them slanted.
            uv = vertices[:, [0, 2]] + 0.7 * vertices[:, [1, 1]]
        if name == shade:
            surface.texture, surface.emission = None, tuple(rng.uniform(1, 5) * light.tint)
        normals = None
        if mesh.normals is not None:
            normals = mesh.normals / np.maximum(scale, 1e-6)
            normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        out.append((Mesh(vertices, mesh.faces, normals, uv), surface, None))
    return out


def _area(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def top_at(meshes: list[Mesh], x: np.ndarray, y: np.ndarray, below: float) -> np.ndarray:
    """Height of the highest surface under ``below`` at x, y [N]; -inf where there is none."""
    best = np.full(len(x), -np.inf)
    for mesh in meshes:
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        near = (np.minimum(np.minimum(a, b), c)[:, :2] <= (x.max(), y.max())).all(1)
        near &= (np.maximum(np.maximum(a, b), c)[:, :2] >= (x.min(), y.min())).all(1)
        a, b, c = a[near], b[near], c[near]
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        area = np.where(np.abs(area) < 1e-12, np.inf, area)
        for i in range(len(x)):
            u = (
                (x[i] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y[i] - a[:, 1]) * (c[:, 0] - a[:, 0])
            ) / area
            v = (
                (b[:, 0] - a[:, 0]) * (y[i] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x[i] - a[:, 0])
            ) / area
            z = a[:, 2] + u * (b[:, 2] - a[:, 2]) + v * (c[:, 2] - a[:, 2])
            z = z[(u >= 0) & (v >= 0) & (u + v <= 1) & (z < below) & np.isfinite(area)]
            best[i] = max(best[i], z.max(initial=-np.inf))
    return best


def _settle(item: Placed, parent: list[Mesh]) -> float | None:
    """The height at which an item lies on its parent's real surface; None if it would not lie."""
    c, s = np.cos(np.radians(item.yaw)), np.sin(np.radians(item.yaw))
    w, d = item.size[0] * 0.35, item.size[1] * 0.35
    corners = np.array([[0, 0], [-w, -d], [w, -d], [-w, d], [w, d]]) @ np.array([[c, s], [-s, c]])
    heights = top_at(
        parent, item.at[0] + corners[:, 0], item.at[1] + corners[:, 1], item.at[2] + 0.25
    )
    soft = 0.08 if item.role in ("pillow", "cloth") else 0.025
    if (
        not np.isfinite(heights).all()
        or np.ptp(heights) > soft
        or heights.max() < item.at[2] - 0.35
    ):
        return None
    return float(heights.max()) + 0.001


def build(
    plans: list[Plan], folder: Path, seed: int
) -> tuple[list[Part], shell.Light, list[Model]]:
    """The parts of a scene, its light, and the models in it (for the credits)."""
    rng = np.random.default_rng((seed, 21))
    light = shell.Light.draw(rng)
    parts: list[Part] = []
    models: list[Model] = []
    for plan in plans:
        parts += shell.shell(plan, light)
        placed: dict[int, list[Mesh]] = {}
        for item in [*plan.items, *_doors(plan)]:
            own = np.random.default_rng((item.seed, 22))
            if item.entry.library == PROCEDURAL:
                shapes = shape(item.entry.name, own, item.size)
            else:
                shapes = dressed(item, folder, own, light)
            if item.parent is not None and item.role != "sit":
                height = (
                    None
                    if id(item.parent) not in placed
                    else _settle(item, placed[id(item.parent)])
                )
                if height is None:
                    continue
                item.at = (item.at[0], item.at[1], height)
            if item.entry.library != PROCEDURAL:
                models.append(model(folder, item.entry.library, item.entry.name))
            meshes = []
            for mesh, surface, label in shapes:
                mesh = mesh.moved(item.at, item.yaw)
                meshes.append(mesh)
                there = mesh.moved((*plan.origin, 0.0), 0.0)
                parts.append(Part("", there, surface, item.entry.label if label is None else label))
            placed[id(item)] = meshes
    return parts, light, models


def _doors(plan: Plan) -> list[Placed]:
    """The doors of a plan, each in its hole, flush with the wall but for its frame."""
    out = []
    for o in plan.openings:
        if o.kind == "door" and o.door is not None:
            size = o.door.size
            at = (*plan.from_wall(o.wall, (o.start + o.end) / 2, 0.03 - size[1] / 2), 0.0)
            out.append(
                Placed(
                    o.door, at, YAWS[o.wall], size, None, int(plan.rng.integers(1 << 30)), "door"
                )
            )
    return out
