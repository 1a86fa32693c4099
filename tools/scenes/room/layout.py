# SPDX-License-Identifier: Apache-2.0
"""What stands where in the room of the recording, of what material, and of which class.

The room is x 0..6.4, y 0..5.2, z 0..2.6 (metres, x east, y north); its furniture stands in
``furniture.csv``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from .. import textures
from ..models import Model, load_model
from ..parts import (
    BOOKS,
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

WIDTH, LENGTH, HEIGHT = 6.4, 5.2, 2.6
WINDOW_Y, WINDOW_Z = (1.75, 3.55), (0.85, 2.2)  # opening in the west wall
FURNITURE = Path(__file__).with_name("furniture.csv")
LABELS = {"bed": {"pillow": OBJECTS}, "bookcase": {f"Books_{i}": BOOKS for i in range(1, 5)}}
"""Materials of another class than their model, by look."""


def looks() -> dict[str, dict[str, Surface]]:
    """What was changed on models: look -> material -> surface."""
    walnut, sofa = Surface(color=(0.30, 0.19, 0.11)), Surface(color=(0.66, 0.60, 0.50))
    shade = Surface(color=(0.85, 0.78, 0.62), emission=(3.2, 2.4, 1.4))
    covers = ("beige", "beige_normalmap.jpg", "colorbeige_right_normalmap.jpg",
              "colorbeige_cushionmap.jpg", "colorbeige_center_normal2.jpg")  # fmt: skip
    return {
        "": {},
        "bookcase": {"White_paint": Surface(texture=textures.wood(21, (0.62, 0.44, 0.27)))},
        "sofa": {
            **dict.fromkeys(covers, sofa),
            "cosins": Surface(color=(0.50, 0.24, 0.17)),
            "cosins_brown": Surface(color=(0.24, 0.30, 0.36)),
        },
        "bed": {
            "structure": walnut,
            "couch": Surface(color=(0.36, 0.45, 0.58)),
            "pillow": Surface(color=(0.85, 0.84, 0.80)),
            "sheet": Surface(color=(0.82, 0.80, 0.76)),
            "matress": Surface(color=(0.8, 0.78, 0.72)),
        },
        "television": {
            "screen": Surface(color=(0.05, 0.05, 0.06)),
            "white_glossy_plastic": Surface(color=(0.08, 0.08, 0.08)),
        },
        "coffee table": {"Table-Cross": walnut, "Table-Top": walnut},
        "lamp": {"squares_multilamps.jpg": shade},
        "night lamp": {"lampshade_multilamps.jpg": shade},
        "stand lamp": {"squares.001_tela_lamp_tile.jpg": Surface(emission=(2.6, 1.7, 0.9))},
    }


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
    curtain = cloth(0.53, 2.36, 5)
    fabric = Surface(texture=textures.weave(5, (0.62, 0.36, 0.28), 0.12), period=(0.5, 0.5))
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
        Part("curtain_south", curtain.moved((0.10, y0 - 0.45, 0.04), 90), fabric, WINDOW),
        Part("curtain_north", curtain.moved((0.10, y1 - 0.08, 0.04), 90), fabric, WINDOW),
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


def build(furniture: Path) -> tuple[list[Part], list[Model]]:
    """All parts of the room, and the models used (for the credits)."""
    parts, models, changes = shell() + pictures(), [], looks()
    with FURNITURE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            size = tuple(float(row[k]) for k in ("width", "depth", "height") if row[k]) or None
            model = load_model(furniture, row["library"], row["model"], size)  # type: ignore[arg-type]
            models.append(model)
            label, look = CLASSES.index(row["class"]), row["look"]
            for material, mesh in model.meshes.items():
                m = model.materials[material]
                color = (m.color[0] * 0.92, m.color[1] * 0.92, m.color[2] * 0.92)
                plain = Surface(color=color, texture=m.texture if mesh.uv is not None else None)
                at = (float(row["x"]), float(row["y"]), float(row["z"]))
                parts.append(
                    Part(row["model"], mesh.moved(at, float(row["yaw"])),
                         changes[look].get(material, plain),
                         LABELS.get(look, {}).get(material, label))
                )  # fmt: skip
    return parts, models
