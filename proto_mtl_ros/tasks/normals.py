# SPDX-License-Identifier: Apache-2.0
"""Surface normals: unit vectors in the optical frame (x right, y down, z forward)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros import drawing
from proto_mtl_ros.tasks.task import ResultTopic, Task, View, image_topic

_LEAST_FACING = 0.01
_SHORTEST = 1e-3
_SUM = np.ones((1, 3), np.float32)


class NormalsMetric:
    """Angle between directions [H, W, 3] in degrees; the median from bins of 0.1 degrees."""

    _BINS = 1800

    def __init__(self, task: UnitVector) -> None:
        self.task = task
        self.total, self.count = 0.0, 0
        self.histogram = np.zeros(self._BINS, np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add float32 [H, W, 3] against float32 [H, W, 3]."""
        valid = self.task.valid(label) & self.task.valid(prediction)
        p, t = prediction[valid].astype(np.float64), label[valid].astype(np.float64)
        along, own, other = (np.einsum("nc,nc->n", a, b) for a, b in ((p, t), (p, p), (t, t)))
        cosine = along / np.sqrt(own * other)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        self.total += float(angle.sum())
        self.count += len(angle)
        index = np.minimum((angle * self._BINS / 180).astype(np.int64), self._BINS - 1)
        self.histogram += np.bincount(index, minlength=self._BINS)

    def compute(self) -> dict[str, float]:
        if not self.count:
            return dict.fromkeys(self.task.metrics, float("nan"))
        cumulative = np.cumsum(self.histogram) / self.count
        upper = (np.arange(self._BINS) + 1) * 180 / self._BINS

        def within(degrees: float) -> float:
            return float(np.interp(degrees, np.r_[0, upper], np.r_[0, cumulative]))

        return {
            "mean_deg": self.total / self.count,
            "median_deg": float(upper[int(np.searchsorted(cumulative, 0.5))] - 90 / self._BINS),
            "within_11": within(11.25),
            "within_22": within(22.5),
            "within_30": within(30.0),
        }


@dataclass(frozen=True)
class UnitVector(Task):
    """One direction per pixel; float32 [H, W, 3] labels; the zero vector is invalid.

    Validity is judged by the norm: a test of the component sum would drop true directions.
    """

    @property
    def topics(self) -> tuple[ResultTopic, ...]:
        name = self.name
        return (
            image_topic(
                f"{name}/image",
                "32FC3",
                "unit vectors in the optical frame (x right, y down, z forward) that face the "
                "camera; (0,0,0) invalid",
                name,
            ),
            image_topic(
                f"{name}/color",
                "rgb8",
                "the normals, for people",
                name,
                lambda maps, rgb, s: drawing.draw_normals(maps[name]),
            ),
            image_topic(
                f"{name}/confidence",
                "mono8",
                "255 x the probability that it is right within 22.5 degrees; of models that say so",
                self.confidence,
            ),
        )

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.linalg.norm(label, axis=-1) > 0.5

    def metric(self) -> NormalsMetric:
        return NormalsMetric(self)

    def mirrored(self, label: np.ndarray) -> np.ndarray:
        return super().mirrored(label) * np.array([-1, 1, 1], np.float32)

    def fit_map(self, values: np.ndarray, view: View) -> np.ndarray:
        """See ``Task``; every normal faces the camera where the camera is known."""
        fitted, rays = unit(view.fit(values, "linear")), view.rays
        return fitted if rays is None else face_camera(fitted, rays)

    def draw(self, values: np.ndarray) -> np.ndarray:
        return drawing.draw_normals(values)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return a new float32 [H, W, 3] of unit length; (0, 0, 0) where there is no direction."""
    squared = _dot(vectors, vectors)
    usable = (squared > _SHORTEST**2) & (squared < np.inf)
    scale = cv2.pow(squared, -0.5)
    result = cv2.multiply(vectors, cv2.merge([scale, scale, scale]))
    if not usable.all():
        result[~usable] = 0.0
    return result


def face_camera(normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Turn, in place, those unit normals that point away from the camera, and return all.

    A visible surface has n . p < 0 for its viewing ray p. A predicted normal that breaks this is
    one of a surface seen almost edge-on, so the closest direction that keeps it is taken: what
    points along the ray is removed. Flipping it would be wrong by up to 180 degrees. Only one that
    points straight away, for which there is no closest direction, turns round.
    """
    flat = normals.reshape(-1, 3)
    away = np.flatnonzero(_dot(normals, rays) > -_LEAST_FACING / 2)
    if away.size:
        wrong, ray = flat[away], rays.reshape(-1, 3)[away]
        ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
        along = np.einsum("nc,nc->n", wrong, ray)
        turned = wrong - (along + _LEAST_FACING)[:, None] * ray
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        is_normal = wrong.any(axis=1)
        flat[away[is_normal]] = turned[is_normal]
    return normals


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # OpenCV, as numpy takes three to six times as long over rows of three numbers
    return cv2.transform(cv2.multiply(a, b), _SUM)


NORMALS = UnitVector(
    name="normals",
    channels=3,
    metrics=("mean_deg", "median_deg", "within_11", "within_22", "within_30"),
)
