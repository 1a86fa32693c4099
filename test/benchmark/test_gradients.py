# SPDX-License-Identifier: Apache-2.0
"""Gradient methods on a network small enough to check by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from benchmark.methods.gradients import shared_parameters
from proto_mtl_ros.errors import ConfigError, TrainingError
from proto_mtl_ros.training.losses import WEIGHTINGS
from proto_mtl_ros.training.monitor import FiniteGuard

NONE = torch.zeros(())


class Tiny(torch.nn.Module):
    """A backbone and two heads, named as in ``ProtoMTL``."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(3, 2)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(2, 1) for _ in range(2))

    def losses(self, x):
        features = self.backbone(x)
        # the same score wanted high by one task and low by the other: a conflict
        first, second = (head(features).mean() for head in self.heads)
        return {"a": (first - 2).square(), "b": 3 * (second + 4).square()}


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = Tiny().double()
    with torch.no_grad():
        network.heads[1].weight.copy_(network.heads[0].weight + 0.1)
    return network, torch.randn(5, 3, dtype=torch.float64)


def _gradients(parameters):
    return np.concatenate([parameter.grad.flatten().numpy() for parameter in parameters])


def _jacobian(network, x):
    rows = []
    for name in ("a", "b"):
        network.zero_grad()
        network.losses(x)[name].backward()
        rows.append(_gradients(network.backbone.parameters()))
    network.zero_grad()
    return np.stack(rows)


def _run(network, x, method, extra=NONE, chosen=("a", "b"), step=0):
    losses = {name: loss for name, loss in network.losses(x).items() if name in chosen}
    WEIGHTINGS[method](["a", "b"]).backward(losses, extra, Trained(network), step)
    return _gradients(network.backbone.parameters())


class Trained(torch.nn.Module):
    """What Lightning trains: a module that holds the network."""

    def __init__(self, network):
        super().__init__()
        self.network = network


def test_shared_is_what_belongs_to_no_task(tiny):
    network, _ = tiny
    network.backbone.bias.requires_grad_(False)
    assert shared_parameters(network) == [network.backbone.weight]


@pytest.mark.parametrize("method", ["pcgrad", "upgrad"])
def test_two_conflicting_gradients_lose_what_they_have_against_each_other(tiny, method):
    # with two tasks UPGrad's projection onto the dual cone is the one of PCGrad
    _needs(method)
    network, x = tiny
    a, b = _jacobian(network, x)
    assert a @ b < -0.1
    expected = (a - a @ b / (b @ b) * b) + (b - a @ b / (a @ a) * a)
    got = _run(network, x, method)
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())
    if method == "pcgrad":
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_cagrad_is_the_best_worst_case_in_a_ball_about_the_mean(tiny):
    _needs("cagrad")
    network, x = tiny
    jacobian = _jacobian(network, x)
    mean = jacobian.mean(0)
    radius = 0.4 * np.linalg.norm(mean)
    share = np.linspace(0, 1, 100_001)[:, None]
    mixed = share * jacobian[0] + (1 - share) * jacobian[1]
    norms = np.linalg.norm(mixed, axis=1)
    best = np.argmin(mixed @ mean + radius * norms)
    expected = 2 * (mean + radius * mixed[best] / norms[best])
    got = _run(network, x, "cagrad")
    np.testing.assert_allclose(got, expected, rtol=2e-2, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["pcgrad", "upgrad", "cagrad"])
def test_heads_and_extra_terms_get_the_plain_gradient(tiny, method):
    _needs(method)
    network, x = tiny
    without = _run(network, x, method)
    heads = _gradients(network.heads.parameters())
    network.zero_grad()
    extra = 5 * network.backbone.weight.sum() + network.heads[0].bias.sum()
    got = _run(network, x, method, extra)
    np.testing.assert_allclose(got - without, [5] * 6 + [0] * 2, atol=1e-9)
    difference = _gradients(network.heads.parameters()) - heads
    np.testing.assert_allclose(difference, [0, 0, 1, 0, 0, 0], atol=1e-9)
    network.zero_grad()
    sum(network.losses(x).values()).backward()
    np.testing.assert_allclose(heads, _gradients(network.heads.parameters()), rtol=1e-9)


