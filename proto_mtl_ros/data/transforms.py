# SPDX-License-Identifier: Apache-2.0
"""Augmentation of samples: the camera follows every geometric step.

Randomness comes from a generator that the caller derives from (seed, epoch, frame), so a resumed
training sees exactly the frames that an uninterrupted one would have seen.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..geometry import resize
from .sample import Sample


def resized(sample: Sample, width: int, height: int) -> Sample:
    """Return the sample at another size of the same aspect ratio; labels by nearest pixel."""
    return Sample(
        sample.frame_id,
        resize(sample.rgb, width, height, "linear"),
        sample.camera.resized(width, height),
        {k: resize(v, width, height, "nearest") for k, v in sample.labels.items()},
    )


def cropped(sample: Sample, x: int, y: int, width: int, height: int) -> Sample:
    """Return the window of ``width`` x ``height`` pixels whose upper left corner is (x, y)."""
    window = (slice(y, y + height), slice(x, x + width))
    return Sample(
        sample.frame_id,
        sample.rgb[window],
        sample.camera.cropped(x, y, width, height),
        {k: v[window] for k, v in sample.labels.items()},
    )


def flipped(sample: Sample) -> Sample:
    """Return the mirror image; the x component of normals changes its sign."""
    labels = {k: v[:, ::-1] for k, v in sample.labels.items()}
    if "normals" in labels:
        labels["normals"] = labels["normals"] * np.array([-1, 1, 1], np.float32)
    return Sample(sample.frame_id, sample.rgb[:, ::-1], sample.camera.flipped(), labels)


def random_scale_crop(
    sample: Sample,
    rng: np.random.Generator,
    width: int,
    height: int,
    smallest: float,
) -> Sample:
    """Crop a window of the output's aspect ratio and resize it to ``width`` x ``height``.

    The window's width is between ``smallest`` and 1 times the largest that fits.
    """
    src_h, src_w = sample.rgb.shape[:2]
    fit = min(src_w / width, src_h / height)
    scale = fit * rng.uniform(smallest, 1.0)
    w, h = min(round(width * scale), src_w), min(round(height * scale), src_h)
    x, y = int(rng.integers(src_w - w + 1)), int(rng.integers(src_h - h + 1))
    return resized(cropped(sample, x, y, w, h), width, height)


def jitter_colour(rgb: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return uint8 [H, W, 3] with random brightness, contrast, saturation, white balance, gamma,
    and now and then the blur and noise of a moving robot's camera.
    """
    image: np.ndarray = rgb.astype(np.float32)
    gain = rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength)
    balance = rng.uniform(1 - 0.15 * strength, 1 + 0.15 * strength, 3).astype(np.float32)
    image *= gain * balance
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    contrast = rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength)
    saturation = rng.uniform(1 - 0.7 * strength, 1 + 0.5 * strength)
    image = grey[..., None] + saturation * (image - grey[..., None])
    image = image * contrast + (1 - contrast) * float(grey.mean())
    if rng.random() < 0.2 * strength:
        size = int(rng.integers(3, 8))
        kernel = np.zeros((size, size), np.float32)
        angle = rng.uniform(0, np.pi)
        centre = (size - 1) / 2
        offset = np.array([np.cos(angle), np.sin(angle)]) * centre
        start, end = np.round(centre - offset).astype(int), np.round(centre + offset).astype(int)
        cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.3 * strength:
        image += rng.normal(0, rng.uniform(1, 10), image.shape).astype(np.float32)
    image = np.clip(image, 0, 255) * np.float32(1 / 255)
    gamma = float(rng.uniform(1 - 0.3 * strength, 1 + 0.4 * strength))
    return (cv2.pow(image, gamma) * 255 + 0.5).astype(np.uint8)


def augment(
    sample: Sample,
    rng: np.random.Generator,
    width: int,
    height: int,
    smallest: float = 0.5,
    colour: float = 1.0,
) -> Sample:
    """Random scale and crop, mirror, colour; the training transform."""
    sample = random_scale_crop(sample, rng, width, height, smallest)
    if rng.random() < 0.5:
        sample = flipped(sample)
    rgb = jitter_colour(np.ascontiguousarray(sample.rgb), rng, colour)
    return Sample(sample.frame_id, rgb, sample.camera, sample.labels)
