# SPDX-License-Identifier: Apache-2.0
"""Kinds of retrieval that the benchmark brings: the paper's, one-hot, linear, class chain."""

from __future__ import annotations

import pytest
import torch

import benchmark.methods  # noqa: F401  the rivals register themselves
from benchmark.methods.krt import TaskPrototypes, entropy
from benchmark.methods.retrievals import ClassChain, linear_attention
from proto_mtl_ros.model import ProtoMTL, build_network
from proto_mtl_ros.model.backbones import BACKBONES
from proto_mtl_ros.model.network import NETWORKS
from proto_mtl_ros.tasks import DEPTH, NORMALS, SEGMENTATION, TASKS

ALL_TASKS = tuple(TASKS.values())


class TinyBackbone(torch.nn.Module):
    """One convolution per stride, so that tests of the rest are quick."""

    channels = (8, 8, 16, 16, 16)
    mean = std = (127.0, 127.0, 127.0)

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((3, *self.channels), self.channels)
        self.steps = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Conv2d(inp, out, 3, 2, 1), torch.nn.Tanh())
            for inp, out in sizes
        )

    def forward(self, x):
        taps = []
        for step in self.steps:
            x = step(x)
            taps.append(x)
        return taps


@pytest.fixture
def tiny(monkeypatch):
    """Build a tiny network of all tasks with the given options, always from the same seed."""
    monkeypatch.setitem(BACKBONES, "tiny", lambda pretrained, weights: TinyBackbone())

    def build(tasks=ALL_TASKS, retrieval="prototypes", **options) -> ProtoMTL:
        torch.manual_seed(0)
        sizes = {"width": 16, "head_width": 8}
        if retrieval not in ("answers", "none"):
            sizes |= {"slots": 2, "heads": 2}
        return build_network(tasks, retrieval, backbone="tiny", **sizes, **options)

    return build


IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("retrieval", NETWORKS)
def test_no_parameter_of_any_variant_is_unused(tiny, retrieval):
    """A parameter without a gradient stops distributed training."""
    network = tiny(retrieval=retrieval)
    out = network(IMAGE)
    assert [level.shape[2] for level in out.pyramid] == [32, 16, 8, 4, 2]
    sum(raw.square().mean() for raw in out.raw.values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_baselines_of_the_first_release_have_no_prototypes_and_no_cross_attention(tiny):
    full, baseline = tiny(), tiny(retrieval="self_attention")
    removed = set(full.state_dict()) - set(baseline.state_dict())
    own = ("prototypes.", "cross_attention.", "norm_query.", "norm_knowledge.")
    assert removed == {key for key in full.state_dict() if any(part in key for part in own)}
    out = baseline(IMAGE)
    assert out.affinity.numel() == 0 and out.pooled.shape == (2, 3, 16)


@pytest.mark.parametrize("slots", [1, 4])
def test_affinity_is_soft_and_retrieval_is_a_mean_of_prototypes(slots):
    torch.manual_seed(0)
    prototypes = TaskPrototypes(3, slots, 16, 0.5)
    tokens = torch.randn(2, 5, 16)
    knowledge, affinity = prototypes.retrieve(tokens)
    assert torch.allclose(affinity.sum(-1), torch.ones(2, 5))
    within = torch.softmax(prototypes.similarity(tokens) / 0.5, -1)
    expected = torch.einsum("bnt,bntm,tmd->bnd", affinity, within, prototypes.vectors)
    assert torch.allclose(knowledge, expected, atol=1e-5)
    # a token that equals a prototype cannot make the affinity one-hot
    own = prototypes.affinity(prototypes.similarity(prototypes.vectors[0, 0])).detach()
    assert own.argmax() == 0
    assert float(own.max()) < 0.97
    assert float(entropy(own)) > 0.1


def test_frozen_one_hot_affinity_shows_a_task_its_own_prototypes_only(tiny):
    network = tiny(retrieval="one_hot").eval()
    with torch.no_grad():
        before = network(IMAGE)
        for own in range(3):
            assert (before.affinity[:, own, :, own] == 1).all()
        assert before.affinity.sum() == before.affinity[..., 0].numel()
        network.prototypes.vectors[1] += torch.randn(2, 16)  # the depth's
        after = network(IMAGE)
        # retrieved: the task's slots, weighted by a softmax of their cosines
        token = torch.randn(16)
        slots = network.prototypes.vectors[2]
        cosines = torch.stack([token @ slot / (token.norm() * slot.norm()) for slot in slots])
        weights = torch.softmax(cosines / 0.5, 0)
        found, _ = network.retrieve(token, 2)
    assert torch.equal(after.raw["segmentation"], before.raw["segmentation"])
    assert torch.equal(after.raw["normals"], before.raw["normals"])
    assert not torch.equal(after.raw["depth"], before.raw["depth"])
    assert torch.allclose(found, weights[0] * slots[0] + weights[1] * slots[1], atol=1e-5)


def test_linear_attention_is_a_weighted_mean_for_each_query():
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 2, 5, 4, generator=generator)
    k, v = torch.randn(2, 1, 2, 7, 4, generator=generator)
    found = linear_attention(q, k, v)
    for head in range(2):
        for query in range(5):
            over_width = torch.softmax(q[0, head, query], 0)
            weights = torch.zeros(7)
            for channel in range(4):
                column = torch.tensor([float(k[0, head, j, channel]) for j in range(7)]).exp()
                weights += over_width[channel] * column / column.sum()
            assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
            expected = sum(weights[j] * v[0, head, j] for j in range(7))
            assert torch.allclose(found[0, head, query], expected, atol=1e-5)


