# SPDX-License-Identifier: Apache-2.0
"""What a camera makes of light: exposure, lens, sensor, colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Lens:
    """How a picture is taken. ``gain`` scales linear colour [3]; ``blur`` in pixels; ``motion``
    a blur in pixels (x, y); ``noise`` scales that of a good indoor camera."""

    gain: np.ndarray
    blur: float = 0.45
    motion: tuple[float, float] = (0.0, 0.0)
    noise: float = 1.0
    vignette: float = 0.10
    contrast: float = 1.0
    saturation: float = 1.0
    sharpening: float = 0.0


def film(exposed: np.ndarray) -> np.ndarray:
    """Exposed linear light to sRGB 0..1, highlights soft."""
    film = 1 - np.exp(-1.3 * np.clip(exposed, 0, None))
    return np.where(film < 0.0031308, film * 12.92, 1.055 * film ** (1 / 2.4) - 0.055)


def draw(color: np.ndarray, rng: np.random.Generator) -> Lens:
    """A random way to take a picture of linear ``color`` [H,W,3]: automatic exposure, mostly."""
    grey = np.sort((color[::4, ::4] @ np.array([0.2126, 0.7152, 0.0722], np.float32)).reshape(-1))
    grey = grey[: int(len(grey) * rng.uniform(0.75, 1.0))]  # windows may be white
    target, low, high = float(np.clip(rng.normal(0.43, 0.08), 0.2, 0.6)), -12.0, 12.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if film(grey * 2**middle).mean() > target else (middle, high)
    exposure = 2**low
    # Automatic white balance takes a part of the light's tint away.
    mean = color.mean((0, 1)) + 1e-3
    balance = (mean.mean() / mean) ** rng.uniform(0.1, 0.7) * (1 + rng.normal(0, 0.04, 3))
    balance *= np.array([1.13, 1.0, 1.05]) ** rng.uniform(-0.5, 2.0)
    motion = rng.normal(0, 1.2, 2) if rng.random() < 0.12 else np.zeros(2)
    return Lens(
        exposure * balance, float(rng.uniform(0.25, 0.5 if rng.random() < 0.85 else 1.2)),
        (float(motion[0]), float(motion[1])), float(rng.choice((0.15, 0.3, 0.6, 1.5))),
        float(rng.uniform(0, 0.3)), float(rng.uniform(1.15, 1.7)), float(rng.uniform(0.8, 1.4)),
        float(rng.uniform(0.0, 1.0)),
    )  # fmt: skip


def develop(color: np.ndarray, lens: Lens, rng: np.random.Generator) -> np.ndarray:
    """Linear colour to an 8-bit sRGB photograph: vignette, sensor noise, soft highlights."""
    height, width = color.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width / 2) ** 2
    exposed = color.astype(np.float32) * lens.gain * (1 - lens.vignette * radius[..., None])
    exposed = cv2.GaussianBlur(exposed.astype(np.float32), (0, 0), lens.blur)
    if any(lens.motion):
        kernel = np.zeros((13, 13), np.float32)
        dx, dy = lens.motion
        ends = (
            (round((6 - dx) * 16), round((6 - dy) * 16)),
            (round((6 + dx) * 16), round((6 + dy) * 16)),
        )
        cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 4)
        exposed = cv2.filter2D(exposed, -1, kernel / max(kernel.sum(), 1e-6))
    # Shot noise grows with light, read noise does not.
    sigma = np.sqrt(lens.noise * (1.2e-5 + 1.0e-4 * np.clip(exposed, 0, 2)))
    grain = rng.standard_normal(exposed.shape, dtype=np.float32)
    exposed = exposed + sigma * cv2.GaussianBlur(grain, (0, 0), 0.6) * 1.6
    srgb = film(exposed)
    grey = srgb @ np.array([[0.299], [0.587], [0.114]])
    srgb = grey + (srgb - grey) * lens.saturation
    srgb = (srgb - 0.45) * lens.contrast + 0.45
    srgb += lens.sharpening * (srgb - cv2.GaussianBlur(srgb, (0, 0), 0.9))
    return np.clip(srgb * 255 + 0.5, 0, 255).astype(np.uint8)
