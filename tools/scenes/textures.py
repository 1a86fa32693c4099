# SPDX-License-Identifier: Apache-2.0
"""Procedural textures, uint8 RGB, tileable unless said otherwise."""

from __future__ import annotations

import cv2
import numpy as np

from .parts import Point, Rng


def noise(rng: Rng, height: int, width: int, fx: float, fy: float) -> np.ndarray:
    """Smooth periodic noise, zero mean, unit variance; cut-off ``fx``, ``fy`` cycles per image."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    u = np.fft.rfftfreq(width)[None] * width / fx
    v = np.fft.fftfreq(height)[:, None] * height / fy
    spectrum *= np.exp(-0.5 * (u**2 + v**2))
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (height, width))
    return field / field.std()


def _image(values: np.ndarray) -> np.ndarray:
    return np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)


def _shaded(color: Point | np.ndarray, shade: np.ndarray) -> np.ndarray:
    return _image(np.asarray(color) * shade[..., None])


def wood(rng: Rng, color: Point, height: int = 256, width: int = 512) -> np.ndarray:
    """Grain along the width."""
    rings = noise(rng, height, width, 2, 14) + 0.35 * noise(rng, height, width, 4, 60)
    fibre = noise(rng, height, width, 10, 110)
    return _shaded(color, 1 + 0.10 * np.sin(3.0 * rings) + 0.05 * fibre)


def plank_floor(rng: Rng, color: Point, size: int = 1536, rows: int = 16) -> np.ndarray:
    """Staggered planks, ``rows`` of them over the height, with dark joints."""
    out, high = np.empty((size, size, 3)), size // rows
    for row in range(rows):
        grain = 0.07 * noise(rng, high, size, 6, 9) + 0.04 * noise(rng, high, size, 14, 40) + 1
        tone, joint, start = np.ones((size, 3)), np.ones(size), int(rng.integers(size))
        cuts = start + np.cumsum(rng.integers(size // 5, size // 2, 4))
        cuts = [start, *cuts[cuts < start + size - size // 6], start + size]
        for a, b in zip(cuts[:-1], cuts[1:]):
            tone[np.arange(a, b) % size] = rng.normal(1, 0.10) * (1 + rng.normal(0, 0.02, 3))
            joint[(a + np.arange(3)) % size] = 0.55
        plank = np.asarray(color) * tone * (grain * joint)[..., None]
        plank[:2] *= 0.55
        out[row * high : (row + 1) * high] = plank
    return _image(out)


def weave(rng: Rng, color: Point, contrast: float = 0.08, size: int = 256) -> np.ndarray:
    """Woven cloth."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi * 40 / size)
    thread = np.sin(x) * np.sin(y) + noise(rng, size, size, 60, 60)
    return _shaded(color, 1 + 0.5 * contrast * (thread + noise(rng, size, size, 4, 4)))


