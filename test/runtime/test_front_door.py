# SPDX-License-Identifier: Apache-2.0
"""`proto_mtl_ros.load`, backends that another package brings, bundles of the first release."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import CANONICAL_FX, INPUT_SIZE, expected, write_tiny_bundle

import proto_mtl_ros
from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.runtime import Bundle, create_engine

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "test" / "support"

FOUR_LINES = """
import proto_mtl_ros
assert not {"torch", "rclpy", "cv2", "numpy", "onnxruntime"} & set(sys.modules)
predictor = proto_mtl_ros.load("nyu13-lite0")
prediction = predictor(rgb, 69.4)
metres = prediction["depth"]
assert metres.shape == (120, 160) and prediction["segmentation"].dtype == "uint8"
assert not {"torch", "rclpy"} & set(sys.modules)
"""

TOY_BACKEND = """
import numpy as np
from proto_mtl_ros.runtime.backend import Engine, register_backend

@register_backend
class Toy(Engine):
    name = title = "toy"
    requires = (("json",),)
    install = "nothing to install"
    ranks = {("cpu", "fp32"): 1}

    def __init__(self, bundle, options):
        super().__init__(bundle.manifest, "cpu", "fp32")

    def _run(self, images):
        return {name: np.ones(m.shape(images.shape), m.dtype) for name, m in self._outputs.items()}

    def _release(self):
        pass
"""


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT, *sys.path)))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )


def test_four_lines_give_metres_without_ros_and_torch() -> None:
    # without the site's packages: a plugin that is installed there may import what it likes
    code = "import sys\nrgb = bytearray(120 * 160 * 3)\n" + FOUR_LINES.replace(
        "predictor(rgb", "predictor(__import__('numpy').frombuffer(rgb, 'u1').reshape(120, 160, 3)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_a_camera_is_an_object_a_matrix_or_an_angle(tmp_path: Path) -> None:
    predictor = proto_mtl_ros.load(str(write_tiny_bundle(tmp_path)), "onnxruntime", "cpu")
    height, width = INPUT_SIZE
    rgb = np.full((height, width, 3), 51, np.uint8)
    matrix = np.array([[2 * CANONICAL_FX, 0, 63.5], [0, 300, 47.5], [0, 0, 1]])
    degrees = 2 * np.degrees(np.arctan(width / 2 / (2 * CANONICAL_FX)))
    unknown = predictor(rgb)["depth"]
    for camera in (Camera(matrix, width, height), matrix, degrees):
        prediction = predictor(rgb, camera)
        assert prediction.metric and list(prediction) == [
            "segmentation", "confidence", "depth", "normals",
        ]  # fmt: skip
        np.testing.assert_allclose(prediction["depth"], 2 * unknown, rtol=1e-5)
    predictor.close()
    with pytest.raises(EngineError, match="closed"):
        predictor(rgb)


def test_a_backend_is_one_file_from_outside(tmp_path: Path) -> None:
    """It is found by its entry point, listed, and the fastest by the rank that it states."""
    model = write_tiny_bundle(tmp_path)
    (tmp_path / "toy_backend.py").write_text(TOY_BACKEND)
    info = tmp_path / "toy_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[proto_mtl_ros.plugins]\ntoy = toy_backend\n")
    code = f"""
import numpy as np, proto_mtl_ros
from proto_mtl_ros.runtime import available_backends
assert "toy" in available_backends()
predictor = proto_mtl_ros.load({str(model)!r}, device="cpu")
assert predictor.engine.choice == "toy fp32 on cpu (auto: the fastest that is installed)"
assert (predictor(np.zeros((60, 80, 3), np.uint8))["depth"] == 1).all()
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_of_the_first_release_gives_the_same_maps(backend: str) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    bundle = Bundle.load(SUPPORT / "first_release")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    maps = create_engine(bundle, backend, "cpu", threads=1).infer(images)
    for name, values in expected(images).items():
        np.testing.assert_allclose(maps[name], values, rtol=1e-6)
    predictor = proto_mtl_ros.load(str(SUPPORT / "first_release"), backend, "cpu")
    assert list(predictor(images[0])) == ["segmentation", "confidence", "depth", "normals"]


def test_a_network_of_the_first_release_is_refused_by_torch_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    stored = json.loads((SUPPORT / "first_release" / "model.json").read_text())
    stored["architecture"] = {"tasks": stored["tasks"], "classes": stored["classes"], "slots": 4}
    weights = b"its own"
    stored["files"]["weights.safetensors"] = hashlib.sha256(weights).hexdigest()
    shutil.copytree(SUPPORT / "first_release", tmp_path / "old")
    (tmp_path / "old" / "model.json").write_text(json.dumps(stored))
    (tmp_path / "old" / "weights.safetensors").write_bytes(weights)
    with pytest.raises(
        EngineError, match="before 0.3.*onnxruntime, openvino or tensorrt"
    ) as caught:
        proto_mtl_ros.load(str(tmp_path / "old"), "torch", "cpu")
    assert "\n" not in str(caught.value)
