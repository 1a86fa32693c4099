# SPDX-License-Identifier: Apache-2.0
"""Depth error by band and by alignment, against numpy written down once more."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proto_mtl_ros.evaluation.depth_error import (
    BANDS,
    DepthComparison,
    DepthFrameError,
    depth_error,
)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured depth of 40x60 pixels over all bands, with holes in both."""
    rng = np.random.default_rng(seed)
    measured = rng.uniform(0.3, 14, (40, 60)).astype(np.float32)
    predicted = (measured * rng.uniform(0.7, 1.4, measured.shape)).astype(np.float32)
    measured[rng.random(measured.shape) < 0.1] = np.nan
    predicted[rng.random(measured.shape) < 0.1] = 0
    return predicted, measured


def test_bands_are_those_of_measured_depth() -> None:
    comparison = DepthComparison()
    frames = [scene(seed) for seed in range(3)]
    for stamp, (predicted, measured) in enumerate(frames):
        comparison.add(stamp, depth_error(predicted, measured))
    figures = comparison.figures()
    p = np.concatenate([p.ravel() for p, _ in frames]).astype(np.float64)
    m = np.concatenate([m.ravel() for _, m in frames]).astype(np.float64)
    valid = (p > 0) & (m > 0)
    bands = figures["bands"]
    assert [band["from_m"] for band in bands] == list(BANDS)
    for band in bands:
        inside = valid & (m >= band["from_m"]) & (m < (band["to_m"] or np.inf))
        assert band["pixels"] == inside.sum() > 0
        error = np.abs(p - m)[inside]
        assert band["all"]["abs_err"] == pytest.approx(error.mean())
        assert band["all"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert figures["compared_pixels"]["all"] == valid.sum() == sum(b["pixels"] for b in bands)
    assert figures["all"]["rel_err"] == pytest.approx((np.abs(p - m) / m)[valid].mean())


def total_error(error: DepthFrameError, name: str) -> float:
    return float(np.array(error.sums[name])[:, 0].sum())


def test_scale_and_shift_are_taken_out_apart() -> None:
    _, measured = scene()
    scaled = depth_error(measured / 1.5, measured)
    assert scaled.scale == pytest.approx(1.5, rel=1e-5)
    assert scaled.affine == pytest.approx((1.5, 0.0), abs=1e-4)
    assert total_error(scaled, "all_aligned") == pytest.approx(0, abs=0.01)
    shifted = depth_error((measured - 0.2) / 2, measured)
    slope, offset = shifted.affine
    assert (slope, offset) == (pytest.approx(2, rel=1e-4), pytest.approx(0.2, abs=1e-3))
    assert total_error(shifted, "all_affine") < 0.01
    assert total_error(shifted, "all_aligned") > 10 * total_error(shifted, "all_affine")


def test_depth_that_runs_backwards_is_scaled_alone() -> None:
    measured = np.tile(np.linspace(1, 5, 60, dtype=np.float32), (40, 1))
    error = depth_error(measured[:, ::-1].copy(), measured)
    assert error.affine == (error.scale, 0.0)
    constant = depth_error(np.full_like(measured, 2.0), measured)
    assert constant.affine == (constant.scale, 0.0)


def test_the_affine_fit_is_numpy_s() -> None:
    predicted, measured = scene(5)
    valid = (predicted > 0) & (measured > 0)
    slope, offset = np.polyfit(predicted[valid].astype(float), measured[valid].astype(float), 1)
    assert depth_error(predicted, measured).affine == pytest.approx((slope, offset), rel=1e-6)


def compared(predicted: np.ndarray, measured: np.ndarray) -> dict:
    comparison = DepthComparison()
    comparison.add(0, depth_error(predicted, measured))
    return comparison.figures()


def test_a_shift_between_the_cameras_hardly_touches_the_tolerant_comparison() -> None:
    scene = np.full((240, 320), 4.0, np.float32)
    scene[:, 100:180] = 1.5  # a near object with two edges
    figures = compared(np.roll(scene, 10, axis=1), scene)
    assert figures["all"]["abs_err"] > 0.1
    assert figures["tolerant"]["abs_err"] == 0
    assert 0.5 < figures["compared_pixels"]["tolerant"] / figures["compared_pixels"]["all"] < 1


def test_depth_of_another_size_is_not_shifted() -> None:
    measured = np.tile(np.arange(1, 7, dtype=np.float32), (3, 1))
    # The pixels whose centres are nearest: as far from the left border as from the right.
    predicted = np.tile(np.array([1, 3, 4, 6], np.float32), (2, 1))
    assert compared(predicted, measured)["all"]["abs_err"] == 0


def test_a_frame_without_measured_depth_changes_nothing() -> None:
    figures = compared(np.ones((4, 4), np.float32), np.full((4, 4), np.nan, np.float32))
    assert figures["all"]["abs_err"] is None
    json.dumps(figures, allow_nan=False)
