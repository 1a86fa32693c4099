# SPDX-License-Identifier: Apache-2.0
"""The torch half of each kind of task: losses, masks, maps, teachers, and a kind from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.model.torch_tasks import KINDS, ScalarTask, torch_half, torch_task
from proto_mtl_ros.tasks import DEPTH, SEGMENTATION, TASKS, Scalar, binary

EDGES = binary("edges")
EVERY = {**TASKS, "edges": EDGES}


def _raw_and_label(name: str, frames: int = 2):
    """A raw prediction [B, C, 4, 4] and labels [B, 8, 8], some of whose pixels are invalid."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    raw = randn(frames, EVERY[name].channels, 4, 4)
    if name == "depth":
        label = randn(frames, 8, 8).exp()
        label[:, 1], label[:, 2] = float("nan"), 0
        return raw.exp(), label
    if name == "normals":
        label = F.normalize(randn(frames, 8, 8, 3), dim=-1)
        label[:, 0] = 0
        return raw, label
    most = 13 if name == "segmentation" else 2
    label = torch.randint(0, most, (frames, 8, 8), generator=generator, dtype=torch.uint8)
    label[:, 3] = 255
    return raw, label


@pytest.mark.parametrize("name", EVERY)
def test_gradient_equals_finite_differences(name):
    raw, label = _raw_and_label(name)
    loss = torch_task(EVERY[name]).loss
    raw.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(x, label).sum(), (raw,))


@pytest.mark.parametrize("name", EVERY)
def test_map_without_a_valid_pixel_gives_zero_loss_and_zero_gradient(name):
    raw, _ = _raw_and_label(name)
    empty = torch.from_numpy(np.stack([EVERY[name].empty_label(8, 8)] * 2))
    raw.requires_grad_(True)
    loss = torch_task(EVERY[name]).loss(raw, empty)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert torch.count_nonzero(raw.grad) == 0


@pytest.mark.parametrize("name", EVERY)
def test_what_is_invalid_changes_nothing_and_what_is_valid_does(name):
    raw, label = _raw_and_label(name)
    kind, dtype = torch_task(EVERY[name]), torch.float64
    values, valid = kind.label_map(label, (8, 8), dtype)
    assert values.shape[1] == EVERY[name].channels and 0 < valid.sum() < valid.numel()
    assert torch.count_nonzero(values[~valid.expand_as(values)]) == 0
    # a teacher that says what the label says is met by what is met by the label
    exact = kind.map(raw)
    assert exact.shape == raw.shape and bool(torch.isfinite(exact).all())
    taught = kind.teach(raw, raw)
    assert torch.allclose(taught[:, -1], torch.ones(1, dtype=dtype), atol=1e-3)  # it agrees
    worse = kind.disagreement(raw.flip(0), taught[:, :-1])
    assert float(kind.disagreement(raw, taught[:, :-1]).mean()) < float(worse.mean())


def test_teachers_are_confident_where_frame_and_mirror_image_agree():
    depth = torch_task(DEPTH)
    near = depth.teach(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 2.0))
    apart = depth.teach(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0))
    assert near.flatten().tolist() == pytest.approx([2.0, 1.0])
    assert apart.flatten().tolist() == pytest.approx([2.5, math.exp(-math.log(1.5) / 0.1)])
    # normals 30 degrees apart: the mean lies between them
    first, second = (F.normalize(torch.tensor([x, 0.0, -1.0]), dim=0) for x in (0.0, 3**-0.5))
    normals = torch_task(TASKS["normals"])
    both = normals.teach(2 * first[None, :, None, None], second[None, :, None, None])
    between = F.normalize(first + second, dim=0)
    assert both.flatten().tolist() == pytest.approx(
        [*between.tolist(), math.exp(-30 / 15)], rel=1e-4
    )
    # a flat posterior says itself that the teacher does not know
    flat = torch_task(SEGMENTATION).teach(torch.zeros(1, 13, 1, 1), torch.zeros(1, 13, 1, 1))
    assert flat.flatten().tolist() == pytest.approx([1 / 13] * 13 + [1.0], abs=1e-6)


def test_a_task_of_yes_or_no_is_learnt_taught_and_deployed():
    """No task of the product is of this kind, a task that is added may be."""
    kind = torch_task(EDGES)
    raw = torch.tensor([-20.0, 0.0, 20.0]).view(1, 1, 1, 3)
    assert kind.map(raw).flatten().tolist() == pytest.approx([0, 0.5, 1], abs=1e-6)
    label = torch.tensor([[[0, 1, 255, 255], [1, 1, 255, 255]]], dtype=torch.uint8)
    values, valid = kind.label_map(label, (1, 2), torch.float32)
    assert (float(values[0, 0, 0, 0]), valid.flatten().tolist()) == (0.75, [True, False])
    assert kind.teach(raw, raw.flip(3))[0, :, 0].tolist() == [
        pytest.approx([0.5, 0.5, 0.5], abs=1e-6),
        [1, 1, 1],
    ]
    # least where the prediction is the teacher's: log 2 where the teacher does not know
    loss = kind.disagreement(raw, kind.map(raw))
    assert loss.flatten().tolist() == pytest.approx([0, math.log(2), 0], abs=1e-6)
    assert float(kind.disagreement(-raw, kind.map(raw)).sum()) > 39
    network = ProtoMTL([DEPTH, EDGES], width=16, head_width=8).eval()
    graph = DeployGraph(network)
    with torch.no_grad():
        _, edges = graph(torch.zeros(1, 32, 64, 3, dtype=torch.uint8))
    assert graph.outputs == ("depth", "edges") and edges.shape == (1, 32, 64)
    assert 0 <= float(edges.min()) <= float(edges.max()) <= 1


def test_a_kind_from_outside_brings_its_own_half(monkeypatch):
    @dataclass(frozen=True)
    class Height(Scalar):
        """A scalar of another loss."""

    with pytest.raises(ValueError, match="'odd' of kind SimpleNamespace has no torch half"):
        torch_task(SimpleNamespace(name="odd"))
    height = Height("height", 1, ("abs_err",))
    assert type(torch_task(height)) is ScalarTask  # that of the nearest kind

    monkeypatch.setitem(KINDS, Height, ScalarTask)  # taken away again after the test

    @torch_half(Height)
    class HeightTask(ScalarTask):
        def loss(self, raw, label):
            return 2 * super().loss(raw, label)

    raw, label = _raw_and_label("depth")
    assert torch.equal(torch_task(height).loss(raw, label), 2 * torch_task(DEPTH).loss(raw, label))
