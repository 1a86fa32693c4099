# SPDX-License-Identifier: Apache-2.0
"""Cross-task consistency: which pairs count, masks, gradients, and a naive reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from small_training import made  # noqa: E402

from proto_mtl_ros.model.network import NetworkOutput  # noqa: E402
from proto_mtl_ros.tasks import TASKS  # noqa: E402

ALL = list(TASKS.values())
ONE_LABEL = torch.eye(3, dtype=torch.bool)
FEATURES = 16


def _batch(labelled, seed=0):
    """A batch of frames 64x64 with every map filled in; ``labelled`` says which may be used."""
    generator = torch.Generator().manual_seed(seed)
    frames = len(labelled)
    normals = torch.randn(frames, 64, 64, 3, generator=generator, dtype=torch.float64)
    return {
        "segmentation": torch.randint(0, 13, (frames, 64, 64), generator=generator).byte(),
        "depth": 4 * torch.rand(frames, 64, 64, generator=generator, dtype=torch.float64) + 0.5,
        "normals": torch.nn.functional.normalize(normals, dim=-1),
        "labelled": labelled,
    }


def _out(frames, seed=0):
    generator = torch.Generator().manual_seed(100 + seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    raw = {
        "segmentation": randn(frames, 13, 16, 16),
        "depth": randn(frames, 1, 16, 16).exp(),
        "normals": randn(frames, 3, 16, 16),
    }
    taps = tuple(randn(frames, FEATURES, 64 // 2**k, 64 // 2**k) for k in range(1, 6))
    for tensor in (*raw.values(), *taps):
        tensor.requires_grad_(True)
    return NetworkOutput(raw, randn(frames, 3, 8), None, taps)


@pytest.fixture
def term():
    torch.manual_seed(0)
    term = made("cross_task").double()
    with torch.no_grad():
        # as after some training: every pair differs
        for name, parameter in term.named_parameters():
            if name.endswith(("scale", "shift")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return term


def _squashed(depth):
    """The CDF of a normal distribution about indoor depths."""
    return np.vectorize(lambda x: 0.5 * (1 + math.erf((x - 2.4) / 1.5 / math.sqrt(2))))(depth)


def _cos(a, b):
    return (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def _naive(term, batch, out):
    """The docstring's formula, frame by frame and pair by pair; every label pixel valid."""

    def cells(values):  # [64, 64, C] to [C, 16, 16]
        return values.reshape(16, 4, 16, 4, -1).mean((1, 3)).transpose(2, 0, 1)

    def label_map(task, b):
        if task == "segmentation":
            return cells(np.eye(13)[batch[task][b].numpy()])
        if task == "depth":
            return cells(_squashed(batch[task][b].numpy()))
        mean = cells(batch[task][b].numpy())
        return mean / np.linalg.norm(mean, axis=0)

    def prediction_map(task, b):
        raw = out.raw[task][b].detach().numpy()
        if task == "segmentation":
            return np.exp(raw) / np.exp(raw).sum(0)
        return _squashed(raw) if task == "depth" else raw / np.linalg.norm(raw, axis=0)

    def embed(values, task, pair):
        with torch.no_grad():
            stem = term.encoder.stems[task](torch.from_numpy(values)[None])
            return term.encoder(stem, torch.tensor([pair]))[0].numpy()

    names = [task.name for task in ALL]
    order = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    total = 0.0
    for b, labelled in enumerate(batch["labelled"].tolist()):
        feature = out.pyramid[3][b].detach().numpy()
        for pair, (s, t) in enumerate(order):
            if labelled[s] or not labelled[t]:
                continue
            source = embed(prediction_map(names[s], b), s, pair)
            target = embed(label_map(names[t], b), t, pair)
            total += (1 - _cos(source, target)).mean()
            total += 0.5 * ((1 - _cos(source, feature)) + (1 - _cos(target, feature))).mean()
    return total / len(batch["labelled"])


@pytest.mark.parametrize(
    "labelled",
    [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1], [1, 1, 1]], [[0, 0, 0], [1, 0, 0]]],
    ids=["one-label", "two-labels", "an-empty-frame"],
)
def test_equals_the_formula_evaluated_pair_by_pair(term, labelled):
    labelled = torch.tensor(labelled, dtype=torch.bool)
    batch, out = _batch(labelled), _out(len(labelled))
    assert term(batch, out).item() == pytest.approx(_naive(term, batch, out), rel=1e-6)


def test_gradient_equals_finite_differences(term):
    batch, out = _batch(ONE_LABEL), _out(3)
    tensors = [*out.raw.values(), *term.parameters()]
    gradients = torch.autograd.grad(term(batch, out), tensors)
    generator = torch.Generator().manual_seed(5)
    for tensor, gradient in zip(tensors, gradients):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()  # a larger step meets the kinks of the ReLUs
        values = []
        for step in (1e-7, -2e-7, 1e-7):
            with torch.no_grad():
                tensor += step * direction
                values.append(term(batch, out).item())
        numeric = (values[0] - values[1]) / 2e-7
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-3, abs=1e-7)


def test_predictions_of_unlabelled_tasks_learn_and_the_features_do_not(term):
    batch, out = _batch(torch.tensor([[True, False, False]])), _out(1)
    term(batch, out).backward()
    assert not out.raw["segmentation"].grad.any()
    assert out.raw["depth"].grad.abs().max() > 0
    assert out.raw["normals"].grad.abs().max() > 0
    assert out.pyramid[3].grad is None


@pytest.mark.parametrize("case", ["full", "none", "invalid"])
def test_is_zero_with_zero_gradient_where_nothing_applies(term, case):
    labelled = {"full": torch.ones, "none": torch.zeros}.get(case, torch.ones)(2, 3).bool()
    batch, out = _batch(labelled), _out(2)
    if case == "invalid":
        batch["labelled"] = torch.tensor([[True, False, False], [False, True, False]])
        batch["segmentation"][:] = 255
        batch["depth"][:] = float("nan")
    loss = term(batch, out)
    loss.backward()
    assert loss.item() == 0
    for tensor in (*out.raw.values(), *term.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


def test_nothing_depends_on_what_lies_below_invalid_pixels(term):
    batch, out = _batch(torch.tensor([[False, True, False]])), _out(1)
    batch["depth"][:, :32] = 0
    before = term(batch, out).item()
    batch["depth"][:, :32] = float("nan")
    with torch.no_grad():
        out.raw["segmentation"][:, :, :8] = 7
        out.raw["normals"][:, :, :8] = -3
    assert term(batch, out).item() == pytest.approx(before, rel=1e-12)


def test_every_pair_of_tasks_has_an_embedding_of_its_own(term):
    labelled = torch.tensor([[True, True, False]])
    batch, out = _batch(labelled), _out(1)
    loss = term(batch, out)
    gradients = torch.autograd.grad(loss, [term.encoder.middle.scale])[0]
    used = [pair for pair, row in zip(term.pairs, gradients) if row.any()]
    assert used == [(2, 0), (2, 1)]
