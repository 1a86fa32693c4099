# SPDX-License-Identifier: Apache-2.0
"""Error of predicted depth against the depth that a sensor measured beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import cv2
import numpy as np

from proto_mtl_ros.evaluation.metrics import DepthMetric
from proto_mtl_ros.geometry import resize
from proto_mtl_ros.tasks import DEPTH

SHIFT = 0.04
"""Misregistration, as a part of the image width, that the tolerant comparison allows for."""

VARIATION = 1.15
"""The tolerant comparison leaves out pixels around which measured depth varies by more."""

ENOUGH_PIXELS = 80_000
"""Of larger images a regular grid of about so many pixels is compared: neighbours say the same."""


class Stamped(Protocol):
    """Anything with a stamp in nanoseconds."""

    @property
    def stamp(self) -> int:
        """Nanoseconds."""


A = TypeVar("A", bound=Stamped)
B = TypeVar("B", bound=Stamped)


def nearest_pairs(first: Iterable[A], second: Iterable[B], tolerance: int) -> Iterator[tuple[A, B]]:
    """Pair each of ``first`` with the nearest of ``second``; both ascend in stamp.

    What has no partner within ``tolerance`` nanoseconds is left out.
    """
    following = iter(second)
    best = next(following, None)
    after = next(following, None)
    for item in first:
        while after is not None and best is not None:
            if abs(after.stamp - item.stamp) > abs(best.stamp - item.stamp):
                break
            best, after = after, next(following, None)
        if best is not None and abs(best.stamp - item.stamp) <= tolerance:
            yield item, best


@dataclass
class DepthComparison:
    """Compares frames one by one and keeps the sums.

    Two masks: all pixels that both have, and "tolerant" ones: around them, within ``SHIFT`` of the
    width, measured depth varies by less than ``VARIATION``, so that a depth image that is not
    registered to the colour image can be compared as well. Each once as it is and once with the
    median of every frame's prediction scaled to the median of its measurement.
    """

    frames: int = 0
    measured_pixels: int = 0
    metrics: dict[str, DepthMetric] = field(
        default_factory=lambda: {
            name: DepthMetric(DEPTH)
            for name in ("all", "all_aligned", "tolerant", "tolerant_aligned")
        }
    )
    pixels: dict[str, int] = field(default_factory=lambda: {"all": 0, "tolerant": 0})
    scales: list[float] = field(default_factory=list)
    per_frame: list[tuple[int, float]] = field(default_factory=list)

    def add(self, stamp: int, predicted: np.ndarray, measured: np.ndarray) -> None:
        """Add a frame.

        Args:
            stamp: nanoseconds, for the course over time.
            predicted: float32[H, W] metres, invalid where not finite or not positive.
            measured: float32[h, w] metres, likewise; compared at the size of ``predicted``.
        """
        height, width = predicted.shape
        measured = resize(measured, width, height, "nearest")
        known = DEPTH.valid(measured)
        smooth = _smooth(measured, known)
        step = max(1, round(np.sqrt(predicted.size / ENOUGH_PIXELS)))
        predicted, measured, known, smooth = (
            map_[::step, ::step] for map_ in (predicted, measured, known, smooth)
        )
        valid = known & DEPTH.valid(predicted)
        self.frames += 1
        self.measured_pixels += int(known.sum())
        if not valid.any():
            return
        scale = float(np.median(measured[valid]) / np.median(predicted[valid]))
        self.scales.append(scale)
        error = np.abs(predicted[valid] - measured[valid])
        self.per_frame.append((stamp, float(error.mean(dtype=np.float64))))
        for name, mask in (("all", valid), ("tolerant", valid & smooth)):
            label = measured[mask]
            self.pixels[name] += label.size
            self.metrics[name].update(predicted[mask], label)
            self.metrics[f"{name}_aligned"].update(predicted[mask] * scale, label)

    def figures(self) -> dict[str, object]:
        """Return the figures of all frames, ready for JSON."""
        computed = {name: metric.compute() for name, metric in self.metrics.items()}
        return {
            "frames": self.frames,
            "measured_pixels": self.measured_pixels,
            "compared_pixels": dict(self.pixels),
            "median_scale": float(np.median(self.scales)) if self.scales else None,
            **{
                name: {k: v if np.isfinite(v) else None for k, v in figures.items()}
                for name, figures in computed.items()
            },
            "abs_err_m_by_stamp": [list(item) for item in self.per_frame],
        }


def _smooth(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return bool[H, W]: pixels around which depth varies little."""
    reach = max(1, round(SHIFT * depth.shape[1]))
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    far = cv2.dilate(np.where(known, depth, 0).astype(np.float32), window)
    near = cv2.erode(np.where(known, depth, np.inf).astype(np.float32), window)
    with np.errstate(invalid="ignore", over="ignore"):
        return far < near * VARIATION
