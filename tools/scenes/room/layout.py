# SPDX-License-Identifier: Apache-2.0
"""What stands where in the room, of what material, and of which of the 13 NYU classes.

World frame: metres, x east, y north, z up; the room is x 0..6.4, y 0..5.2, z 0..2.6.
Classes follow the usual mapping of NYU's 40 classes to 13: rugs are floor, curtains window,
shelves and night stands furniture, lamps, plants and pillows objects, skirting boards wall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import textures
from .models import Mesh, Model, load_model

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "picture", "sofa", "table", "tv", "wall", "window",
)  # fmt: skip
BED, BOOKS, CEILING, CHAIR, FLOOR, FURNITURE, OBJECTS = range(7)
PICTURE, SOFA, TABLE, TV, WALL, WINDOW = range(7, 13)

WIDTH, LENGTH, HEIGHT = 6.4, 5.2, 2.6
WINDOW_Y, WINDOW_Z = (1.75, 3.55), (0.85, 2.2)  # opening in the west wall
CC0, CC_BY, KATOR, SCOPIA = "BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia"

Point = tuple[float, float, float]


@dataclass
class Surface:
    """How a part looks. ``color`` is sRGB; ``period`` is a texture's size in units of uv."""

    color: Point = (0.7, 0.7, 0.7)
    texture: np.ndarray | None = None
    period: tuple[float, float] = (1.0, 1.0)
    emission: Point | None = None  # radiance; with a texture: its factor


@dataclass
class Part:
    """One shape of the scene: one mesh, one surface, one class."""

    name: str
    mesh: Mesh
    surface: Surface
    label: int


@dataclass
class Item:
    """A furniture model in the room. ``surfaces`` and ``labels`` override by material name."""

    library: str
    model: str
    at: Point
    yaw: float
    label: int
    size: Point | None = None
    surfaces: dict[str, Surface] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


def quad(corner: Point, along: Point, up: Point) -> Mesh:
    """A rectangle from ``corner``; uv in metres along both edges; faces along x up."""
    c, a, u = (np.asarray(p, float) for p in (corner, along, up))
    la, lu = np.linalg.norm(a), np.linalg.norm(u)
    uv = np.array([[0, 0], [la, 0], [la, lu], [0, lu]])
    return Mesh(np.array([c, c + a, c + a + u, c + u]), np.array([[0, 1, 2], [0, 2, 3]]), None, uv)


def box(low: Point, high: Point) -> Mesh:
    """An axis-aligned box, uv in metres."""
    x, y, z = (float(h - low_) for low_, h in zip(low, high))
    (a, b, c), (d, e, f) = low, high
    sides = [
        quad((a, b, c), (x, 0, 0), (0, 0, z)),
        quad((d, b, c), (0, y, 0), (0, 0, z)),
        quad((d, e, c), (-x, 0, 0), (0, 0, z)),
        quad((a, e, c), (0, -y, 0), (0, 0, z)),
        quad((a, b, f), (x, 0, 0), (0, y, 0)),
        quad((a, e, c), (x, 0, 0), (0, -y, 0)),
    ]
    return join(sides)


