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
        comparison.add(stamp, predicted, measured)
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


def test_scale_and_shift_are_taken_out_apart() -> None:
    _, measured = scene()
    scaled = depth_error(measured / 1.5, measured)
    assert scaled.scale == pytest.approx(1.5, rel=1e-5)
    assert scaled.affine == pytest.approx((1.5, 0.0), abs=1e-4)
    assert scaled.sums["all_aligned"][:, 0].sum() == pytest.approx(0, abs=0.01)
    shifted = depth_error((measured - 0.2) / 2, measured)
    slope, offset = shifted.affine
    assert (slope, offset) == (pytest.approx(2, rel=1e-4), pytest.approx(0.2, abs=1e-3))
    assert shifted.sums["all_affine"][:, 0].sum() < 0.01
    assert shifted.sums["all_aligned"][:, 0].sum() > 10 * shifted.sums["all_affine"][:, 0].sum()


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


@pytest.mark.parametrize("holes_only", [False, True])
def test_a_frames_error_comes_back_from_json(holes_only: bool) -> None:
    predicted, measured = scene()
    error = depth_error(np.zeros_like(predicted) if holes_only else predicted, measured)
    back = DepthFrameError.of_record(json.loads(json.dumps(error.record(), allow_nan=False)))
    assert back.measured_pixels == error.measured_pixels
    np.testing.assert_equal(
        (back.scale, back.affine, back.abs_err), (error.scale, error.affine, error.abs_err)
    )
    np.testing.assert_equal(back.sums, error.sums)
