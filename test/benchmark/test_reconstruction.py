# SPDX-License-Identifier: Apache-2.0
"""Task-agnostic enhancement: what is quantised, what it costs, and who learns from it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_training import made

from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.tasks import DEPTH


@pytest.fixture
def network() -> ProtoMTL:
    torch.manual_seed(0)
    return ProtoMTL([DEPTH], width=16, head_width=8)


@pytest.fixture
def term(network):
    torch.manual_seed(1)
    return made("reconstruction", network, codebook_size=32, codebook_width=16)


def pictures(seed: int = 0) -> torch.Tensor:
    """Four pictures of coloured blocks, uint8 [4, 64, 64, 3]."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (4, 4, 4, 3), generator=generator, dtype=torch.uint8)
    return blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)


def test_the_loss_is_l1_of_the_picture_from_codes_and_the_two_terms_of_the_codebook(network, term):
    image = pictures()
    out = network.eval()(network.normalise(image))
    with torch.no_grad():
        found = term({"image": image}, out)
        z = term.embed(out)
        codes = term.codebook.codes()
        nearest = torch.cdist(z.flatten(0, 2), codes).argmin(1)
        e = codes[nearest].view_as(z)
        # blocks of 4 x 4 pixels have one colour each here: every fourth pixel is their mean
        target = (image[:, ::4, ::4].float() - 127.0) / 128.0
        picture = term.decode(e).permute(0, 2, 3, 1)
        expected = (picture - target).abs().mean() + 1.25 * (z - e).square().mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_gradient_goes_straight_through_the_codes_to_the_backbone(network, term):
    """Without the commitment, the backbone's only way to a gradient is the quantised picture."""
    image = pictures()
    out = network(network.normalise(image))
    out.pyramid[3].retain_grad()
    z = term.embed(out)
    z.retain_grad()
    e = term.codebook(z.flatten(0, 2))[0].view_as(z)
    through = (z + (e - z).detach()).requires_grad_()
    (expected,) = torch.autograd.grad(term.decode(through).abs().mean(), through, retain_graph=True)
    term.decode(through).abs().mean().backward()
    assert torch.equal(z.grad, expected) and expected.abs().max() > 0
    assert out.pyramid[3].grad.abs().max() > 0


def test_every_part_learns_and_the_network_is_not_counted_twice(network, term):
    image = pictures()
    term({"image": image}, network(network.normalise(image))).backward()
    for name, parameter in term.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    own = {id(p) for p in term.parameters()}
    assert not own & {id(p) for p in network.parameters()}
    used = network.backbone.blocks[0].project[0].weight.grad
    assert used is not None and used.abs().max() > 0


def test_a_picture_of_one_colour_is_no_trouble(network, term):
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    flat = [torch.zeros_like(level) for level in network.eval()(network.normalise(image)).pyramid]
    flat[3].requires_grad_()
    loss = term({"image": image}, SimpleNamespace(pyramid=flat))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(flat[3].grad).all() and flat[3].grad.abs().max() < 1e3


def test_nearest_codes_are_found_in_full_precision_under_autocast(network, term):
    image = pictures()
    seen = []
    term.codebook.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, *output)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = term({"image": image}, network(network.normalise(image)))
    ((vectors, found, index),) = seen
    assert loss.dtype == vectors.dtype == found.dtype == torch.float32
    assert torch.equal(index, torch.cdist(vectors, term.codebook.codes()).argmin(1))
    assert torch.equal(found, term.codebook.codes()[index])
