# SPDX-License-Identifier: Apache-2.0
"""The room of the recording that ships, and the camera's way through it.

``room_furniture.csv`` says what stands where, ``room_looks.csv`` what was changed on models.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from . import textures
from .camera import Pinhole, Pose, look
from .models import Model, load_model
from .parts import (
    CEILING,
    CLASSES,
    FLOOR,
    OBJECTS,
    PICTURE,
    WALL,
    WINDOW,
    Part,
    Point,
    Surface,
    box,
    cloth,
    join,
    quad,
)
from .plan import EAST, NORTH, SOUTH, WEST, Opening, Plan
from .shell import slab, wall

PLAN = Plan("living", 6.4, 5.2, 2.6, np.random.default_rng(0))
PLAN.openings.append(Opening(WEST, 1.75, 3.55, 0.85, 2.2, "window"))
CAMERA = Pinhole(640, 480, 525.0)
WAY = np.array([
    [0.00, 5.10, 0.95, 141.0],
    [0.25, 4.55, 0.80, 118.0],
    [0.50, 3.75, 0.85, 92.0],
    [0.75, 2.95, 0.95, 61.0],
    [1.00, 2.35, 1.15, 27.0],
])  # fmt: skip
"""Time 0..1, x, y, heading in degrees (0 = east, 90 = north)."""


def pose(frame: int, frames: int) -> Pose:
    """The pose of a frame: level with a hand's motion, four degrees downwards."""
    t = frame / max(frames - 1, 1)
    s = 2 * np.pi * t
    # The one polynomial of degree 4 through the points of the way.
    x, y, turn = (float(np.polyval(np.polyfit(WAY[:, 0], WAY[:, i], 4), t)) for i in (1, 2, 3))
    sway = 0.008 * np.sin(5.1 * s), 0.008 * np.sin(4.3 * s + 1), 0.015 * np.sin(3.3 * s) + 0.03 * t
    heading = np.radians(turn + 0.35 * np.sin(4.7 * s + 2))
    down = np.radians(4.0 + 0.9 * np.sin(1.7 * s) + 0.25 * np.sin(5.9 * s + 1))
    roll = np.radians(0.5 * np.sin(1.3 * s + 0.5) + 0.2 * np.sin(6.1 * s))
    return look(np.array([x, y, 1.32]) + sway, float(heading), float(-down), float(roll))


def shell() -> list[Part]:
    """Floor, walls, ceiling, window, curtains, skirting boards."""
    w, le, h = PLAN.width, PLAN.length, PLAN.height
    o = PLAN.openings[0]
    warm = Surface(texture=textures.paint(1, (0.86, 0.82, 0.73)), period=(2.5, 2.5))
    blue = Surface(texture=textures.paint(2, (0.62, 0.69, 0.70)), period=(2.5, 2.5))
    planks = Surface(texture=textures.plank_floor(3, (0.60, 0.42, 0.26)), period=(2.2, 2.2))
    above = Surface(texture=textures.paint(4, (0.9, 0.9, 0.88)), period=(3, 3))
    fabric = Surface(texture=textures.weave(5, (0.62, 0.36, 0.28), 0.12), period=(0.5, 0.5))
    view = Surface(texture=textures.garden(6), period=(o.end - o.start, o.top - o.bottom),
                   emission=(6.0, 6.2, 6.5))  # fmt: skip
    white, t, z = Surface(color=(0.9, 0.9, 0.88)), (o.start, o.end), (o.bottom, o.top)
    shine = Surface(color=(0.9, 0.9, 0.85), emission=(14.0, 12.0, 9.0))
    reveal = box((-0.14, t[0], z[0]), (0, t[1], z[1]))
    reveal.faces = reveal.faces[[0, 1, 4, 5, 8, 9, 10, 11]]  # open to both sides
    columns = [(max(y - 0.035, t[0]), min(y + 0.035, t[1]))
               for y in (t[0], t[0] + 0.6, t[0] + 1.2, t[1])]  # fmt: skip
    rows = [(max(y - 0.035, z[0]), min(y + 0.035, z[1])) for y in (z[0], z[0] + 0.95, z[1])]
    bars = [slab(PLAN, WEST, c, z, (-0.13, -0.07)) for c in columns]
    bars += [slab(PLAN, WEST, t, r, (-0.125, -0.075)) for r in rows]
    skirting = [slab(PLAN, k, (0, PLAN.wall_length(k)), (0, 0.09), (0, 0.015))
                for k in (WEST, EAST, NORTH)]  # fmt: skip
    pane = quad((-0.11, t[0], z[0]), (0, t[1] - t[0], 0), (0, 0, z[1] - z[0]))
    curtains = [cloth(0.53, 2.36, 5).moved((0.10, y, 0.04), 90)
                for y in (t[0] - 0.45, t[1] - 0.08)]  # fmt: skip
    rod = box((0.09, t[0] - 0.6, 2.40), (0.115, t[1] + 0.6, 2.425))
    return [
        Part("", quad((0, 0, 0), (w, 0, 0), (0, le, 0)), planks, FLOOR),
        Part("", quad((0, le, h), (w, 0, 0), (0, -le, 0)), above, CEILING),
        *(Part("", wall(PLAN, k), blue if k == EAST else warm, WALL)
          for k in (NORTH, EAST, SOUTH, WEST)),
        Part("", join(skirting), white, WALL),
        Part("", join([reveal, *bars]), white, WINDOW),
        Part("", pane, view, WINDOW),
        Part("", join(curtains), fabric, WINDOW),
        Part("", rod, Surface(color=(0.25, 0.2, 0.16)), WINDOW),
        Part("", box((3.0, 2.3, h - 0.08), (3.4, 2.7, h - 0.02)), shine, OBJECTS),
    ]  # fmt: skip


