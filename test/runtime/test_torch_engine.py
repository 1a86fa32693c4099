# SPDX-License-Identifier: Apache-2.0
"""The torch backend: the reference that every other engine is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import tiny_manifest

torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from proto_mtl_ros.errors import EngineError, ProtoMtlError  # noqa: E402
from proto_mtl_ros.model import build_from_manifest  # noqa: E402
from proto_mtl_ros.model.deploy import DeployGraph  # noqa: E402
from proto_mtl_ros.runtime import Bundle, create_engine  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / "models"


def pictures(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)


def refusal(bundle: Bundle, **options: object) -> str:
    with pytest.raises(ProtoMtlError) as caught:
        create_engine(bundle, "torch", **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line and "\n" not in line
    return line


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the real architecture, small and with random fp16 weights."""
    manifest = tiny_manifest("untrained")
    architecture = {
        "tasks": list(manifest.tasks),
        "classes": list(manifest.classes),
        "width": 32,
        "head_width": 16,
    }
    torch.manual_seed(0)
    network = build_from_manifest(architecture).eval()
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    return Bundle.write(
        tmp_path_factory.mktemp("models") / "untrained",
        manifest.model_copy(update={"architecture": architecture, "temperature": 1.5}),
        {"weights.safetensors": safetensors.save(half)},
    )


def test_torch_gives_what_its_network_gives(torch_bundle: Bundle) -> None:
    images = pictures(2, 64, 96)
    engine = create_engine(torch_bundle, "torch", "cpu")
    maps = engine.infer(images)
    network = build_from_manifest(dict(torch_bundle.manifest.architecture))
    stored = safetensors.load_file(torch_bundle.weights_path)
    network.load_state_dict({name: value.to(torch.float32) for name, value in stored.items()})
    with torch.no_grad():
        ids, confidence, depth, normals = DeployGraph(network, 1.5).eval()(torch.from_numpy(images))
    assert maps["segmentation"].dtype == np.uint8
    assert (maps["segmentation"] == ids.numpy()).mean() > 0.99
    assert np.abs(maps["confidence"].astype(int) - confidence.numpy()).max() <= 2
    np.testing.assert_allclose(maps["depth"], depth.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(maps["normals"], normals.numpy(), atol=1e-3)
    assert all(values.flags.c_contiguous for values in maps.values())
    frozen = images.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(engine.infer(frozen)["depth"], maps["depth"])
    assert engine.warm_up(size=(32, 32)) > 0
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(images)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_torch_on_a_cpu_says_which_precision_it_runs(torch_bundle: Bundle, precision: str) -> None:
    said = refusal(torch_bundle, device="cpu", precision=precision)
    assert f"torch does not run {precision} on cpu: choose fp32" in said


def test_auto_falls_back_loudly_to_torch(torch_bundle: Bundle) -> None:
    engine = create_engine(torch_bundle, device="cpu")
    assert engine.name == "torch"
    assert engine.fallback is not None
    assert "untrained has no model.onnx" in engine.fallback
    assert "the fastest that works" in engine.choice


def test_weights_of_another_architecture_are_refused(torch_bundle: Bundle, tmp_path: Path) -> None:
    architecture = dict(torch_bundle.manifest.architecture) | {"width": 64}
    manifest = torch_bundle.manifest.model_copy(update={"architecture": architecture})
    other = Bundle.write(
        tmp_path / "o", manifest, {"weights.safetensors": torch_bundle.weights_path}
    )
    assert "does not hold the weights" in refusal(other)


@pytest.mark.parametrize("architecture", [{}, {"tasks": ["smell"]}, {"tasks": [], "legs": 4}])
def test_an_architecture_of_another_release_is_refused(
    torch_bundle: Bundle, tmp_path: Path, architecture: dict
) -> None:
    manifest = torch_bundle.manifest.model_copy(update={"architecture": architecture})
    other = Bundle.write(tmp_path / "o", manifest, {"weights.safetensors": b"unread"})
    assert "cannot build the architecture" in refusal(other)


def test_torch_without_a_gpu_is_a_loud_fallback(torch_bundle: Bundle) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    engine = create_engine(torch_bundle, "torch", "cuda:0")
    assert engine.device == "cpu"
    assert engine.fallback is not None
    assert "running on the CPU" in engine.fallback
    assert create_engine(torch_bundle, "torch", "auto").fallback is None


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("model", sorted(path.parent.name for path in MODELS.glob("*/model.json")))
def test_every_engine_gives_the_maps_of_torch(model: str, backend: str) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    bundle = Bundle.load(MODELS / model)
    images = np.repeat(np.repeat(pictures(1, 12, 16), 16, axis=1), 16, axis=2)
    reference = create_engine(bundle, "torch", "cpu").infer(images)
    maps = create_engine(bundle, backend, "cpu", threads=1, precision="fp32").infer(images)
    assert (maps["segmentation"] == reference["segmentation"]).mean() > 0.99
    assert np.abs(maps["confidence"].astype(int) - reference["confidence"]).mean() < 1
    np.testing.assert_allclose(maps["depth"], reference["depth"], rtol=0.02, atol=0.01)
    assert np.abs(maps["normals"] - reference["normals"]).max() < 0.02
