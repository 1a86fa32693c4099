# SPDX-License-Identifier: Apache-2.0
"""Where a camera may be (on a vacuum robot, a cart, a hand, a head), and what it makes of light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .parts import CLASSES, Rng
from .plan import Plan, touch

WORTH = np.array([3.2, 0.5, 0.2, 1.7, 0.35, 1.6, 2.1, 1.0, 1.4, 2.4, 1.6, 0.65, 1.0, 0.2])
"""What a pixel of each class is worth: more where random views show less than real ones do."""


@dataclass(frozen=True)
class Pose:
    """Position [3] of the camera, and ``axes`` [3,3], whose columns are right, down, forward."""

    position: np.ndarray
    axes: np.ndarray


def look(position: np.ndarray, heading: float, pitch: float, roll: float) -> Pose:
    """A pose by heading (0 = east, counter-clockwise), pitch (upwards) and roll, in radians."""
    (ch, cp, cr), (sh, sp, sr) = (f([heading, pitch, roll]) for f in (np.cos, np.sin))
    forward, right = np.array([cp * ch, cp * sh, sp]), np.array([sh, -ch, 0.0])
    lower = np.cross(forward, right)
    return Pose(position, np.stack([cr * right + sr * lower, cr * lower - sr * right, forward], 1))


@dataclass(frozen=True)
class Pinhole:
    """An ideal camera: size and focal length in pixels, principal point in the middle."""

    width: int
    height: int
    focal: float

    def rays(self, supersampling: int = 1) -> np.ndarray:
        """Viewing rays (x, y, 1) in the optical frame, float64 [N,3], row by row. One through
        each pixel's centre, or a grid of ``supersampling`` x ``supersampling`` in each pixel."""
        s = supersampling
        v, u = np.mgrid[: self.height * s, : self.width * s].astype(np.float64)
        u, v = (u + 0.5) / s - self.width / 2, (v + 0.5) / s - self.height / 2
        return np.stack([u / self.focal, v / self.focal, np.ones_like(u)], -1).reshape(-1, 3)


@dataclass
class Hits:
    """Where a bundle of rays meets the room, row by row: depth float32 [N] (metres along the
    optical axis, inf where there is nothing), normals float32 [N,3] (optical frame, facing the
    camera), labels uint8 [N] (255: nothing)."""

    depth: np.ndarray
    normals: np.ndarray
    labels: np.ndarray


def pinhole(rng: Rng, width: int, height: int) -> Pinhole:
    """A camera of 45 to 100 degrees across, mostly those of depth cameras and phones."""
    degrees = rng.normal(63, 8) if rng.random() < 0.7 else rng.uniform(45, 100)
    return Pinhole(width, height, width / 2 / np.tan(np.radians(np.clip(degrees, 45, 100) / 2)))


def pose(rng: Rng, plan: Plan) -> Pose | None:
    """A pose in free space, which looks at something; None where the draw was inside a thing."""
    kinds = ((0.08, 0.3, 4.0), (0.3, 1.0, -2.0), (1.0, 1.8, -11.0), (1.8, 2.3, -25.0))
    low, high, usual = kinds[rng.choice(4, p=(0.1, 0.18, 0.67, 0.05))]
    z = min(rng.uniform(low, high), plan.height - 0.1)
    margin = 0.12
    x, y = rng.uniform(margin, plan.width - margin), rng.uniform(margin, plan.length - margin)
    # People with a camera stand at the edge of a room more often than in its middle.
    if rng.random() < 0.65:
        side = int(rng.integers(4))
        along = rng.uniform(margin, plan.wall_length(side) - margin)
        x, y = plan.from_wall(side, along, rng.uniform(margin, 0.6))
    here = np.array([x, y, z])
    if any(touch(item.box, (x, y, z - 0.1, x, y, z + 0.1), 0.1) for item in plan.items):
        return None
    things = [i for i in plan.items if i.parent is None and i.role not in ("switch", "ceilinglamp")]
    if things and rng.random() < 0.75:
        # Large things across the room are what pictures are taken of.
        away = np.array([np.hypot(i.at[0] - x, i.at[1] - y) for i in things])
        sides = np.array([np.hypot(*i.size[:2]) * (0.3 + i.size[2]) for i in things])
        weights = np.clip(sides, 0.05, 2.0) * np.clip(away / 2, 0.1, 1.0)
        item = things[rng.choice(len(things), p=weights / weights.sum())]
        target = np.array(item.at) + (0, 0, item.size[2] / 2)
    else:
        target = rng.uniform((0, 0, 0), (plan.width, plan.length, plan.height))
    ahead = target - here
    flat = np.hypot(*ahead[:2])
    if flat < 0.4:
        return None
    aim = np.degrees(np.arctan2(ahead[2], flat))
    pitch = np.radians(np.clip(0.5 * aim + 0.5 * usual + rng.normal(0, 9), -75, 55))
    heading = np.arctan2(ahead[1], ahead[0]) + np.radians(rng.normal(0, 8))
    roll = np.radians(rng.normal(0, rng.choice((1.0, 4.0, 12.0), p=(0.65, 0.3, 0.05))))
    return look(here + np.array([*plan.origin, 0.0]), heading, pitch, roll)


