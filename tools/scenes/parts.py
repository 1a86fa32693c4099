# SPDX-License-Identifier: Apache-2.0
"""Shapes of a scene: meshes with a surface and a class.

World frame: metres, x east, y north, z up.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "picture", "sofa", "table", "tv", "wall", "window", "person",
)  # fmt: skip
"""The 13 classes of NYU by alphabet, then people. After the usual mapping of NYU's 40 classes to
13: rugs are floor, doors wall, curtains and blinds window, desks table, counters and shelves
furniture; lamps, plants, pillows, mirrors, baths and toilets objects; skirting boards wall."""
Rng = np.random.Generator
Pair = tuple[float, float]
Point = tuple[float, float, float]


@dataclass
class Mesh:
    """Triangles: vertices [N,3] in metres, faces [F,3]; per vertex normals [N,3] (None or 0: flat)
    and uv [N,2]."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None

    def moved(self, at: Point, yaw: float) -> Mesh:
        """The mesh turned by ``yaw`` degrees (counter-clockwise from above), then shifted."""
        c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        normals = None if self.normals is None else self.normals @ turn.T
        return Mesh(self.vertices @ turn.T + np.asarray(at), self.faces, normals, self.uv)


@dataclass
class Surface:
    """How a part looks. ``color`` is sRGB; ``period`` is a texture's size in units of uv."""

    color: Point = (0.7, 0.7, 0.7)
    texture: np.ndarray | None = None  # uint8 [H,W,3] RGB; float32: linear
    period: Pair = (1.0, 1.0)
    emission: Point | None = None  # radiance; with a texture: its factor
    gloss: float = 0.0  # roughness of a coat of varnish; 0: matt


@dataclass
class Part:
    """One shape of the scene: one mesh, one surface, one class. The sun shines through panes."""

    mesh: Mesh
    surface: Surface
    label: str
    pane: bool = False


def rows(name: str) -> list[dict[str, str]]:
    """The lines of a table that lies here."""
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scaled(mesh: Mesh, scale: np.ndarray) -> Mesh:
    normals = mesh.normals
    if normals is not None:
        normals = normals / np.maximum(scale, 1e-6)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh(mesh.vertices * scale, mesh.faces, normals, mesh.uv)


def quad(corner: Sequence[float], along: Sequence[float], up: Sequence[float]) -> Mesh:
    """A rectangle from ``corner``; uv in metres along both edges; faces along x up."""
    c, a, u = (np.asarray(p, float) for p in (corner, along, up))
    la, lu = np.linalg.norm(a), np.linalg.norm(u)
    uv = np.array([[0, 0], [la, 0], [la, lu], [0, lu]])
    return Mesh(np.array([c, c + a, c + a + u, c + u]), np.array([[0, 1, 2], [0, 2, 3]]), None, uv)


def box(low: Sequence[float], high: Sequence[float]) -> Mesh:
    """An axis-aligned box, uv in metres."""
    (a, b, c), (d, e, f) = low, high
    x, y, z = d - a, e - b, f - c
    up = (0, 0, z)
    return join([
        quad((a, b, c), (x, 0, 0), up), quad((d, b, c), (0, y, 0), up),
        quad((d, e, c), (-x, 0, 0), up), quad((a, e, c), (0, -y, 0), up),
        quad((a, b, f), (x, 0, 0), (0, y, 0)), quad((a, e, c), (x, 0, 0), (0, -y, 0)),
    ])  # fmt: skip


def block(wide: float, deep: float, low: float, high: float, x: float = 0, y: float = 0) -> Mesh:
    """A box between two heights, its middle at x, y."""
    w, d = wide / 2, deep / 2
    return box((x - w, y - d, low), (x + w, y + d, high))


def grid(rows: int, columns: int) -> np.ndarray:
    """The faces [N,3] of a net of vertices, row by row."""
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (x.reshape(-1) for x in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def join(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one; where one has no normals or uv, they are 0."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + s for m, s in zip(meshes, starts)])
    normals = [np.zeros_like(m.vertices) if m.normals is None else m.normals for m in meshes]
    uv = [np.zeros((len(m.vertices), 2)) if m.uv is None else m.uv for m in meshes]
    vertices = np.concatenate([m.vertices for m in meshes])
    return Mesh(vertices, faces, np.concatenate(normals), np.concatenate(uv))


def cloth(width: float, height: float, folds: int, depth: float = 0.035) -> Mesh:
    """A hanging cloth in folds, in the plane y = 0 from x = 0 to ``width``; uv in metres."""
    t = np.linspace(0, 1, folds * 16 + 1)
    phase = 2 * np.pi * folds * t
    y = -depth * (np.sin(phase) + 12 / 35 * np.sin(0.37 * phase + 1))
    x, n = width * t, len(t)
    rows = [np.stack([x, y, np.full(n, z)], 1) for z in (0.0, height)]
    uv = [np.stack([x * 1.6, np.full(n, z)], 1) for z in (0.0, height)]
    return Mesh(np.concatenate(rows), grid(2, n), None, np.concatenate(uv))
