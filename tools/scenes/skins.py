# SPDX-License-Identifier: Apache-2.0
"""Random surfaces: what walls, floors, cloth, wood and paintings look like."""

from __future__ import annotations

import colorsys
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from . import textures
from .parts import Pair, Point, Rng, Surface

IMAGES: dict[str, tuple[str, ...]] = {
    "wall": ("brick_wall_1", "cinder_blocks_1", "drywall_1", "stucco_1", "concrete_1", "concrete_2",
             "wood_planks_1", "concrete_tiles_1"),
    "floor": ("wood_1", "wood_2", "wood_planks_1", "floor_tiles_bw_1", "floor_tiles_white",
              "marble_1", "marble_2", "concrete_3", "concrete_4", "concrete_tiles_1", "rock_1"),
    "ceiling": ("ceiling_tiles_1", "ceiling_tile_noborder_1", "white_1"),
    "carton": ("cardboard_1", "cardboard_2", "cardboard_3", "cardboard_4"),
}  # fmt: skip
"""Images of the ``miniworld`` package by use."""
FOLDER: list[Path] = []
"""Where those images are: set once, by the command."""


def fresh(rng: Rng) -> Rng:
    """What decides a texture; for the recording that ships, seeds below 1000 do."""
    return np.random.default_rng(int(rng.integers(1000, 1 << 30)))


def color(rng: Rng, saturation: Pair, value: Pair) -> Point:
    """A random sRGB colour, warm hues more often than cold ones."""
    hue = rng.choice((rng.uniform(0.02, 0.16), rng.uniform(0, 1)))
    return colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value))


@cache
def _image(name: str) -> np.ndarray:
    image = cv2.imread(str(FOLDER[0] / f"{name}.png"), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"{FOLDER[0] / name}.png: no such image of miniworld")
    return np.ascontiguousarray(small(image)[..., ::-1])


def small(image: np.ndarray) -> np.ndarray:
    """An image of at most 512 texels to a side."""
    scale = min(512 / max(image.shape[:2]), 1)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def image(rng: Rng, use: str, tint: float = 0.15) -> np.ndarray:
    """An image of miniworld, brightness and hue varied."""
    picture = _image(str(rng.choice(IMAGES[use]))).astype(np.float32)
    gain = rng.uniform(0.75, 1.15) * (1 + rng.uniform(-tint, tint, 3))
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def hsv(rng: Rng, hue: Pair, saturation: Pair, value: Pair) -> Point:
    """A random sRGB colour between bounds of hue, saturation and value."""
    return colorsys.hsv_to_rgb(*(rng.uniform(*pair) for pair in (hue, saturation, value)))


def timber(rng: Rng) -> Surface:
    """Wood, veneer or paint of furniture."""
    gloss = rng.choice((0.0, rng.uniform(0.08, 0.3)))
    if rng.random() < 0.65:
        h, s = rng.uniform(0.03, 0.10), rng.uniform(0.3, 0.75)
        v = rng.choice((rng.uniform(0.12, 0.4), rng.uniform(0.3, 0.8)))
        grain = textures.wood(fresh(rng), colorsys.hsv_to_rgb(h, s, v), 128, 256)
        return Surface(texture=grain, period=(1.2, 0.6), gloss=gloss)
    if rng.random() < 0.85:
        grey = rng.choice((rng.uniform(0.75, 0.95), rng.uniform(0.04, 0.95)))
        return Surface(color=(grey, grey * 0.99, grey * 0.96), gloss=gloss)
    return Surface(color=color(rng, (0.1, 0.6), (0.15, 0.9)), gloss=gloss)


def metal(rng: Rng) -> Surface:
    grey = rng.choice((0.08, 0.5, 0.75))
    return Surface(color=(grey, grey, grey), gloss=0.12)


def plastic(rng: Rng) -> Surface:
    return Surface(color=color(rng, (0.0, 0.9), (0.1, 0.95)), gloss=rng.choice((0, 0.15)))


def fabric(rng: Rng) -> Surface:
    if rng.random() < 0.3:
        colors = [color(rng, (0.0, 0.5), (0.15, 0.9)) for _ in range(rng.integers(2, 5))]
        period = rng.uniform(0.1, 0.4)
        return Surface(texture=textures.stripes(fresh(rng), colors, 128), period=(period, period))
    tone = color(rng, (0.0, rng.choice((0.25, 0.7))), (0.08, 0.95))
    threads = textures.weave(fresh(rng), tone, rng.uniform(0.04, 0.2), 128)
    return Surface(tone, threads, (0.4, 0.4))


def carpet(rng: Rng) -> Surface:
    what = rng.random()
    if what < 0.35:
        return Surface(texture=textures.abstract(fresh(rng), 256, 256), period=(1.5, 1.5))
    if what < 0.6:
        ground = fresh(rng), color(rng, (0.3, 0.8), (0.2, 0.6)), color(rng, (0.1, 0.5), (0.4, 0.9))
        return Surface(texture=textures.ornament(*ground))
    surface = fabric(rng)
    surface.period = (0.8, 0.8)
    return surface


