# SPDX-License-Identifier: Apache-2.0
"""Error of predicted depth against the depth that a sensor measured beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from proto_mtl_ros.geometry import resize
from proto_mtl_ros.geometry.depth_cleaning import smooth_surroundings
from proto_mtl_ros.tasks import DEPTH
from proto_mtl_ros.tasks.depth import DepthMetric

ENOUGH_PIXELS = 20_000
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


@dataclass(frozen=True)
class DepthFrameError:
    """How far one predicted depth image is from the measured one.

    Attributes:
        measured_pixels: that were compared or could have been.
        scale: measured over predicted median; NaN where nothing was valid.
        affine: (a, b) of the best a * predicted + b in least squares; NaN likewise.
        abs_err: metres, the mean over all valid pixels; NaN likewise.
        sums: name -> float64 [bands, 7], the sums of ``DepthMetric`` by band of measured depth.
            Names: "all" pixels and "tolerant" ones, each as it is, "_aligned" by the scale, and
            "_affine".
    """

    measured_pixels: int
    scale: float
    affine: tuple[float, float]
    abs_err: float
    sums: dict[str, np.ndarray]

    def record(self) -> dict[str, Any]:
        """Return it ready for JSON, which has no NaN: None in its place."""
        valid = bool(np.isfinite(self.scale))
        return {
            "measured_pixels": self.measured_pixels,
            "scale": self.scale if valid else None,
            "affine": list(self.affine) if valid else None,
            "abs_err": self.abs_err if valid else None,
            "sums": {name: sums.tolist() for name, sums in self.sums.items()},
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> DepthFrameError:
        """Return what was written by ``record``."""
        scale = np.nan if record["scale"] is None else record["scale"]
        slope, offset = record["affine"] or (np.nan, np.nan)
        error = np.nan if record["abs_err"] is None else record["abs_err"]
        sums = {name: np.array(values) for name, values in record["sums"].items()}
        return cls(record["measured_pixels"], scale, (slope, offset), error, sums)


BANDS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Where bands of measured depth begin, in metres; the last one has no end."""

MASKS = ("all", "tolerant")
ALIGNMENTS = ("", "_aligned", "_affine")


def fair_mask(registered: bool) -> str:
    """Return which of ``MASKS`` to judge by: beside edges, depth of another camera is wrong."""
    return "all" if registered else "tolerant"


def _no_sums() -> dict[str, np.ndarray]:
    """Return the sums of no pixels, see ``DepthFrameError.sums``."""
    return {
        f"{mask}{alignment}": np.zeros((len(BANDS), 7))
        for mask in MASKS
        for alignment in ALIGNMENTS
    }


def depth_error(predicted: np.ndarray, measured: np.ndarray) -> DepthFrameError:
    """Compare a frame.

    "tolerant" pixels are those with smooth surroundings (``geometry.depth_cleaning``), so that a
    depth image that is not registered to the colour image can be compared as well.

    Args:
        predicted: float32[H, W] metres, invalid where not finite or not positive.
        measured: float32[h, w] metres, likewise; compared at the size of ``predicted``.
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
        return DepthFrameError(count, np.nan, (np.nan, np.nan), np.nan, _no_sums())
    scale = float(np.median(measured[valid]) / np.median(predicted[valid]))
    slope, offset = _affine(predicted[valid], measured[valid], scale)
    label, guess = measured[valid], predicted[valid]
    band, tolerant = np.digitize(label, BANDS) - 1, smooth[valid]
    sums = {}
    for name, aligned in (
        ("", guess),
        ("_aligned", guess * scale),
        ("_affine", guess * slope + offset),
    ):
        terms = DepthMetric.terms(aligned, label)
        sums[f"all{name}"] = _by_band(terms, band)
        sums[f"tolerant{name}"] = _by_band(terms[:, tolerant], band[tolerant])
    total = sums["all"].sum(0)
    return DepthFrameError(count, scale, (slope, offset), float(total[0] / total[-1]), sums)


def _by_band(terms: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Return the sums of ``DepthMetric`` by band of the label, float64 [bands, 7].

    Args:
        terms: of ``DepthMetric``, float64 [7, N].
        band: of each of the N pixels.
    """
    return np.stack([np.bincount(band, term, len(BANDS)) for term in terms], axis=1)


def _affine(predicted: np.ndarray, measured: np.ndarray, scale: float) -> tuple[float, float]:
    """Return a, b of the least squares a * predicted + b; the scale alone where a turns over."""
    p, m = predicted.astype(np.float64), measured.astype(np.float64)
    spread = p.var()
    slope = float(((p - p.mean()) * (m - m.mean())).mean() / spread) if spread > 1e-9 else 0.0
    if slope <= 0:
        return scale, 0.0
    return slope, float(m.mean() - slope * p.mean())


@dataclass
class DepthComparison:
    """Compares frames one by one and keeps the sums; see ``depth_error``."""

    frames: int = 0
    measured_pixels: int = 0
    sums: dict[str, np.ndarray] = field(default_factory=_no_sums)
    scales: list[float] = field(default_factory=list)
    per_frame: list[tuple[int, float]] = field(default_factory=list)

    def add(self, stamp: int, predicted: np.ndarray, measured: np.ndarray) -> None:
        """Add a frame; ``stamp``, in nanoseconds, is for the course over time."""
        self.add_error(stamp, depth_error(predicted, measured))

    def add_error(self, stamp: int, error: DepthFrameError) -> None:
        """Add a frame that was compared before."""
        self.frames += 1
        self.measured_pixels += error.measured_pixels
        if np.isnan(error.scale):
            return
        self.scales.append(error.scale)
        self.per_frame.append((stamp, error.abs_err))
        for name, sums in error.sums.items():
            self.sums[name] = self.sums[name] + sums

    def figures(self) -> dict[str, object]:
        """Return the figures of all frames, ready for JSON."""
        return {
            "frames": self.frames,
            "measured_pixels": self.measured_pixels,
            "compared_pixels": {name: int(self.sums[name][:, -1].sum()) for name in MASKS},
            "median_scale": float(np.median(self.scales)) if self.scales else None,
            **{name: _computed(sums.sum(0)) for name, sums in self.sums.items()},
            "bands": [
                {
                    "from_m": start,
                    "to_m": end,
                    "pixels": int(self.sums["all"][number, -1]),
                    **{name: _computed(self.sums[name][number]) for name in self.sums},
                }
                for number, (start, end) in enumerate(zip(BANDS, (*BANDS[1:], None), strict=True))
            ],
            "abs_err_m_by_stamp": [list(item) for item in self.per_frame],
        }


def _computed(sums: np.ndarray) -> dict[str, float | None]:
    """Return the figures of ``DepthMetric`` from its sums; None where nothing was compared."""
    metric = DepthMetric(DEPTH)
    metric.sums = sums
    return {name: v if np.isfinite(v) else None for name, v in metric.compute().items()}