def worth(hits: Hits, rng: Rng) -> bool:
    """Whether a view shows enough: things at a distance, several classes; a few dull ones pass."""
    nothing = (hits.labels == 255).mean()
    near, middle = np.percentile(hits.depth, (2, 50))
    if nothing > 0.01 or near < 0.15 or middle < 0.55 or (middle < 1.2 and rng.random() < 0.8):
        return False
    if nothing:
        return False
    counts = np.bincount(hits.labels, minlength=256)[: len(CLASSES)] / len(hits.labels)
    if counts[CLASSES.index("wall")] > 0.48 and rng.random() < 0.7:
        return False
    if rng.random() < 0.04:
        return True
    return bool(counts @ WORTH > rng.uniform(0.8, 1.2) and (counts > 0.01).sum() >= 4)


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


def lens(color: np.ndarray, rng: Rng) -> Lens:
    """A random way to take a picture of linear ``color`` [H,W,3]: automatic exposure, mostly."""
    grey = np.sort((color[::4, ::4] @ np.array([0.2126, 0.7152, 0.0722], np.float32)).reshape(-1))
    grey = grey[: int(len(grey) * rng.uniform(0.75, 1.0))]  # windows may be white
    target, low, high = np.clip(rng.normal(0.43, 0.08), 0.2, 0.6), -12.0, 12.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if film(grey * 2**middle).mean() > target else (middle, high)
    # Automatic white balance takes a part of the light's tint away.
    mean = color.mean((0, 1)) + 1e-3
    balance = (mean.mean() / mean) ** rng.uniform(0.1, 0.7) * (1 + rng.normal(0, 0.04, 3))
    balance *= np.array([1.13, 1.0, 1.05]) ** rng.uniform(-0.5, 2.0)
    motion = rng.normal(0, 1.2, 2) if rng.random() < 0.12 else np.zeros(2)
    blur = rng.uniform(0.25, 0.5 if rng.random() < 0.85 else 1.2)
    noise, vignette = rng.choice((0.15, 0.3, 0.6, 1.5)), rng.uniform(0, 0.3)
    contrast, saturation, sharpening = rng.uniform((1.15, 0.8, 0.0), (1.7, 1.4, 1.0))
    gain = 2**low * balance
    return Lens(gain, blur, tuple(motion), noise, vignette, contrast, saturation, sharpening)


def develop(color: np.ndarray, lens: Lens, rng: Rng) -> np.ndarray:
    """Linear colour to an 8-bit sRGB photograph: vignette, sensor noise, soft highlights."""
    height, width = color.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width / 2) ** 2
    exposed = color.astype(np.float32) * lens.gain * (1 - lens.vignette * radius[..., None])
    exposed = cv2.GaussianBlur(exposed.astype(np.float32), (0, 0), lens.blur)
    if any(lens.motion):
        kernel = np.zeros((13, 13), np.float32)
        ends = (tuple(round((6 + s * x) * 16) for x in lens.motion) for s in (-1, 1))
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
