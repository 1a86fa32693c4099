# SPDX-License-Identifier: Apache-2.0
"""Error of predicted depth against the depth that a sensor measured beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proto_mtl_ros.geometry import resize
from proto_mtl_ros.geometry.depth_cleaning import SHIFT, VARIATION, smooth_surroundings
from proto_mtl_ros.tasks import DEPTH
from proto_mtl_ros.tasks.depth import DepthMetric

ENOUGH_PIXELS = 20_000
"""Of larger images a regular grid of about so many pixels is compared: neighbours say the same."""

BANDS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Where bands of measured depth begin, in metres; the last one has no end."""

MASKS = ("all", "tolerant")
ALIGNMENTS = ("", "_aligned", "_affine")


@dataclass(frozen=True)
class DepthFrameError:
    """How far one predicted depth image is from the measured one; None where nothing was valid.

    ``scale`` is measured over predicted median, ``affine`` (a, b) of the best a * predicted + b in
    least squares, ``abs_err`` the mean in metres. ``sums``: name -> [bands, 7], the sums of
    ``DepthMetric`` by band of measured depth, of "all" pixels and "tolerant" ones, each as it is,
    "_aligned" by the scale, and "_affine".
    """

    measured_pixels: int
    scale: float | None = None
    affine: tuple[float, float] | None = None
    abs_err: float | None = None
    sums: dict[str, list[list[float]]] = field(default_factory=dict)


def fair_mask(registered: bool) -> str:
    """Return which of ``MASKS`` to judge by: beside edges, depth of another camera is wrong."""
    return "all" if registered else "tolerant"


def depth_error(predicted: np.ndarray, measured: np.ndarray) -> DepthFrameError:
    """Compare float32 [H, W] and [h, w] in metres at the size of ``predicted``.

    Depth is invalid where not finite or not positive. "tolerant" pixels are those with smooth
    surroundings (``geometry.depth_cleaning``), so that a depth image that is not registered to the
    colour image can be compared as well.
    """
    height, width = predicted.shape
    measured = resize(measured, width, height, "nearest")
    step = max(1, round(np.sqrt(predicted.size / ENOUGH_PIXELS)))
    if step % 2 == 0:  # what is two pixels wide is still seen beside a smooth surface
        smooth = smooth_surroundings(measured[::2, ::2])[:: step // 2, :: step // 2]
    else:
        smooth = smooth_surroundings(measured)[::step, ::step]
    predicted, measured = predicted[::step, ::step], measured[::step, ::step]
    known = DEPTH.valid(measured)
    valid = known & DEPTH.valid(predicted)
    count = int(known.sum())
    if not valid.any():
        return DepthFrameError(count)
    label, guess = measured[valid], predicted[valid]
    scale = float(np.median(label) / np.median(guess))
    slope, offset = _affine(guess, label, scale)
    band, tolerant = np.digitize(label, BANDS) - 1, smooth[valid]
    sums = {}
    aligned = (guess, guess * scale, guess * slope + offset)
    for name, own in zip(ALIGNMENTS, aligned, strict=True):
        terms = DepthMetric.terms(own, label)
        sums[f"all{name}"] = _by_band(terms, band)
        sums[f"tolerant{name}"] = _by_band(terms[:, tolerant], band[tolerant])
    total = np.sum(sums["all"], axis=0)
    return DepthFrameError(count, scale, (slope, offset), float(total[0] / total[-1]), sums)


def _by_band(terms: np.ndarray, band: np.ndarray) -> list[list[float]]:
    """Return the sums [bands, 7] of the terms [7, N] of ``DepthMetric`` by band of the label."""
    return np.stack([np.bincount(band, term, len(BANDS)) for term in terms], axis=1).tolist()


def _affine(predicted: np.ndarray, measured: np.ndarray, scale: float) -> tuple[float, float]:
    """Return a, b of the least squares a * predicted + b; the scale alone where a turns over."""
    p, m = predicted.astype(np.float64), measured.astype(np.float64)
    spread = p.var()
    slope = float(((p - p.mean()) * (m - m.mean())).mean() / spread) if spread > 1e-9 else 0.0
    if slope <= 0:
        return scale, 0.0
    return slope, float(m.mean() - slope * p.mean())


class DepthComparison:
    """Adds up the errors of frames; see ``depth_error``."""

    def __init__(self) -> None:
        self.frames = 0
        self.scales: list[float] = []
        self._measured_pixels = 0
        self._sums = {m + a: np.zeros((len(BANDS), 7)) for m in MASKS for a in ALIGNMENTS}
        self._by_stamp: list[tuple[int, float]] = []

    def add(self, stamp: int, error: DepthFrameError) -> None:
        """Add a frame; ``stamp``, in nanoseconds, is for the error over time."""
        self.frames += 1
        self._measured_pixels += error.measured_pixels
        if error.scale is None or error.abs_err is None:
            return
        self.scales.append(error.scale)
        self._by_stamp.append((stamp, error.abs_err))
        for name, sums in error.sums.items():
            self._sums[name] += np.array(sums)

    def figures(self) -> dict[str, Any]:
        """Return the figures of all frames, ready for JSON."""
        return {
            "frames": self.frames,
            "measured_pixels": self._measured_pixels,
            "compared_pixels": {name: int(self._sums[name][:, -1].sum()) for name in MASKS},
            "tolerant_shift": SHIFT,
            "tolerant_variation": VARIATION,
            "median_scale": float(np.median(self.scales)) if self.scales else None,
            **{name: _computed(sums.sum(0)) for name, sums in self._sums.items()},
            "bands": [
                {
                    "from_m": start,
                    "to_m": end,
                    "pixels": int(self._sums["all"][number, -1]),
                    **{name: _computed(self._sums[name][number]) for name in self._sums},
                }
                for number, (start, end) in enumerate(zip(BANDS, (*BANDS[1:], None), strict=True))
            ],
            "abs_err_m_by_stamp": [list(item) for item in self._by_stamp],
        }


def _computed(sums: np.ndarray) -> dict[str, float | None]:
    """Return the figures of ``DepthMetric`` from its sums; None where nothing was compared."""
    metric = DepthMetric(DEPTH)
    metric.sums = sums
    return {name: v if np.isfinite(v) else None for name, v in metric.compute().items()}
