# SPDX-License-Identifier: Apache-2.0
"""Furniture and small things that are drawn instead of loaded, for the endless variety.

Each function gets a size (width, depth, height) and gives meshes with their surfaces and classes;
they stand on z = 0, centred in x and y, and face -y as the models do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import skins
from .models import Mesh
from .parts import BOOKS, OBJECTS, PICTURE, Surface, box, join, quad

Size = tuple[float, float, float]
Shape = tuple[Mesh, Surface, int | None]
"""Mesh, surface, class; None: the class of the whole."""
Rng = np.random.Generator


def disc(radius: float, low: float, high: float, top: float | None = None) -> Mesh:
    """A cylinder, or a cone whose upper radius is ``top``, closed above and below."""
    t = np.linspace(0, 2 * np.pi, 25)
    ring = np.stack([np.cos(t), np.sin(t)], 1)
    rows = [(radius, low), (radius if top is None else top, high)]
    sides = np.concatenate([np.c_[ring * r, np.full(25, z)] for r, z in rows])
    i = np.arange(24)
    faces = [np.stack([i, i + 1, i + 26], 1), np.stack([i, i + 26, i + 25], 1)]
    middle = np.array([[0, 0, low], [0, 0, high]])
    faces += [np.stack([i + 1, i, i * 0 + 50], 1), np.stack([i + 25, i + 26, i * 0 + 51], 1)]
    vertices = np.concatenate([sides, middle])
    return Mesh(vertices, np.concatenate(faces), None, vertices[:, [0, 2]].copy())


def books(rng: Rng, low: Size, high: Size, fill: float = 1.0) -> Shape | None:
    """A row of books that stand in a box, their backs to the front."""
    x, meshes, n = low[0], [], 16
    while x < low[0] + fill * (high[0] - low[0]):
        thick = float(rng.uniform(0.012, 0.05))
        if x + thick > high[0]:
            break
        tall = (high[2] - low[2]) * float(rng.uniform(0.65, 0.97))
        front = low[1] + float(rng.uniform(0.0, 0.3)) * (high[1] - low[1])
        mesh = box((x, front, low[2]), (x + thick, high[1], low[2] + tall))
        assert mesh.uv is not None
        mesh.uv[:, 0] = (rng.integers(n) + 0.5) / n
        mesh.uv[:, 1] = (mesh.vertices[:, 2] - low[2]) / tall
        meshes.append(mesh)
        x += thick + 0.001
    if not meshes:
        return None
    return join(meshes), Surface(texture=skins.spines(rng, n)), BOOKS


def bookcase(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    t, body = 0.02, skins.timber(rng)
    shelves = np.linspace(0.05, h - t, max(int(h / rng.uniform(0.28, 0.42)), 2) + 1)
    boards = [box((-w / 2, -d / 2, 0), (-w / 2 + t, d / 2, h)),
              box((w / 2 - t, -d / 2, 0), (w / 2, d / 2, h)),
              box((-w / 2, d / 2 - 0.01, 0), (w / 2, d / 2, h))]  # fmt: skip
    boards += [box((-w / 2, -d / 2, z), (w / 2, d / 2, z + t)) for z in shelves]
    out: list[Shape] = [(join(boards), body, None)]
    full = rng.uniform(0.2, 1.0)
    for a, b in zip(shelves[:-1], shelves[1:]):
        a += t
        x, end = -w / 2 + t + 0.01, w / 2 - t - 0.01
        while x < end - 0.1:
            wide = min(float(rng.uniform(0.15, 0.5)), end - x)
            what = rng.random()
            if what < 0.62 * full:
                row = books(rng, (x, -d / 2 + 0.03, a), (x + wide, d / 2 - 0.02, min(b, a + 0.3)))
                out += [] if row is None else [row]
            elif what < 0.9 * full:
                tall = min(float(rng.uniform(0.08, 0.28)), b - a - 0.02)
                middle = (x + wide / 2, 0.0)
                if rng.random() < 0.5:
                    deep = d * 0.35
                    mesh = box((x + 0.01, -deep, a), (x + wide - 0.01, deep, a + tall))
                else:
                    r = min(wide, d) * 0.3
                    mesh = disc(r, a, a + tall, r * float(rng.uniform(0.5, 1.2)))
                    mesh.vertices[:, :2] += middle
                out.append((mesh, skins.plastic(rng), OBJECTS))
            x += wide + 0.01
    return out


def cabinet(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    foot, front = float(rng.choice((0.0, 0.06, 0.12))), -d / 2 + 0.02
    shell = [box((-w / 2, front, foot), (w / 2, d / 2, h))]
    for x in (-w / 2 + 0.03, w / 2 - 0.07):
        for y in (front + 0.02, d / 2 - 0.06):
            shell.append(box((x, y, 0), (x + 0.04, y + 0.04, foot)))
    columns = max(int(round(w / rng.uniform(0.4, 0.65))), 1)
    rows = 1 if h > 1.2 else max(int(round((h - foot) / rng.uniform(0.2, 0.5))), 1)
    doors, handles = [], []
    for i in range(columns):
        for j in range(rows):
            x0, x1 = (-w / 2 + w * k / columns for k in (i, i + 1))
            z0, z1 = (foot + (h - foot) * k / rows for k in (j, j + 1))
            doors.append(box((x0 + 0.004, -d / 2, z0 + 0.004), (x1 - 0.004, front, z1 - 0.004)))
            x, z = (x0 + x1) / 2, z1 - 0.05
            if rows == 1:
                x, z = (x1 - 0.06 if i % 2 == 0 else x0 + 0.04), (z0 + z1) / 2
            wide, tall = (0.05, 0.015) if rows > 1 else (0.01, 0.07)
            handles.append(box((x - wide, -d / 2 - 0.02, z - tall), (x + wide, -d / 2, z + 0.015)))
    body = skins.timber(rng)
    face = body if rng.random() < 0.6 else skins.timber(rng)
    return [(join(shell), body, None), (join(doors), face, None),
            (join(handles), skins.metal(rng), None)]  # fmt: skip


def table(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    top, t = skins.timber(rng), float(rng.uniform(0.02, 0.05))
    leg, inset = float(rng.uniform(0.025, 0.08)), float(rng.uniform(0.0, 0.08))
    under = top if rng.random() < 0.5 else skins.timber(rng)
    if abs(w - d) < 0.25 and rng.random() < 0.6:
        r = min(w, d) / 2
        post = join([disc(0.05, 0.02, h - t), disc(r * 0.55, 0, 0.03)])
        return [(disc(r, h - t, h), top, None), (post, under, None)]
    legs = []
    for x in (-w / 2 + inset, w / 2 - inset - leg):
        for y in (-d / 2 + inset, d / 2 - inset - leg):
            legs.append(box((x, y, 0), (x + leg, y + leg, h - t)))
    if rng.random() < 0.3 and h < 0.6:
        legs.append(box((-w / 2 + inset, -d / 2 + inset, h * 0.3),
                        (w / 2 - inset, d / 2 - inset, h * 0.3 + 0.02)))  # fmt: skip
    return [(box((-w / 2, -d / 2, h - t), (w / 2, d / 2, h)), top, None), (join(legs), under, None)]


def screen(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    low = 0.0 if d < 0.1 else float(rng.uniform(0.04, 0.1))
    y = 0.0 if low else d / 2 - 0.02
    thick = 0.02
    panel = [box((-w / 2, y - thick, low), (w / 2, y + thick, h))]
    if low:
        wide = w * float(rng.uniform(0.1, 0.35))
        panel += [
            box((-wide, -d / 2, 0), (wide, d / 2, 0.012)),
            box((-0.03, y, 0), (0.03, y + thick, low)),
        ]
    glass = quad(
        (-w / 2 + 0.012, y - thick - 0.001, low + 0.02), (w - 0.024, 0, 0), (0, 0, h - low - 0.032)
    )
    body = Surface(color=(0.05, 0.05, 0.055), gloss=0.2)
    face = Surface(color=(0.03, 0.03, 0.035), gloss=0.08)
    if rng.random() < 0.35:
        gain = float(rng.uniform(0.6, 2.5))
        face = Surface(texture=skins.painting(rng), period=(w - 0.024, h - low - 0.032),
                       emission=(gain, gain, gain))  # fmt: skip
    return [(join(panel), body, None), (glass, face, None)]


def rug(rng: Rng, size: Size) -> list[Shape]:
    w, d, _ = size
    mesh = box((-w / 2, -d / 2, 0.0), (w / 2, d / 2, 0.008))
    surface = skins.carpet(rng)
    if surface.texture is not None and rng.random() < 0.5:
        surface.period = (w, d)
    return [(mesh, surface, None)]


def pillow(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    n = 13
    u, v = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    swell = ((1 - u**4) * (1 - v**4)) ** 0.6 * h / 2
    i = np.arange(n * n).reshape(n, n)
    a, b, c, e = (x.reshape(-1) for x in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    up = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, e], 1)])
    pinch = 1 - 0.08 * (u**2 * v**2)
    flat = np.stack([u * w / 2 * pinch, v * d / 2 * pinch], -1)
    sides = [np.dstack([flat, h / 2 + s * swell]).reshape(-1, 3) for s in (1, -1)]
    points = np.concatenate(sides)
    faces = np.concatenate([up, up[:, ::-1] + n * n])
    return [
        (Mesh(points, faces, None, np.tile(flat.reshape(-1, 2), (2, 1))), skins.fabric(rng), None)
    ]


def books_stack(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    out: list[Shape] = []
    z = 0.0
    while z < h - 0.015 and len(out) < 6:
        t = float(rng.uniform(0.015, 0.045))
        s = float(rng.uniform(0.7, 1.0))
        shift = rng.uniform(-0.02, 0.02)
        mesh = box((-w / 2 * s + shift, -d / 2 * s, z), (w / 2 * s + shift, d / 2 * s, z + t))
        out.append((mesh, skins.cover(rng, w, d), None))
        z += t
    return out


def books_row(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    row = books(rng, (-w / 2, -d / 2, 0), (w / 2, d / 2, h), 0.9)
    assert row is not None
    return [row]


def books_open(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    page = Surface(texture=skins.printed(rng), period=(w / 2, d))
    t = np.linspace(0, 1, 8)
    z = h * (0.35 + 0.65 * np.sin(np.pi * t) ** 0.7)
    leaves = []
    for a, b, p, q in zip(t[:-1], t[1:], z[:-1], z[1:]):
        x0, x1 = (-w / 2 + w / 2 * k for k in (a, b))
        for s in (1, -1):
            leaf = quad((s * x0, -d / 2, p), (s * (x1 - x0), 0, q - p), (0, d, 0))
            assert leaf.uv is not None
            leaf.uv[:, 0] = s * leaf.vertices[:, 0] + w / 2
            leaves.append(leaf)
    binding = box((-w / 2, -d / 2, 0), (w / 2, d / 2, h * 0.3))
    return [(join(leaves), page, None), (binding, skins.cover(rng, w, d), None)]


def crate(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    return [(box((-w / 2, -d / 2, 0), (w / 2, d / 2, h)), skins.carton(rng), None)]


def lamp(rng: Rng, size: Size) -> list[Shape]:
    w, _, h = size
    tall = float(rng.uniform(0.2, 0.35))
    post = join([disc(0.013, 0.02, h - tall), disc(w * 0.35, 0, 0.025)])
    shade = skins.fabric(rng)
    if rng.random() < 0.5:
        shade.texture, shade.emission = (
            None,
            tuple(float(x) for x in rng.uniform(1, 4) * np.array([1, 0.8, 0.5])),
        )  # type: ignore[assignment]
    cone = disc(w / 2, h - tall, h, w / 2 * float(rng.uniform(0.5, 1)))
    return [(post, skins.metal(rng), None), (cone, shade, None)]


def picture(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    t = float(rng.uniform(0.0, 0.05))
    back = box((-w / 2, -d / 2 + 0.006, 0), (w / 2, d / 2, h))
    canvas = quad((-w / 2 + t, -d / 2, t), (w - 2 * t, 0, 0), (0, 0, h - 2 * t))
    art = Surface(
        texture=skins.painting(rng),
        period=(w - 2 * t, h - 2 * t),
        gloss=float(rng.choice((0, 0.1))),
    )
    return [(back, skins.timber(rng), PICTURE), (canvas, art, PICTURE)]


def mirror(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    glass = quad((-w / 2 + 0.03, -d / 2, 0.03), (w - 0.06, 0, 0), (0, 0, h - 0.06))
    return [(box((-w / 2, -d / 2 + 0.004, 0), (w / 2, d / 2, h)), skins.timber(rng), None),
            (glass, Surface(color=(0.55, 0.58, 0.6), gloss=0.05), None)]  # fmt: skip


def pillar(rng: Rng, size: Size) -> list[Shape]:
    w, d, h = size
    return [(box((-w / 2, -d / 2, 0), (w / 2, d / 2, h)), skins.wall(rng, False), None)]


SHAPES: dict[str, Callable[[Rng, Size], list[Shape]]] = {
    "bookcase": bookcase, "cabinet": cabinet, "table": table, "screen": screen, "rug": rug,
    "pillow": pillow, "books_stack": books_stack, "books_row": books_row,
    "books_open": books_open, "box": crate, "lamp": lamp, "picture": picture, "mirror": mirror,
    "pillar": pillar,
}  # fmt: skip


def shape(name: str, rng: Rng, size: Size) -> list[Shape]:
    """The procedural model of the table's ``name``, such as bookcase_high or books_row."""
    return SHAPES[name if name in SHAPES else name.split("_")[0]](rng, size)
