# SPDX-License-Identifier: Apache-2.0
"""Furniture and small things that are drawn instead of loaded, for the endless variety.

Each function gets a size (width, depth, height) and gives meshes with their surfaces and classes;
they stand on z = 0, centred in x and y, and face -y as the models do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import skins, textures
from .parts import Mesh, Point, Rng, Surface, block, box, grid, join, quad

Shape = tuple[Mesh, Surface, int | None]
"""Mesh, surface, class; None: the class of the whole."""


def disc(radius: float, low: float, high: float, top: float | None = None) -> Mesh:
    """A cylinder, or a cone whose upper radius is ``top``, closed above and below."""
    t = np.linspace(0, 2 * np.pi, 25)
    ring = np.stack([np.cos(t), np.sin(t)], 1)
    rows = ((0, low), (radius, low), (radius if top is None else top, high), (0, high))
    vertices = np.concatenate([np.c_[ring * r, np.full(25, z)] for r, z in rows])
    return Mesh(vertices, grid(4, 25), None, vertices[:, [0, 2]])


def books(rng: Rng, low: Point, high: Point, fill: float = 1.0) -> list[Shape]:
    """A row of books that stand in a box, their backs to the front."""
    x, meshes, n = low[0], [], 16
    while x < low[0] + fill * (high[0] - low[0]):
        thick = rng.uniform(0.012, 0.05)
        if x + thick > high[0]:
            break
        tall = (high[2] - low[2]) * rng.uniform(0.65, 0.97)
        front = low[1] + rng.uniform(0.0, 0.3) * (high[1] - low[1])
        mesh = box((x, front, low[2]), (x + thick, high[1], low[2] + tall))
        mesh.uv[:, 0] = (rng.integers(n) + 0.5) / n
        mesh.uv[:, 1] = (mesh.vertices[:, 2] - low[2]) / tall
        meshes.append(mesh)
        x += thick + 0.001
    if not meshes:
        return []
    backs = textures.book_spines(skins.fresh(rng), n, 64, 8 * n)
    return [(join(meshes), Surface(texture=backs), "books")]


def bookcase(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    t, body = 0.02, skins.timber(rng)
    shelves = np.linspace(0.05, h - t, max(int(h / rng.uniform(0.28, 0.42)), 2) + 1)
    boards = [block(t, d, 0, h, (t - w) / 2), block(t, d, 0, h, (w - t) / 2)]
    boards += [block(w, 0.01, 0, h, 0, d / 2 - 0.005), *(block(w, d, z, z + t) for z in shelves)]
    out = [(join(boards), body, None)]
    full = rng.uniform(0.2, 1.0)
    for a, b in zip(shelves[:-1] + t, shelves[1:]):
        x, end = -w / 2 + t + 0.01, w / 2 - t - 0.01
        while x < end - 0.1:
            wide = min(rng.uniform(0.15, 0.5), end - x)
            what = rng.random()
            if what < 0.62 * full:
                high = (x + wide, d / 2 - 0.02, min(b, a + 0.3))
                out += books(rng, (x, -d / 2 + 0.03, a), high)
            elif what < 0.9 * full:
                tall, middle = min(rng.uniform(0.08, 0.28), b - a - 0.02), x + wide / 2
                if rng.random() < 0.5:
                    mesh = block(wide - 0.02, 0.7 * d, a, a + tall, middle)
                else:
                    r = min(wide, d) * 0.3
                    mesh = disc(r, a, a + tall, r * rng.uniform(0.5, 1.2))
                    mesh = mesh.moved((middle, 0, 0), 0)
                out.append((mesh, skins.plastic(rng), "objects"))
            x += wide + 0.01
    return out


def cabinet(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    foot, front = rng.choice((0.0, 0.06, 0.12)), -d / 2 + 0.02
    shell = [block(w, d - 0.02, foot, h, 0, 0.01)]
    shell += [block(0.04, 0.04, 0, foot, x, y) for x in (-w / 2 + 0.05, w / 2 - 0.05)
              for y in (front + 0.04, d / 2 - 0.04)]  # fmt: skip
    columns = max(round(w / rng.uniform(0.4, 0.65)), 1)
    rows = 1 if h > 1.2 else max(round((h - foot) / rng.uniform(0.2, 0.5)), 1)
    doors, handles = [], []
    for i in range(columns):
        for j in range(rows):
            x0, x1 = (-w / 2 + w * k / columns for k in (i, i + 1))
            z0, z1 = (foot + (h - foot) * k / rows for k in (j, j + 1))
            doors.append(box((x0 + 0.004, -d / 2, z0 + 0.004), (x1 - 0.004, front, z1 - 0.004)))
            x, z = (x0 + x1) / 2, z1 - 0.05
            if rows == 1:
                x, z = (x1 - 0.06 if i % 2 == 0 else x0 + 0.04), (z0 + z1) / 2
            wide, tall = (0.1, 0.015) if rows > 1 else (0.02, 0.07)
            handles.append(block(wide, 0.02, z - tall, z + 0.015, x, -d / 2 - 0.01))
    body = skins.timber(rng)
    face = body if rng.random() < 0.6 else skins.timber(rng)
    return [(join(shell), body, None), (join(doors), face, None),
            (join(handles), skins.metal(rng), None)]  # fmt: skip


def table(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    top, t = skins.timber(rng), rng.uniform(0.02, 0.05)
    leg, inset = rng.uniform(0.025, 0.08), rng.uniform(0.0, 0.08)
    under = top if rng.random() < 0.5 else skins.timber(rng)
    if abs(w - d) < 0.25 and rng.random() < 0.6:
        r = min(w, d) / 2
        post = join([disc(0.05, 0.02, h - t), disc(r * 0.55, 0, 0.03)])
        return [(disc(r, h - t, h), top, None), (post, under, None)]
    x, y = ((s - leg) / 2 - inset for s in (w, d))
    legs = [block(leg, leg, 0, h - t, a * x, b * y) for a in (-1, 1) for b in (-1, 1)]
    if rng.random() < 0.3 and h < 0.6:
        legs.append(block(w - 2 * inset, d - 2 * inset, h * 0.3, h * 0.3 + 0.02))
    return [(block(w, d, h - t, h), top, None), (join(legs), under, None)]


def screen(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    low = 0.0 if d < 0.1 else rng.uniform(0.04, 0.1)
    y, thick = 0.0 if low else d / 2 - 0.02, 0.02
    panel = [block(w, 2 * thick, low, h, 0, y)]
    if low:
        panel.append(block(2 * w * rng.uniform(0.1, 0.35), d, 0, 0.012))
        panel.append(block(0.06, thick, 0, low, 0, thick / 2))
    period = (w - 0.024, h - low - 0.032)
    corner = (-w / 2 + 0.012, y - thick - 0.001, low + 0.02)
    glass = quad(corner, (period[0], 0, 0), (0, 0, period[1]))
    body = Surface(color=(0.05, 0.05, 0.055), gloss=0.2)
    face = Surface(color=(0.03, 0.03, 0.035), gloss=0.08)
    if rng.random() < 0.35:
        gain = rng.uniform(0.6, 2.5)
        face = Surface((0.7, 0.7, 0.7), skins.painting(rng), period, (gain, gain, gain))
    return [(join(panel), body, None), (glass, face, None)]


def rug(rng: Rng, size: Point) -> list[Shape]:
    surface = skins.carpet(rng)
    if surface.texture is not None and rng.random() < 0.5:
        surface.period = size[:2]
    return [(block(*size[:2], 0.0, 0.008), surface, None)]


def pillow(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    u, v = np.meshgrid(np.linspace(-1, 1, 13), np.linspace(-1, 1, 13))
    swell = ((1 - u**4) * (1 - v**4)) ** 0.6 * h / 2
    pinch = 1 - 0.08 * (u**2 * v**2)
    flat = np.stack([u * w / 2 * pinch, v * d / 2 * pinch], -1)
    points = np.concatenate([np.dstack([flat, h / 2 + s * swell]).reshape(-1, 3) for s in (1, -1)])
    faces = np.concatenate([grid(13, 13), grid(13, 13)[:, ::-1] + 169])
    uv = np.tile(flat.reshape(-1, 2), (2, 1))
    return [(Mesh(points, faces, None, uv), skins.fabric(rng), None)]


def books_stack(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    out, z = [], 0.0
    while z < h - 0.015 and len(out) < 6:
        t, s, shift = rng.uniform(0.015, 0.045), rng.uniform(0.7, 1.0), rng.uniform(-0.02, 0.02)
        out.append((block(w * s, d * s, z, z + t, shift), skins.cover(rng, w, d), None))
        z += t
    return out


def books_open(rng: Rng, size: Point) -> list[Shape]:
    w, d, h = size
    page = Surface(texture=skins.printed(rng), period=(w / 2, d))
    t = np.linspace(0, 1, 8)
    z = h * (0.35 + 0.65 * np.sin(np.pi * t) ** 0.7)
    leaves = []
    for a, b, p, q in zip(t[:-1], t[1:], z[:-1], z[1:]):
        x0, x1 = ((k - 1) * w / 2 for k in (a, b))
        for s in (1, -1):
            leaf = quad((s * x0, -d / 2, p), (s * (x1 - x0), 0, q - p), (0, d, 0))
            leaf.uv[:, 0] = s * leaf.vertices[:, 0] + w / 2
            leaves.append(leaf)
    return [(join(leaves), page, None), (block(w, d, 0, h * 0.3), skins.cover(rng, w, d), None)]


def lamp(rng: Rng, size: Point) -> list[Shape]:
    w, _, h = size
    tall = rng.uniform(0.2, 0.35)
    post = join([disc(0.013, 0.02, h - tall), disc(w * 0.35, 0, 0.025)])
    shade = skins.fabric(rng)
    if rng.random() < 0.5:
        shade.texture = None
        shade.emission = tuple(rng.uniform(1, 4) * np.array([1, 0.8, 0.5]))
    cone = disc(w / 2, h - tall, h, w / 2 * rng.uniform(0.5, 1))
    return [(post, skins.metal(rng), None), (cone, shade, None)]


def framed(size: Point, thick: float, border: float) -> tuple[Mesh, Mesh]:
    """A flat box, and the sheet in front of it."""
    (w, d, h), b = size, border
    sheet = quad((-w / 2 + b, -d / 2, b), (w - 2 * b, 0, 0), (0, 0, h - 2 * b))
    return block(w, d - thick, 0, h, 0, thick / 2), sheet


def picture(rng: Rng, size: Point) -> list[Shape]:
    border = rng.uniform(0.0, 0.05)
    back, canvas = framed(size, 0.006, border)
    art = skins.painting(rng)
    period = (size[0] - 2 * border, size[2] - 2 * border)
    art = Surface(texture=art, period=period, gloss=rng.choice((0, 0.1)))
    return [(back, skins.timber(rng), "picture"), (canvas, art, "picture")]


def mirror(rng: Rng, size: Point) -> list[Shape]:
    back, glass = framed(size, 0.004, 0.03)
    face = Surface(color=(0.55, 0.58, 0.6), gloss=0.05)
    return [(back, skins.timber(rng), None), (glass, face, None)]


def plain(surface: Surface, size: Point) -> list[Shape]:
    return [(block(*size[:2], 0, size[2]), surface, None)]


SHAPES: dict[str, Callable[[Rng, Point], list[Shape]]] = {
    "bookcase": bookcase, "cabinet": cabinet, "table": table, "screen": screen, "rug": rug,
    "pillow": pillow, "books_stack": books_stack, "books_open": books_open, "lamp": lamp,
    "picture": picture, "mirror": mirror, "box": lambda rng, s: plain(skins.carton(rng), s),
    "pillar": lambda rng, s: plain(skins.wall(rng, False), s),
    "books_row": lambda rng, s: books(
        rng, (-s[0] / 2, -s[1] / 2, 0), (s[0] / 2, s[1] / 2, s[2]), 0.9),
}  # fmt: skip


def shape(name: str, rng: Rng, size: Point) -> list[Shape]:
    """The procedural model of the table's ``name``, such as bookcase_high or books_row."""
    return SHAPES[name if name in SHAPES else name.split("_")[0]](rng, size)
