# SPDX-License-Identifier: Apache-2.0
"""Losses: gradients, masks, and what partial annotation means."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from proto_mtl_ros.model.torch_tasks import torch_task  # noqa: E402
from proto_mtl_ros.tasks import TASKS, binary  # noqa: E402
from proto_mtl_ros.training.losses import supervised  # noqa: E402

ALL = list(TASKS.values())
WEIGHTS = {"segmentation": 1.0, "depth": 1.0, "normals": 1.0}


def _batch(frames: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    raw = {
        "segmentation": randn(frames, 13, 4, 4),
        "depth": randn(frames, 1, 4, 4).exp(),
        "normals": randn(frames, 3, 4, 4),
    }
    normals = torch.nn.functional.normalize(randn(frames, 8, 8, 3), dim=-1)
    normals[:, 0] = 0
    depth = randn(frames, 8, 8).exp()
    depth[:, 1] = float("nan")
    depth[:, 2] = 0
    ids = torch.randint(0, 13, (frames, 8, 8), generator=generator, dtype=torch.uint8)
    ids[:, 3] = 255
    return raw, {"segmentation": ids, "depth": depth, "normals": normals}


@pytest.mark.parametrize(
    "labelled",
    [
        [[True, False, False], [True, False, False]],  # a batch in which two tasks have no label
        [[False, False, False], [True, True, False]],  # a frame without any label
        [[False, False, False], [False, False, False]],
    ],
)
def test_partial_labels_never_give_nan(labelled):
    raw, labels = _batch(2)
    for value in raw.values():
        value.requires_grad_(True)
    losses, _ = supervised(raw, labels, torch.tensor(labelled), ALL, WEIGHTS)
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
    raw, labels = _batch(2)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    losses, means = supervised(raw, labels, mask, ALL, WEIGHTS)
    loss = sum(losses.values())
    each = {t.name: torch_task(t).loss(raw[t.name], labels[t.name]) for t in ALL}
    first = 3.0 / 1.0 * each["segmentation"][0]
    second = sum(each[t.name][1] for t in ALL)
    assert float(loss) == pytest.approx(float((first + second) / 2), rel=1e-9)
    assert float(means["depth"]) == pytest.approx(float(each["depth"][1]))


def test_balanced_bce_against_plain_numpy():
    logits = _batch(2)[0]["depth"].log().requires_grad_(True)
    label = torch.zeros(2, 4, 4, dtype=torch.uint8)
    label[:, 1] = 1
    label[:, 3] = 255
    loss = torch_task(binary("edges")).loss
    x, y = logits.detach().numpy()[0, 0, :3], label.numpy()[0, :3]
    probability = 1 / (1 + np.exp(-x))
    weight = np.where(y == 1, 2 / 3, 1 / 3)
    plain = -(weight * np.where(y == 1, np.log(probability), np.log(1 - probability))).mean()
    assert float(loss(logits, label)[0].detach()) == pytest.approx(plain)


def test_l1_and_cosine_against_plain_numpy():
    raw, labels = _batch(1)
    up = torch.nn.functional.interpolate(raw["depth"], (8, 8), mode="bilinear").numpy()[0, 0]
    label = labels["depth"].numpy()[0]
    valid = np.isfinite(label) & (label > 0)
    expected = np.abs(up - label)[valid].mean()
    assert float(torch_task(TASKS["depth"]).loss(raw["depth"], labels["depth"])) == pytest.approx(
        expected
    )
    vectors = torch.nn.functional.interpolate(raw["normals"], (8, 8), mode="bilinear").numpy()[0]
    target = labels["normals"].numpy()[0].transpose(2, 0, 1)
    cosine = (vectors * target).sum(0) / np.linalg.norm(vectors, axis=0)
    kept = np.linalg.norm(target, axis=0) > 0.5
    loss = float(torch_task(TASKS["normals"]).loss(raw["normals"], labels["normals"]))
    assert loss == pytest.approx((1 - cosine)[kept].mean(), rel=1e-6)
