# SPDX-License-Identifier: Apache-2.0
"""ResNet-18: torchvision's checkpoint loads from a file as a whole, or is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.model import ProtoMTL, build_from_manifest
from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.tasks import DEPTH, SEGMENTATION


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of torchvision's ``resnet18`` checkpoint, spelt out by hand."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)

    norm("bn1", 64)
    for layer, (inp, out) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            shapes[f"{name}.conv1.weight"] = (out, out if block else inp, 3, 3)
            norm(f"{name}.bn1", out)
            shapes[f"{name}.conv2.weight"] = (out, out, 3, 3)
            norm(f"{name}.bn2", out)
            if block == 0 and layer > 1:
                shapes[f"{name}.downsample.0.weight"] = (out, inp, 1, 1)
                norm(f"{name}.downsample.1", out)
    return shapes | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random numbers in place of the ImageNet weights, at a scale that keeps signals alive."""
    generator = torch.Generator().manual_seed(0)
    values = {}
    for name, shape in published_shapes().items():
        value = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            value = value / (shape[1] * shape[2] * shape[3]) ** 0.5
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            value = 0.5 + value.abs()
        values[name] = value
    return values


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path


def published_forward(s: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """Return the features at strides 2 .. 32, from the state dict and torch's functions alone."""

    def conv_norm(x, conv, norm, stride):
        kernel = s[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, variance = s[f"{norm}.running_mean"], s[f"{norm}.running_var"]
        x = (x - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + 1e-5).sqrt()
        return x * s[f"{norm}.weight"].view(1, -1, 1, 1) + s[f"{norm}.bias"].view(1, -1, 1, 1)

    x = conv_norm(x, "conv1", "bn1", 2).clamp_min(0)
    taps = [x]
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=float("-inf")), 3, 2)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            y = conv_norm(x, f"{name}.conv1", f"{name}.bn1", stride).clamp_min(0)
            y = conv_norm(y, f"{name}.conv2", f"{name}.bn2", 1)
            if f"{name}.downsample.0.weight" in s:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).clamp_min(0)
        taps.append(x)
    return taps


def test_a_checkpoint_gives_the_published_features(state, checkpoint):
    backbone = build_backbone("resnet18", True, checkpoint).eval()
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = backbone(image), published_forward(state, image)
    assert [tuple(tap.shape[1:]) for tap in found] == [
        (64, 48, 32), (64, 24, 16), (128, 12, 8), (256, 6, 4), (512, 3, 2),
    ]  # fmt: skip
    assert tuple(tap.shape[1] for tap in found) == backbone.channels
    for tap, reference in zip(found, expected):
        assert reference.std() > 0.1  # features that died could not differ
        assert torch.allclose(tap, reference, rtol=1e-4, atol=1e-4)


def test_images_are_normalised_as_torchvision_does():
    network = ProtoMTL([DEPTH], backbone="resnet18", width=16)
    image = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (image[0, 0, 0] / 255.0 - mean) / std
    assert torch.allclose(network.normalise(image)[0, :, 0, 0], expected, atol=1e-5)


def test_weights_are_read_from_safetensors_as_well(tmp_path):
    torch.manual_seed(3)
    saved = build_backbone("resnet18", pretrained=False)
    path = tmp_path / "weights.safetensors"
    save_file(saved.state_dict(), path)
    network = ProtoMTL(
        [SEGMENTATION], backbone="resnet18", width=16,
        pretrained=True, backbone_weights=str(path),
    )  # fmt: skip
    for key, value in saved.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[key], value), key


def refusal(weights: Path | None) -> str:
    with pytest.raises(ConfigError) as caught:
        build_backbone("resnet18", True, weights)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_wrong_file_is_refused_and_the_key_named(state, checkpoint, tmp_path):
    path = tmp_path / "wrong.pth"

    def save(content):
        torch.save(content, path)
        return path

    assert "set backbone_weights to" in refusal(None)
    assert "there is no file" in refusal(tmp_path / "nowhere.pth")
    missing = {key: value for key, value in state.items() if key != "layer3.0.conv2.weight"}
    assert "layer3.0.conv2.weight missing" in refusal(save(missing))
    assert "layer9.weight" in refusal(save(state | {"layer9.weight": torch.zeros(3)}))
    reshaped = state | {"layer2.1.conv1.weight": torch.zeros(128, 64, 3, 3)}
    assert "layer2.1.conv1.weight is (128, 64, 3, 3)" in refusal(save(reshaped))
    assert "holds no state dict" in refusal(save({"model": state, "epoch": 3}))
    path.write_bytes(b"not a checkpoint")
    assert "cannot be read as tensors alone" in refusal(path)
    # the head alone may be absent
    build_backbone("resnet18", True, save({k: v for k, v in state.items() if "fc." not in k}))
    # and another network's weights are not taken for the default backbone's
    with pytest.raises(ConfigError, match=r"stem\.0\.weight"):
        build_backbone("efficientnet_lite0", True, checkpoint)
    with pytest.raises(ConfigError, match=r"stem\.0\.weight"):
        build_backbone(
            "efficientnet_lite0", True, save({"_blocks.0._se_reduce.weight": state["fc.bias"]})
        )


def test_a_bundle_does_not_ask_for_the_file_it_was_started_from():
    network = build_from_manifest(
        {
            "tasks": ["depth"], "backbone": "resnet18", "width": 16,
            "backbone_weights": "/nowhere.pth",
        }
    )  # fmt: skip
    assert network.backbone.channels[-1] == 512


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_parts_come_in_order_from_the_image_and_cover_the_backbone(name):
    backbone = build_backbone(name, pretrained=False).eval()
    parts = backbone.parts()
    listed = [id(p) for part in parts for p in part.parameters()]
    assert sorted(listed) == sorted(id(p) for p in backbone.parameters())
    order: list[int] = []
    for index, part in enumerate(parts):
        for module in part.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda *_, index=index: order.append(index))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 32, 32))
    assert order == sorted(order) and set(order) == set(range(len(parts)))