def test_an_absent_task_and_one_without_a_valid_pixel_have_no_say(tiny):
    _needs("pcgrad")
    network, x = tiny
    a, _ = _jacobian(network, x)
    np.testing.assert_allclose(_run(network, x, "pcgrad", chosen=("a",)), a, rtol=1e-9)
    network.zero_grad()
    losses = network.losses(x)
    losses["b"] = losses["b"] * 0
    WEIGHTINGS["pcgrad"](["a", "b"]).backward(losses, NONE, Trained(network), 0)
    np.testing.assert_allclose(_gradients(network.backbone.parameters()), a, rtol=1e-9)


def test_the_order_of_pcgrad_depends_on_seed_and_step_alone():
    _needs("pcgrad")
    generator = torch.Generator().manual_seed(1)
    jacobian = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    method = WEIGHTINGS["pcgrad"](["a"], seed=3)
    state = torch.get_rng_state()
    first = [method._aggregated(jacobian, step) for step in range(8)]
    assert torch.equal(state, torch.get_rng_state())  # nobody else's draws are disturbed
    torch.manual_seed(99)
    again = [method._aggregated(jacobian, step) for step in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert any(not torch.allclose(first[0], other) for other in first[1:])


def test_gradients_that_overflowed_are_passed_on_for_the_scaler_to_see():
    _needs("pcgrad")
    jacobian = torch.tensor([[1.0, float("inf")], [1.0, 2.0]])
    assert not torch.isfinite(WEIGHTINGS["pcgrad"](["a"])._aggregated(jacobian, 0)).all()


def test_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ConfigError, match=r"pip install 'proto_mtl_ros\[gradients\]'"):
        WEIGHTINGS["pcgrad"](["a"])


def _needs(method):
    reason = "needs the extra 'gradients'"
    pytest.importorskip("torchjd", reason=reason)
    if method == "cagrad":
        pytest.importorskip("cvxpy", reason=reason)
    if method == "upgrad":
        pytest.importorskip("qpsolvers", reason=reason)
        pytest.importorskip("quadprog", reason=reason)


def _guarded(guard: FiniteGuard, network: Tiny, norm: float, **parts: float) -> None:
    values = {name: torch.tensor(value) for name, value in parts.items()}
    guard.watch(["one", "two"], values)
    guard.check(torch.tensor(norm), network, "epoch 3, step 7", "try again")


def test_a_gradient_that_broke_with_finite_losses_is_named(tiny):
    network, _ = tiny
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    name, last = list(network.named_parameters())[-1]
    last.grad.fill_(math.inf)
    with pytest.raises(TrainingError) as failure:
        _guarded(FiniteGuard(), network, math.inf, depth=1.0, total=1.0)
    assert str(failure.value) == (
        f"epoch 3, step 7: every loss is finite, but the gradient of {name} is not;"
        " frames of the batch: one, two; try again"
    )


def test_a_gradient_scaler_may_skip_steps_for_a_while_but_no_loss_may_break(tiny):
    guard = FiniteGuard(scaled=True)
    for _ in range(20):
        _guarded(guard, tiny[0], math.inf, depth=1.0, total=1.0)
    _guarded(guard, tiny[0], 1.0, depth=1.0, total=1.0)  # a step that passes ends the row
    for _ in range(20):
        _guarded(guard, tiny[0], math.inf, depth=1.0, total=1.0)
    with pytest.raises(TrainingError, match="every loss is finite"):
        _guarded(guard, tiny[0], math.inf, depth=1.0, total=1.0)
    with pytest.raises(TrainingError, match="the loss of total is inf; frames"):
        _guarded(FiniteGuard(scaled=True), tiny[0], math.inf, depth=1.0, total=math.inf)
