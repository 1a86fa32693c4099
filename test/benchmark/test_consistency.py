# SPDX-License-Identifier: Apache-2.0
"""Consistency between tasks, of pairs (MTPSL) and of all (JTR): formulas, gradients, masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_training import WIDTH, made

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import TASKS

ALL = list(TASKS.values())
NAMES = [task.name for task in ALL]
ONE_LABEL = torch.eye(3, dtype=torch.bool)


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
    pyramid = tuple(randn(frames, WIDTH, 64 // 2**k, 64 // 2**k) for k in range(1, 6))
    for tensor in (*raw.values(), *pyramid):
        tensor.requires_grad_(True)
    return NetworkOutput(raw, pyramid)


@pytest.fixture
def cross():
    torch.manual_seed(0)
    term = made("cross_task").double()
    with torch.no_grad():
        # as after some training: every pair differs
        for name, parameter in term.named_parameters():
            if name.endswith(("scale", "shift")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return term


@pytest.fixture
def joint():
    torch.manual_seed(0)
    return made("joint_task").double()


def _stacks(term, batch, out):
    return term.stacks(batch, [out.raw[name] for name in NAMES])


def _squashed(depth):
    """The CDF of a normal distribution about indoor depths."""
    return np.vectorize(lambda x: 0.5 * (1 + math.erf((x - 2.4) / 1.5 / math.sqrt(2))))(depth)


def _cos(a, b):
    return (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


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
@pytest.mark.parametrize("name", ["cross", "joint"])
def test_is_zero_with_zero_gradient_where_nothing_applies(name, case, request):
    term = request.getfixturevalue(name)
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
def test_cross_task_equals_the_formula_pair_by_pair(cross, labelled):
    labelled = torch.tensor(labelled, dtype=torch.bool)
    batch, out = _batch(labelled), _out(len(labelled))
    assert cross(batch, out).item() == pytest.approx(_naive(cross, batch, out), rel=1e-6)


def test_gradient_of_cross_task_equals_finite_differences(cross):
    batch, out = _batch(ONE_LABEL), _out(3)
    tensors = [*out.raw.values(), *cross.parameters()]
    gradients = torch.autograd.grad(cross(batch, out), tensors)
    for tensor, gradient in zip(tensors, gradients):
        _check(tensor, gradient, lambda: cross(batch, out).item())


def test_predictions_of_unlabelled_tasks_learn_and_the_features_do_not(cross):
    batch, out = _batch(torch.tensor([[True, False, False]])), _out(1)
    cross(batch, out).backward()
    assert not out.raw["segmentation"].grad.any()
    assert out.raw["depth"].grad.abs().max() > 0
    assert out.raw["normals"].grad.abs().max() > 0
    assert out.pyramid[3].grad is None


def test_nothing_depends_on_what_lies_below_invalid_pixels(cross):
    batch, out = _batch(torch.tensor([[False, True, False]])), _out(1)
    batch["depth"][:, :32] = 0
    before = cross(batch, out).item()
    batch["depth"][:, :32] = float("nan")
    with torch.no_grad():
        out.raw["segmentation"][:, :, :8] = 7
        out.raw["normals"][:, :, :8] = -3
    assert cross(batch, out).item() == pytest.approx(before, rel=1e-12)


def test_the_reliable_stack_has_labels_where_there_are_valid_ones_and_predictions_elsewhere(joint):
    batch, out = _batch(torch.tensor([[True, True, False]])), _out(1)
    batch["depth"][:, :32] = float("nan")
    noisy, reliable = (stack[0].detach().numpy() for stack in _stacks(joint, batch, out))
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


def test_joint_task_equals_the_formula(joint):
    batch, out = _batch(torch.cat([ONE_LABEL, torch.ones(1, 3, dtype=torch.bool)])), _out(4)
    noisy, reliable = _stacks(joint, batch, out)
    assert len(noisy) == 3  # the fully labelled frame is left out

    def encoded(maps):
        return joint.auto_encoder.encoder(maps)

    def decoded(maps):
        return joint.auto_encoder.decode(encoded(maps)).detach().numpy()

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
    assert joint(batch, out).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_the_auto_encoder_equals_finite_differences(joint):
    batch, out = _batch(ONE_LABEL), _out(3)
    parameters = list(joint.parameters())
    gradients = torch.autograd.grad(joint(batch, out), parameters)
    for tensor, gradient in zip(parameters, gradients):
        _check(tensor, gradient, lambda: joint(batch, out).item())


def test_gradient_of_the_predictions_is_that_of_the_distance_for_unlabelled_tasks_alone(joint):
    batch, out = _batch(ONE_LABEL), _out(3)
    joint(batch, out).backward()
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
            lambda: 4 * float(joint.distance(*_stacks(joint, batch, out))),
            mask,
        )
