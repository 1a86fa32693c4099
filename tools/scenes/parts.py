# SPDX-License-Identifier: Apache-2.0
"""Shapes of a scene: meshes with a surface and a class.

World frame: metres, x east, y north, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .models import Mesh

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "picture", "sofa", "table", "tv", "wall", "window", "person",
)  # fmt: skip
"""The 13 classes of NYU by alphabet, then people. After the usual mapping of NYU's 40 classes to
13: rugs are floor, doors wall, curtains and blinds window, desks table, counters and shelves
furniture; lamps, plants, pillows, mirrors, baths and toilets objects; skirting boards wall."""
BED, BOOKS, CEILING, CHAIR, FLOOR, FURNITURE, OBJECTS = range(7)
PICTURE, SOFA, TABLE, TV, WALL, WINDOW, PERSON = range(7, 14)

Point = tuple[float, float, float]


@dataclass
class Surface:
    """How a part looks. ``color`` is sRGB; ``period`` is a texture's size in units of uv."""

    color: Point = (0.7, 0.7, 0.7)
    texture: np.ndarray | None = None  # uint8 [H,W,3] RGB; float32: linear
    period: tuple[float, float] = (1.0, 1.0)
    emission: Point | None = None  # radiance; with a texture: its factor
    gloss: float = 0.0  # roughness of a coat of varnish; 0: matt


@dataclass
class Part:
    """One shape of the scene: one mesh, one surface, one class."""

    name: str
    mesh: Mesh
    surface: Surface
    label: int


def quad(corner: Sequence[float], along: Sequence[float], up: Sequence[float]) -> Mesh:
    """A rectangle from ``corner``; uv in metres along both edges; faces along x up."""
    c, a, u = (np.asarray(p, float) for p in (corner, along, up))
    la, lu = np.linalg.norm(a), np.linalg.norm(u)
    uv = np.array([[0, 0], [la, 0], [la, lu], [0, lu]])
    return Mesh(np.array([c, c + a, c + a + u, c + u]), np.array([[0, 1, 2], [0, 2, 3]]), None, uv)


def box(low: Sequence[float], high: Sequence[float]) -> Mesh:
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


def cloth(width: float, height: float, folds: int, depth: float = 0.035) -> Mesh:
    """A hanging cloth in folds, in the plane y = 0 from x = 0 to ``width``; uv in metres."""
    t = np.linspace(0, 1, folds * 16 + 1)
    phase = 2 * np.pi * folds * t
    y = -depth * (np.sin(phase) + 12 / 35 * np.sin(0.37 * phase + 1))
    x, n, i = width * t, len(t), np.arange(len(t) - 1)
    rows = [np.stack([x, y, np.full(n, z)], 1) for z in (0.0, height)]
    uv = [np.stack([x * 1.6, np.full(n, z)], 1) for z in (0.0, height)]
    faces = np.concatenate([np.stack([i, i + 1, i + n + 1], 1), np.stack([i, i + n + 1, i + n], 1)])
    return Mesh(np.concatenate(rows), faces, None, np.concatenate(uv))