def painting(rng: Rng) -> np.ndarray:
    if rng.random() < 0.3:
        names = sorted((FOLDER[0] / "portraits").glob("*.png"))
        picture = _image(f"portraits/{names[rng.integers(len(names))].stem}")
    elif rng.random() < 0.55:
        picture = textures.landscape(fresh(rng), 192, 256)
    else:
        picture = textures.abstract(fresh(rng), 256, 192)
    if rng.random() < 0.85:
        return picture
    return np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8)


def cover(rng: Rng, width: float, depth: float) -> Surface:
    """The cover of a book or magazine."""
    if rng.random() < 0.4:
        return Surface(texture=textures.abstract(fresh(rng), 128, 96), period=(width, depth))
    return Surface(color=color(rng, (0.0, 0.9), (0.1, 0.9)), gloss=rng.choice((0, 0.15)))


def printed(rng: Rng) -> np.ndarray:
    """A page of text."""
    page = np.full((96, 72, 3), rng.integers(215, 250), np.uint8)
    for y in range(10, 88, 5):
        page[y : y + 2, 8 : rng.integers(45, 66)] = 120
    return page


def carton(rng: Rng) -> Surface:
    if rng.random() < 0.55:
        return Surface(texture=image(rng, "carton"), period=(0.5, 0.5))
    return plastic(rng)


def wall(rng: Rng, wet: bool) -> Surface:
    if wet:
        tiles = textures.tiles(fresh(rng), color(rng, (0.0, 0.35), (0.45, 0.95)))
        return Surface(texture=tiles, period=(1.2, 1.2), gloss=0.15)
    what = rng.random()
    if what < 0.05:
        return Surface(texture=image(rng, "wall", 0.06), period=(1.6, 1.6))
    if what < 0.1:
        two = color(rng, (0.05, 0.4), (0.5, 0.9)), color(rng, (0.0, 0.4), (0.5, 0.95))
        return Surface(texture=textures.ornament(fresh(rng), *two, 128), period=(0.5, 0.5))
    tone = color(rng, (0.0, 0.1), (0.75, 0.95))
    if what < 0.5:  # cream, beige, sand
        tone = hsv(rng, (0.07, 0.14), (0.08, 0.35), (0.65, 0.95))
    elif what > 0.9:
        tone = color(rng, (0.15, 0.6), (0.3, 0.85))
    period = rng.uniform(1.5, 3.5)
    return Surface(texture=textures.paint(fresh(rng), tone, 256), period=(period, period))


def floor(rng: Rng, wet: bool) -> Surface:
    gloss = rng.choice((0.0, rng.uniform(0.08, 0.3)))
    what = rng.random() * (0.35 if wet else 1)
    if what < 0.25:
        size = rng.uniform(0.8, 2.4)
        texture = textures.tiles(fresh(rng), color(rng, (0.0, 0.4), (0.25, 0.9)))
    elif what < 0.45:
        size = rng.uniform(1.0, 2.5)
        texture = image(rng, "floor")
    elif what < 0.65:
        tone, size, gloss = color(rng, (0.0, 0.4), (0.2, 0.75)), 0.8, 0.0
        texture = textures.weave(fresh(rng), tone, rng.uniform(0.1, 0.4))
    else:
        tone = hsv(rng, (0.04, 0.11), (0.25, 0.65), (0.25, 0.8))
        size = rng.uniform(1.6, 3.0)
        texture = textures.plank_floor(fresh(rng), tone, 768, rng.choice((8, 12, 16)))
    return Surface(texture=texture, period=(size, size), gloss=gloss)


def ceiling(rng: Rng) -> Surface:
    if rng.random() < 0.12:
        return Surface(texture=image(rng, "ceiling", 0.04), period=(1.8, 1.8))
    plaster = textures.paint(fresh(rng), color(rng, (0.0, 0.06), (0.8, 0.97)), 256)
    return Surface(texture=plaster, period=(3, 3))


SKIES: list[np.ndarray] = []
"""Panoramas, linear float32 [H,W,3]: set once, by the command."""


def outside(rng: Rng, width: float, height: float) -> tuple[np.ndarray, float]:
    """What is seen through a window of that size: a part of a panorama at the horizon, or a
    drawn garden; uint8, and the radiance of its brightest, where its mean is 1."""
    if rng.random() < 0.25:
        view = (textures.garden(fresh(rng), 128, 128).astype(np.float32) / 255) ** 2.2
    else:
        sky = SKIES[rng.integers(len(SKIES))]
        rows = int(min(sky.shape[0] * 0.35, sky.shape[0] * 0.15 * height + 20))
        columns = int(min(rows * width / height, sky.shape[1] // 2))
        top = int(sky.shape[0] * rng.uniform(0.4, 0.52)) - rows // 2
        sky = np.roll(sky, int(rng.integers(sky.shape[1])), 1)
        view = cv2.resize(sky[max(top, 0) : top + rows, :columns], (128, 128))
    view = np.clip(view / max(float(view.mean()), 1e-3), 0.0, 6.0)
    peak = float(view.max())
    return np.clip((view / peak) ** (1 / 2.2) * 255 + 0.5, 0, 255).astype(np.uint8), peak
