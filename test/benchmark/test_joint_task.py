# SPDX-License-Identifier: Apache-2.0
"""Joint-task regularisation: what is stacked, what is detached, gradients, naive references."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from small_training import made  # noqa: E402

from proto_mtl_ros.model.network import NetworkOutput  # noqa: E402
from proto_mtl_ros.tasks import TASKS  # noqa: E402

ALL = list(TASKS.values())
NAMES = [task.name for task in ALL]
ONE_LABEL = torch.eye(3, dtype=torch.bool)


def _batch(labelled, seed=0):
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
    for tensor in raw.values():
        tensor.requires_grad_(True)
    return NetworkOutput(raw, randn(frames, 3, 8), None, ())


def _squashed(depth):
    """The CDF of a normal distribution about indoor depths."""
    return np.vectorize(lambda x: 0.5 * (1 + math.erf((x - 2.4) / 1.5 / math.sqrt(2))))(depth)


def _stacks(term, batch, out):
    return term.stacks(batch, [out.raw[name] for name in NAMES])


@pytest.fixture
def term():
    torch.manual_seed(0)
    return made("joint_task").double()


def test_the_reliable_stack_has_labels_where_there_are_valid_ones_and_predictions_elsewhere(term):
    batch, out = _batch(torch.tensor([[True, True, False]])), _out(1)
    batch["depth"][:, :32] = float("nan")
    noisy, reliable = (stack[0].detach().numpy() for stack in _stacks(term, batch, out))
    raw = {name: out.raw[name][0].detach().numpy() for name in NAMES}
    posterior = np.exp(raw["segmentation"]) / np.exp(raw["segmentation"]).sum(0)
    np.testing.assert_allclose(noisy[:13], posterior, rtol=1e-9)
    np.testing.assert_allclose(noisy[13], _squashed(raw["depth"][0]), rtol=1e-9)
    unit = raw["normals"] / np.linalg.norm(raw["normals"], axis=0)
    np.testing.assert_allclose(noisy[14:], (unit + 1) / 2, rtol=1e-9)

    counts = np.eye(13)[batch["segmentation"][0].numpy()].reshape(16, 4, 16, 4, 13).mean((1, 3))
    np.testing.assert_allclose(reliable[:13], counts.transpose(2, 0, 1), rtol=1e-9)
    label = _squashed(batch["depth"][0].numpy()).reshape(16, 4, 16, 4).mean((1, 3))
    np.testing.assert_array_equal(reliable[13, :8], noisy[13, :8])
    np.testing.assert_allclose(reliable[13, 8:], label[8:], rtol=1e-9)
    np.testing.assert_array_equal(reliable[14:], noisy[14:])


def test_equals_the_formula_evaluated_by_hand(term):
    batch, out = _batch(torch.cat([ONE_LABEL, torch.ones(1, 3, dtype=torch.bool)])), _out(4)
    noisy, reliable = _stacks(term, batch, out)
    assert len(noisy) == 3  # the fully labelled frame is left out

    def encoded(maps):
        return term.auto_encoder.encoder(maps)

    def decoded(maps):
        return term.auto_encoder.decode(encoded(maps)).detach().numpy()

    def cos(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    distance = 1 - cos(encoded(noisy).detach().numpy(), encoded(reliable).detach().numpy()).mean()
    error = 0.0
    for stack in (noisy, reliable):
        rebuilt, wanted = decoded(stack), stack.detach().numpy()
        logits = rebuilt[:, :13]
        posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error -= (wanted[:, :13] * np.log(posterior)).sum(1).mean()
        error += np.abs(1 / (1 + np.exp(-rebuilt[:, 13])) - wanted[:, 13]).mean()
        error += 1 - cos(rebuilt[:, 14:], 2 * wanted[:, 14:] - 1).mean()
    expected = 3 / 4 * (4 * distance + 2 * error)
    assert term(batch, out).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_the_auto_encoder_equals_finite_differences(term):
    batch, out = _batch(ONE_LABEL), _out(3)
    parameters = list(term.parameters())
    gradients = torch.autograd.grad(term(batch, out), parameters)
    for tensor, gradient in zip(parameters, gradients):
        _check(tensor, gradient, lambda: term(batch, out).item())


def test_gradient_of_the_predictions_is_that_of_the_distance_for_unlabelled_tasks_alone(term):
    batch, out = _batch(ONE_LABEL), _out(3)
    term(batch, out).backward()
    for index, name in enumerate(NAMES):
        gradient = out.raw[name].grad
        assert not gradient[index].any()  # frame i has the label of task i
        unlabelled = [frame for frame in range(3) if frame != index]
        assert all(gradient[frame].abs().max() > 0 for frame in unlabelled)
        with torch.no_grad():
            # labelled predictions are constants to the loss, so they do not move here either
            mask = torch.ones_like(gradient)
            mask[index] = 0
        _check(
            out.raw[name],
            gradient,
            lambda: 4 * float(term.distance(*_stacks(term, batch, out))),
            mask,
        )


def _check(tensor, gradient, value, mask=1.0):
    """The directional derivative, by central differences."""
    generator = torch.Generator().manual_seed(5)
    direction = mask * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    direction /= direction.norm()  # a larger step meets the kinks of the ReLUs
    values = []
    for step in (1e-7, -2e-7, 1e-7):
        with torch.no_grad():
            tensor += step * direction
        values.append(value())
    numeric = (values[0] - values[1]) / 2e-7
    assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-3, abs=1e-7)


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


def test_predictions_that_equal_the_labels_have_no_distance(term):
    batch, out = _batch(torch.tensor([[False, True, False]])), _out(1)
    batch["depth"] = batch["depth"][:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)
    with torch.no_grad():
        out.raw["depth"][:] = batch["depth"][:, None, ::4, ::4]
    assert float(term.distance(*_stacks(term, batch, out))) == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        out.raw["depth"] += 1
    assert float(term.distance(*_stacks(term, batch, out))) > 1e-4


def test_the_auto_encoder_learns_to_rebuild_the_stack(term):
    batch, out = _batch(ONE_LABEL[:1]), _out(1)
    for name in NAMES:  # as smooth as predictions are
        coarse = out.raw[name].detach()[:, :, ::8, ::8]
        out.raw[name] = 3 * torch.nn.functional.interpolate(coarse, scale_factor=8)
    stacks = _stacks(term, batch, out)
    before = float(term.reconstruction(*stacks))
    optimiser = torch.optim.Adam(term.parameters(), lr=3e-3)
    for _ in range(10):
        optimiser.zero_grad()
        term(batch, out).backward()
        optimiser.step()
    assert float(term.reconstruction(*stacks)) < 0.9 * before