def picture(at: Point, yaw: float, size: tuple[float, float], image: np.ndarray,
            frame: Point) -> list[Part]:  # fmt: skip
    """A framed picture, its middle at ``at``, its back to the wall."""
    (w, h), t = (size[0] / 2, size[1] / 2), 0.035
    back = box((-w - t, -0.03, -h - t), (w + t, -0.001, h + t))
    canvas = quad((-w, -0.032, -h), (2 * w, 0, 0), (0, 0, 2 * h))
    art = Surface(texture=image, period=size)
    return [Part("", back.moved(at, yaw), Surface(color=frame), PICTURE),
            Part("", canvas.moved(at, yaw), art, PICTURE)]  # fmt: skip


def build(furniture: Path) -> tuple[list[Part], list[Model]]:
    """All parts of the room, and the models used (for the credits)."""
    dark, north, east = (0.16, 0.12, 0.1), PLAN.length, PLAN.width
    parts, models = [
        *shell(),
        *picture((2.45, north, 1.6), 0, (1.1, 0.7), textures.landscape(11), dark),
        *picture((5.0, north, 1.75), 0, (0.5, 0.65), textures.abstract(12), (0.9, 0.9, 0.88)),
        *picture((east, 3.0, 1.6), -90, (0.6, 0.45), textures.landscape(13), (0.55, 0.38, 0.22)),
        *picture((east, 2.2, 1.6), -90, (0.42, 0.56), textures.abstract(14), dark),
    ], []  # fmt: skip
    looks = {(row["look"], row["material"]): row for row in rows("room_looks.csv")}
    for row in rows("room_furniture.csv"):
        size = tuple(float(row[k]) for k in ("width", "depth", "height") if row[k]) or None
        model = load_model(furniture, row["library"], row["model"], size)
        models.append(model)
        at = (float(row["x"]), float(row["y"]), float(row["z"]))
        for material, mesh in model.meshes.items():
            m, new = model.materials[material], looks.get((row["look"], material), {})
            surface = Surface(tuple(0.92 * c for c in m.color),
                              m.texture if mesh.uv is not None else None)  # fmt: skip
            if new.get("color"):
                surface = Surface(numbers(new["color"]), None, (1, 1), numbers(new["emission"]))
                if row["look"] == "bookcase":
                    surface.texture = textures.wood(21, surface.color)
            label = CLASSES.index(new.get("class") or row["class"])
            parts.append(Part("", mesh.moved(at, float(row["yaw"])), surface, label))
    return parts, models


def rows(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(text: str) -> Point | None:
    return tuple(float(x) for x in text.split()) or None