def test_the_class_chain_starts_as_if_it_were_not_there(tiny):
    plain, chained = tiny().eval(), tiny(retrieval="class_chain").eval()
    missing = chained.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys and all(key.startswith("chain.") for key in missing.missing_keys)
    with torch.no_grad():
        before, after = plain(IMAGE), chained(IMAGE)
        for name, raw in before.raw.items():
            assert torch.equal(after.raw[name], raw)
        for linear in chained.chain.project:
            torch.nn.init.normal_(linear.weight)
        moved = chained(IMAGE)
    assert torch.equal(moved.raw["segmentation"], before.raw["segmentation"])
    assert not torch.allclose(moved.raw["depth"], before.raw["depth"])
    assert not torch.allclose(moved.raw["normals"], before.raw["normals"])
    # what the prototypes judge is the decoder's own work
    assert torch.equal(moved.pooled, before.pooled)
    assert torch.equal(moved.affinity, before.affinity)


def test_the_class_chain_adds_the_prototypes_of_the_classes_a_token_sees():
    torch.manual_seed(0)
    chain = ClassChain([DEPTH, SEGMENTATION, NORMALS], 16)
    torch.nn.init.normal_(chain.project[0].weight)
    logits = torch.randn(1, 13, 8, 4, requires_grad=True)
    features = torch.randn(1, 16, 2, 1)
    found = chain(features, chain.knowledge(logits), 2)
    for row in range(2):
        seen = torch.zeros(16)
        for y in range(4):
            for x in range(4):
                posterior = logits[0, :, 4 * row + y, x].exp()
                seen += (posterior / posterior.sum() / 16) @ chain.embeddings
        seen = (seen - seen.mean()) / (seen.var(unbiased=False) + 1e-5).sqrt()
        expected = features[0, :, row, 0] + chain.project[0].weight @ seen
        assert torch.allclose(found[0, :, row, 0], expected, atol=1e-4)
    found.square().sum().backward()
    assert logits.grad.abs().max() > 0  # the later tasks teach the segmentation


@pytest.mark.parametrize("tasks", [(DEPTH, NORMALS), (DEPTH, SEGMENTATION), (SEGMENTATION,)])
def test_a_class_chain_that_leads_nowhere_is_refused(tiny, tasks):
    with pytest.raises(ValueError, match="needs the segmentation before another task"):
        tiny(tasks, retrieval="class_chain")


def test_an_unknown_retrieval_is_named(tiny):
    with pytest.raises(ValueError, match="unknown retrieval 'some'.*one_hot"):
        tiny(retrieval="some")
