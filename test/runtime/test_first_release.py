# SPDX-License-Identifier: Apache-2.0
"""Bundles of the first release run unchanged: a small one and the shape of a large one are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import expected

import proto_mtl_ros
from proto_mtl_ros.runtime import Bundle, create_engine

SUPPORT = Path(__file__).resolve().parents[1] / "support"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_its_graph_gives_the_same_maps(backend: str) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    bundle = Bundle.load(SUPPORT / "first_release")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    maps = create_engine(bundle, backend, "cpu", threads=1).infer(images)
    for name, values in expected(images).items():
        np.testing.assert_allclose(maps[name], values, rtol=1e-6)
    predictor = proto_mtl_ros.load(str(SUPPORT / "first_release"), backend, "cpu")
    assert list(predictor(images[0])) == ["segmentation", "confidence", "depth", "normals"]


def test_its_network_is_built_with_the_same_weights() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from proto_mtl_ros.model import build_from_manifest

    stored = json.loads((SUPPORT / "first_release_network.json").read_text())
    with torch.device("meta"):
        network = build_from_manifest(stored["architecture"])
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes == stored["shapes"]