def stripes(rng: Rng, colors: list[Point], size: int = 256) -> np.ndarray:
    """Cloth with stripes along the width."""
    index = (np.arange(size) * 2 * len(colors) // size) % len(colors)
    shade = 1 + 0.05 * noise(rng, size, size, 60, 60)
    return _shaded(np.asarray(colors)[index][:, None], shade)


def paint(rng: Rng, color: Point, size: int = 512) -> np.ndarray:
    """A painted wall: nearly even, slightly mottled."""
    mottle = noise(rng, size, size, 3, 3) + noise(rng, size, size, 90, 90)
    return _shaded(color, 1 + 0.012 * mottle)


def landscape(rng: Rng, height: int = 384, width: int = 512) -> np.ndarray:
    """A painting of hills under a sky; not tileable."""
    v = np.linspace(0, 1, height)[:, None, None]
    sky, glow = rng.uniform(0.35, 0.75, 3), np.array([0.95, 0.8, 0.6])
    out = sky * (1 - v) + glow * v + 0.04 * noise(rng, height, width, 6, 3)[..., None]
    rows = np.arange(height)[:, None]
    for layer in range(5):
        ridge = noise(rng, 8, width, 2 + layer, 2)[0] * height * 0.06
        ridge = height * (0.42 + 0.12 * layer) + ridge
        color = rng.uniform(0.15, 0.55, 3) * np.array([0.9, 1.0, 0.7]) * (1.1 - 0.13 * layer)
        stroke = 1 + 0.15 * noise(rng, height, width, 40, 25)
        out = np.where((rows > ridge[None])[..., None], color * stroke[..., None], out)
    return _image(out)


def abstract(rng: Rng, height: int = 512, width: int = 384) -> np.ndarray:
    """A poster of overlapping shapes on paper; not tileable."""
    out = np.full((height, width, 3), 232, np.uint8)
    for _ in range(9):
        color = tuple(int(c) for c in rng.integers(20, 220, 3))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(20, width // 3)), int(rng.integers(20, height // 3)))
        cv2.ellipse(out, centre, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    cv2.rectangle(out, (0, 0), (width - 1, height - 1), (240, 238, 230), width // 8)
    return out


def garden(rng: Rng, height: int = 512, width: int = 512) -> np.ndarray:
    """What is seen through the window: bright sky, blurred trees, lawn; not tileable."""
    v = np.linspace(0, 1, height)[:, None]
    sky = np.stack([0.80 + 0.15 * v, 0.88 + 0.08 * v, 0.98 + 0 * v], -1)
    out = np.repeat(sky, width, 1)
    leaves = noise(rng, height, width, 30, 30)[..., None]
    tree_line = 0.52 + 0.06 * noise(rng, 8, width, 5, 2)[0]
    trees = np.array([0.30, 0.40, 0.22]) * (1 + 0.25 * leaves)
    out = np.where((v > tree_line[None])[..., None], trees, out)
    out = np.where((v > 0.78)[..., None], np.array([0.45, 0.55, 0.28]) * (1 + 0.06 * leaves), out)
    return cv2.GaussianBlur(_image(out), (0, 0), 4)


def book_spines(rng: Rng, count: int, height: int = 256, width: int = 512) -> np.ndarray:
    """``count`` book spines side by side; not tileable."""
    out = np.zeros((height, width, 3))
    edges = np.linspace(0, width, count + 1).astype(int)
    for a, b in zip(edges[:-1], edges[1:]):
        out[:, a:b] = rng.uniform(0.08, 0.75, 3)
        out[int(height * 0.2) : int(height * 0.55), a + 2 : b - 2] *= rng.uniform(0.6, 1.5)
        out[:, a] = 0.05
    return _image(out * (1 + 0.05 * noise(rng, height, width, 40, 10))[..., None])


def tiles(rng: Rng, color: Point, count: int = 6, size: int = 384) -> np.ndarray:
    """Ceramic tiles with joints, ``count`` to a side."""
    step = size // count
    tone = 1 + rng.normal(0, rng.uniform(0.005, 0.08), (count, count, 1))
    if rng.random() < 0.15:
        tone = tone * np.where(np.indices((count, count)).sum(0) % 2, 0.45, 1.0)[..., None]
    out = np.kron(np.asarray(color) * tone, np.ones((step, step, 1)))
    out *= 1 + 0.03 * noise(rng, size, size, 20, 20)[..., None]
    joint = np.arange(size) % step < max(step // 24, 1)
    grout = rng.uniform(0.35, 0.95)
    out[joint] = grout
    out[:, joint] = grout
    return _image(out)


def ornament(rng: Rng, ground: Point, figure: Point, size: int = 256) -> np.ndarray:
    """A symmetric pattern, as on wallpaper and rugs."""
    half = noise(rng, size // 2, size // 2, 6, 6) > rng.uniform(-0.3, 0.8)
    full = np.block([[half, half[:, ::-1]], [half[::-1], half[::-1, ::-1]]])[..., None]
    shade = 1 + 0.04 * noise(rng, size, size, 60, 60)[..., None]
    return _image(np.where(full, np.asarray(figure), np.asarray(ground)) * shade)
