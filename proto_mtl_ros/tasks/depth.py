# SPDX-License-Identifier: Apache-2.0
"""Depth: metres along the optical axis (REP-118)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros import drawing
from proto_mtl_ros.geometry import resize
from proto_mtl_ros.tasks.task import ResultTopic, Task, View, image_topic

DEPTH_STEP = 0.1
"""Relative difference above which two depths close to each other belong to two surfaces."""

_AROUND = np.ones((3, 3), np.uint8)


class DepthMetric:
    """Absolute and relative error, RMSE, delta thresholds, over all valid pixels of all frames."""

    def __init__(self, task: Scalar) -> None:
        self.task = task
        self.sums = np.zeros(7, np.float64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add float32 [H, W] against float32 [H, W], both in metres."""
        valid = self.task.valid(label) & self.task.valid(prediction)
        self.sums += self.terms(prediction[valid], label[valid]).sum(1)

    @staticmethod
    def terms(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return what each of N valid pixels adds to ``sums``, float64 [7, N]."""
        p, t = prediction.astype(np.float64), label.astype(np.float64)
        error = np.abs(p - t)
        ratio = np.maximum(p / t, t / p)
        within = [ratio < limit for limit in (1.25, 1.25**2, 1.25**3)]
        return np.stack([error, error / t, error * error, *within, np.ones_like(t)])

    def compute(self) -> dict[str, float]:
        count = self.sums[-1]
        mean = self.sums[:-1] / count if count else np.full(6, np.nan)
        mean[2] = np.sqrt(mean[2])
        return dict(zip(self.task.metrics, mean.tolist(), strict=True))


@dataclass(frozen=True)
class Scalar(Task):
    """One positive number per pixel; float32 labels; NaN, inf and values <= 0 are invalid."""

    unit: str = ""

    @property
    def topics(self) -> tuple[ResultTopic, ...]:
        name = self.name
        return (
            image_topic(
                f"{name}/image",
                "32FC1",
                "metres along the optical axis (REP-118); -inf too close, +inf out of range, "
                "NaN invalid (REP-117)",
                name,
                lambda maps, rgb, s: out_of_range(maps[name], s.min_depth, s.max_depth),
            ),
            image_topic(
                f"{name}/confidence",
                "mono8",
                "255 x the probability that it is right within 25 %; of models that say so",
                self.confidence,
            ),
        )

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.isfinite(label) & (np.asarray(label) > 0)

    def metric(self) -> DepthMetric:
        return DepthMetric(self)

    def fit_map(self, values: np.ndarray, view: View) -> np.ndarray:
        """See ``Task``; NaN where the network gives no depth.

        Interpolated linearly, as surfaces are smooth, except next to steps: there the interpolated
        value lies in the air between two surfaces, and such flying pixels become obstacles in a
        robot's map. Where the network's pixels around differ by more than ``DEPTH_STEP``, the
        nearest one's value is taken, as it is everywhere when the map becomes smaller. The price
        is a staircase of one network pixel along edges, and on a floor close to the horizon.
        """
        depth = self.from_canonical(values, view.factor)
        depth = np.where((depth > 0) & (depth < np.inf), depth, np.float32(0.0))
        fitted = view.fit(depth, "nearest")
        box = view.letterbox
        if view.full_size and box.scale < 1:
            # the four pixels that are interpolated are among the nearest one and those around it
            inside = np.ascontiguousarray(depth[box.window])
            farthest, closest = cv2.dilate(inside, _AROUND), cv2.erode(inside, _AROUND)
            smooth = (farthest <= (1 + DEPTH_STEP) * closest).view(np.uint8)
            size = (box.src_width, box.src_height)
            linear = resize(inside, *size, "linear")
            cv2.copyTo(linear, resize(smooth, *size, "nearest"), fitted)
        fitted[fitted <= 0] = np.nan
        return fitted

    def draw(self, values: np.ndarray) -> np.ndarray:
        return drawing.draw_depth(values)


def out_of_range(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Return depth with -inf below ``near`` and +inf beyond ``far`` (REP-117); 0 is no limit."""
    if near > 0.0:
        depth = np.where(depth < near, np.float32(-np.inf), depth)
    if far > 0.0:
        depth = np.where(depth > far, np.float32(np.inf), depth)
    return depth


DEPTH = Scalar(
    name="depth",
    channels=1,
    metrics=("abs_err", "rel_err", "rmse", "delta1", "delta2", "delta3"),
    canonical=True,
    unit="m",
)