def join(meshes: list[Mesh]) -> Mesh:
    """Several meshes with uv as one."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts)]),
        None,
        np.concatenate([m.uv for m in meshes if m.uv is not None]),
    )


def curtain(x: float, y: tuple[float, float], z: tuple[float, float], folds: int) -> Mesh:
    """A hanging cloth beside the west wall, in folds."""
    t = np.linspace(0, 1, folds * 16 + 1)
    s = np.linspace(0, 1, 2)
    phase = 2 * np.pi * folds * t
    px = x + 0.035 * np.sin(phase) + 0.012 * np.sin(0.37 * phase + 1)
    py = y[0] + (y[1] - y[0]) * t
    grid = np.array([[(a, b, z[0] + (z[1] - z[0]) * k) for a, b in zip(px, py)] for k in s])
    uv = np.array([[(b * 1.6, (z[1] - z[0]) * k) for b in py] for k in s]).reshape(-1, 2)
    n, i = len(t), np.arange(len(t) - 1)
    faces = np.concatenate([np.stack([i, i + 1, i + n + 1], 1), np.stack([i, i + n + 1, i + n], 1)])
    return Mesh(grid.reshape(-1, 3), faces, None, uv)


def shell() -> list[Part]:
    """Floor, walls, ceiling, window, curtains, skirting boards."""
    w, le, h = WIDTH, LENGTH, HEIGHT
    warm = Surface(texture=textures.paint(1, (0.86, 0.82, 0.73)), period=(2.5, 2.5))
    blue = Surface(texture=textures.paint(2, (0.62, 0.69, 0.70)), period=(2.5, 2.5))
    white = Surface(color=(0.9, 0.9, 0.88))
    planks = textures.plank_floor(3, (0.60, 0.42, 0.26))
    (y0, y1), (z0, z1) = WINDOW_Y, WINDOW_Z
    west = join([
        quad((0, 0, 0), (0, le, 0), (0, 0, z0)),
        quad((0, 0, z1), (0, le, 0), (0, 0, h - z1)),
        quad((0, 0, z0), (0, y0, 0), (0, 0, z1 - z0)),
        quad((0, y1, z0), (0, le - y1, 0), (0, 0, z1 - z0)),
    ])  # fmt: skip
    reveal = join([
        quad((-0.14, y0, z0), (0.14, 0, 0), (0, y1 - y0, 0)),
        quad((-0.14, y0, z1), (0.14, 0, 0), (0, y1 - y0, 0)),
        quad((-0.14, y0, z0), (0.14, 0, 0), (0, 0, z1 - z0)),
        quad((-0.14, y1, z0), (0.14, 0, 0), (0, 0, z1 - z0)),
    ])  # fmt: skip
    bars = []
    for y in (y0, y0 + 0.6, y0 + 1.2, y1):
        a, b = max(y - 0.035, y0), min(y + 0.035, y1)
        bars.append(box((-0.13, a, z0), (-0.07, b, z1)))
    for z in (z0, z0 + 0.95, z1):
        a, b = max(z - 0.035, z0), min(z + 0.035, z1)
        bars.append(box((-0.125, y0, a), (-0.075, y1, b)))
    # The pane must face +x to shine inwards; u runs to the right for somebody who looks west.
    pane = quad((-0.11, y0, z0), (0, y1 - y0, 0), (0, 0, z1 - z0))
    cloth = Surface(texture=textures.weave(5, (0.62, 0.36, 0.28), 0.12), period=(0.5, 0.5))
    skirting = join([
        box((0, 0, 0), (0.015, le, 0.09)), box((w - 0.015, 0, 0), (w, le, 0.09)),
        box((0, le - 0.015, 0), (w, le, 0.09)),
    ])  # fmt: skip
    daylight = Surface(
        texture=textures.garden(6), period=(y1 - y0, z1 - z0), emission=(6.0, 6.2, 6.5)
    )
    return [
        Part("floor", quad((0, 0, 0), (w, 0, 0), (0, le, 0)),
             Surface(texture=planks, period=(2.2, 2.2)), FLOOR),
        Part("ceiling", quad((0, le, h), (w, 0, 0), (0, -le, 0)),
             Surface(texture=textures.paint(4, (0.9, 0.9, 0.88)), period=(3, 3)), CEILING),
        Part("wall_north", quad((w, le, 0), (-w, 0, 0), (0, 0, h)), warm, WALL),
        Part("wall_east", quad((w, 0, 0), (0, le, 0), (0, 0, h)), blue, WALL),
        Part("wall_south", quad((0, 0, 0), (w, 0, 0), (0, 0, h)), warm, WALL),
        Part("wall_west", west, warm, WALL),
        Part("skirting", skirting, white, WALL),
        Part("window_reveal", reveal, white, WINDOW),
        Part("window_bars", join(bars), white, WINDOW),
        Part("window_pane", pane, daylight, WINDOW),
        Part("curtain_south", curtain(0.10, (y0 - 0.45, y0 + 0.08), (0.04, 2.4), 5), cloth, WINDOW),
        Part("curtain_north", curtain(0.10, (y1 - 0.08, y1 + 0.45), (0.04, 2.4), 5), cloth, WINDOW),
        Part("curtain_rod", box((0.09, y0 - 0.6, 2.40), (0.115, y1 + 0.6, 2.425)),
             Surface(color=(0.25, 0.2, 0.16)), WINDOW),
        Part("ceiling_lamp", box((3.0, 2.3, h - 0.08), (3.4, 2.7, h - 0.02)),
             Surface(color=(0.9, 0.9, 0.85), emission=(14.0, 12.0, 9.0)), OBJECTS),
    ]  # fmt: skip


def picture(name: str, wall: str, centre: tuple[float, float], size: tuple[float, float],
            image: np.ndarray, frame: Point) -> list[Part]:  # fmt: skip
    """A framed picture on the north or east wall; ``centre`` is (x or y, z)."""
    (c, z), (wd, ht), t = centre, size, 0.035
    if wall == "north":
        y = LENGTH
        back = box((c - wd / 2 - t, y - 0.03, z - ht / 2 - t),
                   (c + wd / 2 + t, y - 0.001, z + ht / 2 + t))  # fmt: skip
        # u runs to the right for somebody who looks north, v upwards.
        canvas = quad((c - wd / 2, y - 0.032, z - ht / 2), (wd, 0, 0), (0, 0, ht))
    else:
        x = WIDTH
        back = box((x - 0.03, c - wd / 2 - t, z - ht / 2 - t),
                   (x - 0.001, c + wd / 2 + t, z + ht / 2 + t))  # fmt: skip
        canvas = quad((x - 0.032, c + wd / 2, z - ht / 2), (0, -wd, 0), (0, 0, ht))
    return [
        Part(f"{name}_frame", back, Surface(color=frame), PICTURE),
        Part(f"{name}_canvas", canvas, Surface(texture=image, period=(wd, ht)), PICTURE),
    ]


def pictures() -> list[Part]:
    dark, oak, white = (0.16, 0.12, 0.1), (0.55, 0.38, 0.22), (0.9, 0.9, 0.88)
    return [
        *picture("landscape", "north", (2.45, 1.6), (1.1, 0.7), textures.landscape(11), dark),
        *picture("poster", "north", (5.0, 1.75), (0.5, 0.65), textures.abstract(12), white),
        *picture("hills", "east", (3.0, 1.6), (0.6, 0.45), textures.landscape(13), oak),
        *picture("shapes", "east", (2.2, 1.6), (0.42, 0.56), textures.abstract(14), dark),
    ]


def model_parts(item: Item, index: int, furniture: Path) -> tuple[list[Part], Model]:
    """The parts of one furniture model, placed."""
    model = load_model(furniture, item.library, item.model, item.size)
    parts = []
    for k, (material, mesh) in enumerate(model.meshes.items()):
        surface = item.surfaces.get(material) or item.surfaces.get("*")
        if surface is None:
            m = model.materials.get(material)
            surface = Surface()
            if m is not None:
                color = (m.color[0] * 0.92, m.color[1] * 0.92, m.color[2] * 0.92)
                texture = m.texture if mesh.uv is not None else None
                surface = Surface(color=color, texture=texture)
        parts.append(Part(f"{item.model}_{index}_{k}", mesh.moved(item.at, item.yaw), surface,
                          item.labels.get(material, item.label)))  # fmt: skip
    return parts, model


def build(furniture: Path, items: list[Item]) -> tuple[list[Part], list[Model]]:
    """All parts of the room, and the models used (for the credits)."""
    parts, models = shell() + pictures(), []
    for index, item in enumerate(items):
        placed, model = model_parts(item, index, furniture)
        parts += placed
        models.append(model)
    return parts, models
