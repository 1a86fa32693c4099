# SPDX-License-Identifier: Apache-2.0
"""Metrics against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.tasks import DEPTH, NORMALS, SEGMENTATION, binary


def test_miou_equals_torchmetrics():
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(0)
    metric = SEGMENTATION.metric()
    reference = classification.MulticlassJaccardIndex(13, ignore_index=255, average="none")
    for _ in range(3):
        label = rng.integers(0, 13, (40, 50)).astype(np.uint8)
        prediction = np.where(rng.random(label.shape) < 0.5, label, 3).astype(np.uint8)
        label[:5] = 255
        metric.update(prediction, label)
        reference.update(torch.from_numpy(prediction).long(), torch.from_numpy(label).long())
    assert metric.compute()["miou"] == pytest.approx(float(reference.compute().mean()), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 3))
def test_depth_figures_equal_a_plain_loop(seed, frames):
    rng = np.random.default_rng(seed)
    metric = DEPTH.metric()
    errors, relative, inside = [], [], []
    for _ in range(frames):
        label = rng.uniform(0.5, 9, (6, 7)).astype(np.float32)
        prediction = (label * rng.uniform(0.6, 1.6, label.shape)).astype(np.float32)
        label[0], label[1, 0], label[1, 1] = 0, np.nan, np.inf
        metric.update(prediction, label)
        for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
            if math.isfinite(t) and t > 0:
                errors.append(abs(p - t))
                relative.append(abs(p - t) / t)
                inside.append(max(p / t, t / p) < 1.25)
    found = metric.compute()
    assert found["abs_err"] == pytest.approx(sum(errors) / len(errors), rel=1e-6)
    assert found["rel_err"] == pytest.approx(sum(relative) / len(relative), rel=1e-6)
    assert found["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / len(errors)))
    assert found["delta1"] == pytest.approx(sum(inside) / len(inside))


def test_normals_figures_on_known_angles():
    angles = np.radians(np.r_[np.full(50, 5.0), np.full(30, 20.0), np.full(20, 60.0)])
    label = np.tile(np.array([0, 0, -1], np.float32), (100, 1)).reshape(10, 10, 3)
    prediction = np.stack([np.sin(angles), 0 * angles, -np.cos(angles)], -1).reshape(10, 10, 3)
    metric = NORMALS.metric()
    metric.update(prediction.astype(np.float32), label)
    found = metric.compute()
    assert found["mean_deg"] == pytest.approx(5 * 0.5 + 20 * 0.3 + 60 * 0.2, abs=1e-3)
    assert found["median_deg"] == pytest.approx(5.0, abs=0.1)
    assert found["within_11"] == pytest.approx(0.5, abs=0.01)
    assert found["within_22"] == pytest.approx(0.8, abs=0.01)
    assert found["within_30"] == pytest.approx(0.8, abs=0.01)


def test_max_f_equals_a_search_over_thresholds():
    rng = np.random.default_rng(3)
    label = (rng.random((30, 40)) < 0.2).astype(np.uint8)
    probability = np.clip(label * 0.3 + rng.random(label.shape) * 0.7, 0, 1).astype(np.float32)
    label[:2] = 255
    metric = binary("edges").metric()
    metric.update(probability, label)
    best = 0.0
    truth, score = label[2:] == 1, np.floor(probability[2:] * 255)
    for threshold in range(256):
        found = score >= threshold
        hit = (found & truth).sum()
        if found.sum():
            precision, recall = hit / found.sum(), hit / truth.sum()
            if precision + recall:
                best = max(best, 2 * precision * recall / (precision + recall))
    assert metric.compute()["max_f"] == pytest.approx(best)


def test_nothing_valid_gives_nan_and_no_warning():
    for task in (SEGMENTATION, DEPTH, NORMALS):
        metric = task.metric()
        empty = task.empty_label(4, 4)
        metric.update(empty, empty)
        assert all(math.isnan(value) for value in metric.compute().values())
