# SPDX-License-Identifier: Apache-2.0
"""Losses: gradients, masks, and what partial annotation means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_training import ALL, SIZE, batch, output
from torch.nn import functional as F

from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import TASKS, binary
from proto_mtl_ros.training.losses import supervised

WEIGHTS = {"segmentation": 1.0, "depth": 1.0, "normals": 1.0}


@pytest.mark.parametrize(
    "labelled",
    [
        [[True, False, False], [True, False, False]],  # a batch in which two tasks have no label
        [[False, False, False], [True, True, False]],  # a frame without any label
        [[False, False, False], [False, False, False]],
    ],
)
def test_partial_labels_never_give_nan(labelled):
    raw, labels = output(2).raw, batch(labelled)
    losses, _ = supervised(raw, labels, labels["labelled"], ALL, WEIGHTS)
    assert set(losses) == {
        task.name for index, task in enumerate(ALL) if any(frame[index] for frame in labelled)
    }
    if losses:
        loss = sum(losses.values())
        loss.backward()
        assert bool(torch.isfinite(loss))
    for index, task in enumerate(ALL):
        gradient = raw[task.name].grad
        for frame in range(2):
            moved = gradient is not None and bool(gradient[frame].abs().sum() > 0)
            assert moved == labelled[frame][index]


def test_supervised_scales_by_tasks_over_labelled_tasks():
    raw, labels = output(2).raw, batch([[True, False, False], [True, True, True]])
    losses, means = supervised(raw, labels, labels["labelled"], ALL, WEIGHTS)
    loss = sum(losses.values())
    each = {t.name: torch_task(t).loss(raw[t.name], labels[t.name]) for t in ALL}
    first = 3.0 / 1.0 * each["segmentation"][0]
    second = sum(each[t.name][1] for t in ALL)
    assert float(loss) == pytest.approx(float((first + second) / 2), rel=1e-5)
    assert float(means["depth"]) == pytest.approx(float(each["depth"][1]))


def test_balanced_bce_against_plain_numpy():
    logits = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(2, 4, 4, dtype=torch.uint8)
    label[:, 1] = 1
    label[:, 3] = 255
    loss = torch_task(binary("edges")).loss
    x, y = logits.numpy()[0, 0, :3], label.numpy()[0, :3]
    probability = 1 / (1 + np.exp(-x))
    weight = np.where(y == 1, 2 / 3, 1 / 3)
    plain = -(weight * np.where(y == 1, np.log(probability), np.log(1 - probability))).mean()
    assert float(loss(logits, label)[0]) == pytest.approx(plain)


def test_l1_and_cosine_against_plain_numpy():
    raw, labels = output(1, torch.float64).raw, batch([[True] * 3], dtype=torch.float64)
    labels["depth"][:, 1], labels["depth"][:, 2], labels["normals"][:, 0] = float("nan"), 0, 0
    up = {
        name: F.interpolate(raw[name], (SIZE, SIZE), mode="bilinear").detach().numpy()[0]
        for name in ("depth", "normals")
    }
    found = {
        name: float(torch_task(TASKS[name]).loss(raw[name], labels[name]).detach()) for name in up
    }
    label = labels["depth"].numpy()[0]
    valid = np.isfinite(label) & (label > 0)
    assert found["depth"] == pytest.approx(np.abs(up["depth"][0] - label)[valid].mean())
    target = labels["normals"].numpy()[0].transpose(2, 0, 1)
    cosine = (up["normals"] * target).sum(0) / np.linalg.norm(up["normals"], axis=0)
    kept = np.linalg.norm(target, axis=0) > 0.5
    assert found["normals"] == pytest.approx((1 - cosine)[kept].mean(), rel=1e-6)
