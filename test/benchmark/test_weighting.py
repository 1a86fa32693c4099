# SPDX-License-Identifier: Apache-2.0
"""Loss weighting: published formulas, tasks without a label, and exact continuation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import benchmark.methods  # noqa: F401  the rivals register themselves
from proto_mtl_ros.training.losses import WEIGHTINGS

NAMES = ("segmentation", "depth", "normals")


def _losses(**values):
    return {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in values.items()
    }


def _weights(weighting, losses, step=0):
    """d total / d loss: what each loss counts."""
    total = weighting(losses, step)
    gradients = torch.autograd.grad(total, list(losses.values()))
    return {name: float(gradient) for name, gradient in zip(losses, gradients)}


def test_uncertainty_is_the_likelihood_of_a_learnt_variance():
    weighting = WEIGHTINGS["uncertainty"](NAMES).double()
    sigma = np.array([0.5, 2.0, 1.5])
    with torch.no_grad():
        weighting.log_variance.copy_(torch.from_numpy(np.log(sigma**2)))
    losses = _losses(depth=0.7, segmentation=1.3)
    total = weighting(losses, 0)
    expected = 2 * (0.7 / (2 * 2.0**2) + np.log(2.0) + 1.3 / (2 * 0.5**2) + np.log(0.5))
    assert total.item() == pytest.approx(expected)
    total.backward()
    assert weighting.log_variance.grad[2] == 0  # normals are absent
    assert weighting.log_variance.grad[:2].abs().min() > 0


def _dwa(epochs):
    """w of Liu et al., equation 7, from lists of losses per epoch and task."""
    means = [[np.mean(values) for values in epoch] for epoch in epochs]
    ratio = np.array(means[-1]) / np.array(means[-2])
    return 3 * np.exp(ratio / 2) / np.exp(ratio / 2).sum()


def test_dwa_compares_the_last_two_epochs_over_the_steps_with_the_task():
    weighting = WEIGHTINGS["dwa"](NAMES)
    first = [[2.0, 1.0, 3.0], [4.0], [0.5, 0.7]]
    second = [[1.0, 0.5], [3.0, 5.0, 4.6], [0.1]]
    for epoch in (first, second):
        assert _weights(weighting, _losses(segmentation=9.0, depth=9.0))["depth"] == pytest.approx(
            1
        )
        weighting.total.zero_(), weighting.count.zero_()  # that look was no training step
        for name, values in zip(NAMES, epoch):
            for value in values:
                weighting(_losses(**{name: value}), 0)
        weighting(_losses(depth=0.0), 0)  # no valid pixel: says nothing
        weighting.epoch_ended()
    expected = _dwa([first, second])
    got = _weights(weighting, _losses(segmentation=1.0, depth=2.0, normals=3.0))
    np.testing.assert_allclose([got[name] for name in NAMES], expected, rtol=1e-9)
    only = _weights(weighting, _losses(normals=3.0))
    assert only == {"normals": pytest.approx(expected[2])}


def test_dwa_keeps_the_weights_of_a_task_through_an_epoch_without_it():
    weighting = WEIGHTINGS["dwa"](NAMES)
    for value in (4.0, 1.0):
        weighting(_losses(segmentation=value, depth=1.0, normals=1.0), 0)
        weighting.epoch_ended()
    before = weighting.weights().clone()
    weighting(_losses(depth=1.0, normals=1.0), 0)
    weighting.epoch_ended()
    torch.testing.assert_close(weighting.weights(), before)
    assert before[0] < before[1]


def test_rlw_draws_a_softmax_of_normals_anew_in_every_step():
    weighting = WEIGHTINGS["rlw"](NAMES, seed=3)
    drawn = np.random.default_rng([3, 17]).standard_normal(3)
    some = np.exp(drawn[[0, 2]])
    got = _weights(weighting, _losses(segmentation=1.0, normals=5.0), step=17)
    np.testing.assert_allclose(list(got.values()), 2 * some / some.sum(), rtol=1e-9)
    mean = np.mean(
        [
            list(_weights(weighting, _losses(**dict.fromkeys(NAMES, 1.0)), s).values())
            for s in range(500)
        ],
        axis=0,
    )
    np.testing.assert_allclose(mean, 1, atol=0.15)
    assert _weights(weighting, _losses(depth=1.0), step=4) == {"depth": pytest.approx(1)}


def test_gls_is_the_geometric_mean_of_what_is_present():
    weighting = WEIGHTINGS["gls"](NAMES)
    losses = _losses(segmentation=2.0, depth=0.5, normals=0.001)
    assert weighting(losses, 0).item() == pytest.approx((2.0 * 0.5 * 0.001) ** (1 / 3))
    assert weighting(_losses(segmentation=2.0, depth=0.5), 0).item() == pytest.approx(1.0)
    # scaling a loss leaves the direction of every gradient and their ratio in relative terms
    got = _weights(weighting, losses)
    relative = [got[name] * losses[name].item() for name in NAMES]
    assert relative == pytest.approx([relative[0]] * 3)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_loss_of_zero_disturbs_nobody(name):
    weighting = WEIGHTINGS[name](NAMES)
    losses = _losses(segmentation=2.0, depth=0.0)
    total = weighting(losses, 0)
    gradients = torch.autograd.grad(total, list(losses.values()))
    assert torch.isfinite(total) and all(torch.isfinite(gradient) for gradient in gradients)
    assert gradients[0] > 0
    total = weighting(_losses(segmentation=0.0), 1)
    total.backward()
    assert total.item() == pytest.approx(0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_batch_without_any_label_has_loss_zero(name):
    total = WEIGHTINGS[name](NAMES)({}, 0)
    assert total.item() == 0 and total.ndim == 0


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_resumed_run_continues_exactly(name):
    generator = np.random.default_rng(0)
    sequence = generator.uniform(0.1, 3, (24, 3))
    present = generator.random((24, 3)) < 0.5

    def advance(weighting, steps):
        totals = []
        for step in steps:
            chosen = {n: v for n, v, p in zip(NAMES, sequence[step], present[step]) if p}
            total = weighting(_losses(**chosen), step)
            if total.requires_grad and list(weighting.parameters()):
                for parameter in weighting.parameters():
                    parameter.grad = None
                total.backward()
                with torch.no_grad():
                    for parameter in weighting.parameters():
                        parameter -= 0.1 * parameter.grad
            totals.append(total.item())
            if step % 6 == 5:
                weighting.epoch_ended()
        return totals

    whole = advance(WEIGHTINGS[name](NAMES, 7), range(24))
    first = WEIGHTINGS[name](NAMES, 7)
    head = advance(first, range(15))
    second = WEIGHTINGS[name](NAMES, 7)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert head + advance(second, range(15, 24)) == whole
