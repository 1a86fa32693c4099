# SPDX-License-Identifier: Apache-2.0
"""Engines give the maps of the deployed graph, and say clearly when they cannot."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tiny_bundle import expected, tiny_graph, tiny_manifest, write_tiny_bundle

from proto_mtl_ros.errors import EngineError, ProtoMtlError
from proto_mtl_ros.ros.model_loading import load_predictor
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine, available_backends, create_engine

MODELS = Path(__file__).resolve().parents[2] / "models"
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_tiny_bundle(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def engine(bundle: Bundle, request: pytest.FixtureRequest) -> Engine:
    """An engine on ONNX files; torch has tests of its own below."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return create_engine(bundle, request.param, "cpu", threads=1)


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    """A backend that reads ONNX files."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return str(request.param)


def pictures(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def refusal(bundle: Bundle, **options: object) -> str:
    """Return the line with which creating an engine is refused."""
    with pytest.raises(ProtoMtlError) as caught:
        create_engine(bundle, **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line and "\n" not in line
    return line


def bundle_with(directory: Path, graph: bytes, **changes: object) -> Bundle:
    manifest = tiny_manifest("odd").model_copy(update=changes)
    return Bundle.write(directory / "odd", manifest, {"model.onnx": graph})


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_any_batch_and_size_gives_the_values_of_the_graph(
    engine: Engine, batch: int, rows: int, columns: int
) -> None:
    images = pictures(batch, 32 * rows, 32 * columns)
    maps = engine.infer(images)
    reference = expected(images)
    assert set(maps) == set(reference)
    for name, values in reference.items():
        assert maps[name].dtype == values.dtype
        np.testing.assert_allclose(maps[name], values, rtol=1e-6)


def test_a_picture_that_is_not_contiguous_is_taken(engine: Engine) -> None:
    images = pictures(1, 64, 64)[:, :, ::-1]
    ids = engine.infer(images)["segmentation"]
    np.testing.assert_array_equal(ids, expected(images)["segmentation"])


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 33, 32, 3), np.uint8),
        np.zeros((1, 32, 31, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 4), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((0, 32, 32, 3), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_pictures_that_do_not_fit_are_refused(engine: Engine, images: np.ndarray) -> None:
    with pytest.raises(EngineError, match="the network takes"):
        engine.infer(images)


def test_auto_takes_the_fastest_and_says_so(bundle: Bundle) -> None:
    engine = create_engine(bundle, device="cpu", threads=1)
    assert isinstance(engine, Engine)
    assert (engine.name, engine.precision) == ("onnxruntime", "fp32")
    assert engine.choice == "onnxruntime fp32 on cpu (auto: the fastest that is installed)"
    assert engine.fallback is None


def test_a_backend_that_is_named_is_said_to_be_asked_for(engine: Engine) -> None:
    assert "asked for" in engine.choice


def test_a_warm_up_takes_time_and_a_closed_engine_says_so(bundle: Bundle, backend: str) -> None:
    engine = create_engine(bundle, backend, threads=1)
    assert engine.warm_up(batch=2, size=(64, 64)) > 0
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(pictures(1, 64, 64))


def test_without_any_backend_it_is_said_how_to_install_one(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "installed", lambda: False)
    said = refusal(bundle)
    assert said.startswith("no inference backend is installed: ")
    assert "pip install onnxruntime" in said and "pip install openvino" in said


def test_a_backend_that_is_broken_says_how_to_install_it(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise OSError('libx.so is missing')")
    path = os.pathsep.join((str(tmp_path), *sys.path))
    program = (
        "import sys; from proto_mtl_ros.runtime.bundle import Bundle;"
        "from proto_mtl_ros.runtime.engine import create_engine;"
        "create_engine(Bundle.load(sys.argv[1]), 'onnxruntime')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, bundle.path],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()[-1]
    assert "backend onnxruntime cannot be used (libx.so is missing): pip install" in said


@pytest.mark.parametrize("backend", ["tensorflow", "ONNXRuntime", "", "os"])
def test_an_unknown_backend_is_refused_with_those_that_there_are(
    bundle: Bundle, backend: str
) -> None:
    line = refusal(bundle, backend=backend)
    assert "no backend" in line
    assert f"use one of auto, {', '.join(available_backends())}" in line
    assert backend not in available_backends()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "auto:0", ""])
def test_an_unknown_device_is_refused(bundle: Bundle, device: str) -> None:
    assert "use auto, cpu, cuda or cuda:<index>" in refusal(bundle, device=device)


def test_a_negative_number_of_threads_is_refused(bundle: Bundle) -> None:
    assert "threads is -1" in refusal(bundle, threads=-1)


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_a_gpu_that_cannot_be_used_is_a_loud_fallback(bundle: Bundle, backend: str) -> None:
    engine = create_engine(bundle, backend, "cuda", threads=1)
    assert engine.device == "cpu"
    assert engine.fallback is not None
    assert "running on the CPU" in engine.fallback
    assert set(engine.infer(pictures(1, 32, 32))) == set(expected(pictures(1, 32, 32)))


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_auto_keeps_the_fastest_backend_if_none_has_the_gpu(bundle: Bundle) -> None:
    engine = create_engine(bundle, "auto", "cuda", threads=1)
    assert (engine.name, engine.device) == ("onnxruntime", "cpu")
    assert engine.fallback is not None and "running on the CPU" in engine.fallback


def test_what_is_no_graph_is_refused(tmp_path: Path, backend: str) -> None:
    odd = bundle_with(tmp_path, b"this is not ONNX")
    assert "it is no ONNX file" in refusal(odd, backend=backend)


def test_auto_without_any_usable_backend_gives_every_reason(tmp_path: Path) -> None:
    line = refusal(bundle_with(tmp_path, b"this is not ONNX"))
    assert "no backend can run the model" in line
    assert "it is no ONNX file" in line
    if "torch" in available_backends():
        assert "weights.safetensors" in line


def test_a_graph_without_a_promised_map_is_refused(tmp_path: Path, backend: str) -> None:
    model = tiny_graph()
    del model.graph.output[2]
    line = refusal(bundle_with(tmp_path, model.SerializeToString()), backend=backend)
    assert "gives depth as nothing" in line


def test_a_graph_with_maps_that_nobody_promised_is_taken(tmp_path: Path) -> None:
    odd = bundle_with(tmp_path, tiny_graph().SerializeToString(), tasks=("depth",))
    assert set(create_engine(odd, threads=1).infer(pictures(1, 32, 32))) == {"depth"}


def test_a_graph_that_gives_another_type_is_refused(tmp_path: Path, backend: str) -> None:
    model = tiny_graph()
    for node in model.graph.node:
        if node.output[0] == "segmentation":
            node.attribute[0].i = onnx.TensorProto.INT64
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    line = refusal(bundle_with(tmp_path, model.SerializeToString()), backend=backend)
    assert re.search(r"gives segmentation as (tensor\(int64\)|i64), not uint8", line)


def test_a_graph_that_takes_another_picture_is_refused(tmp_path: Path, backend: str) -> None:
    text = tiny_graph().SerializeToString().replace(b"image", b"photo")
    assert "takes photo" in refusal(bundle_with(tmp_path, text), backend=backend)


def test_maps_of_another_size_are_noticed(tmp_path: Path, backend: str) -> None:
    model = tiny_graph()
    shape = onnx.numpy_helper.from_array(np.array([1, 16, -1], np.int64), "shape")
    model.graph.initializer.append(shape)
    for node in model.graph.node:
        if node.output[0] == "depth":
            node.output[0] = "flat"
    model.graph.node.append(helper.make_node("Reshape", ["flat", "shape"], ["depth"]))
    odd = create_engine(bundle_with(tmp_path, model.SerializeToString()), backend, threads=1)
    with pytest.raises(EngineError, match=r"gives depth as float32\[1, 16, 64\]"):
        odd.infer(pictures(1, 32, 32))


def test_delay_loops_make_inference_slow(bundle: Bundle, tmp_path: Path) -> None:
    engine = create_engine(bundle, "onnxruntime", threads=1)
    slow = create_engine(Bundle.load(write_tiny_bundle(tmp_path, "slow", 300)), threads=1)
    images = pictures(1, 96, 128)
    np.testing.assert_allclose(slow.infer(images)["depth"], expected(images)["depth"], rtol=1e-6)
    engine.warm_up()
    assert min(slow.warm_up() for _ in range(2)) > 5 * min(engine.warm_up() for _ in range(5))


def test_a_robot_on_onnx_runtime_never_imports_torch(bundle: Bundle) -> None:
    code = f"""
import sys
import proto_mtl_ros.runtime as runtime
assert "onnxruntime" not in sys.modules and "torch" not in sys.modules
import numpy as np
bundle = runtime.Bundle.load({str(bundle.path)!r})
predictor = runtime.Predictor(bundle, runtime.create_engine(bundle, threads=1))
predictor.predict(np.zeros((60, 80, 3), np.uint8))
assert "onnxruntime" in sys.modules
found = [name for name in ("torch", "rclpy", "lightning", "onnx") if name in sys.modules]
sys.exit(f"imported: {{found}}" if found else 0)
"""
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "use one of auto, fp32, fp16, int8"),
        ({"precision": "int8"}, "proto-mtl export --precision int8"),
        ({"precision": "int8", "backend": "onnxruntime"}, "proto-mtl export --model tiny"),
        ({"precision": "fp16", "backend": "onnxruntime"}, "fp32 or int8"),
        ({"precision": "fp16", "device": "cpu"}, "use precision auto"),
    ],
)
def test_a_precision_that_cannot_be_had_says_what_can(
    bundle: Bundle, options: dict, said: str
) -> None:
    assert said in refusal(bundle, **options)


def test_int8_is_taken_where_the_model_has_it_and_the_backend_gains(
    bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    graph = bundle.onnx_path.read_bytes()
    both = Bundle.write(
        tmp_path / "both", tiny_manifest("both"), {"model.onnx": graph, "model.int8.onnx": graph}
    )
    assert create_engine(both, device="cpu").choice.startswith("openvino int8 on cpu (auto")
    assert create_engine(both, "onnxruntime", "cpu").precision == "fp32"
    assert create_engine(both, "onnxruntime", "cpu", precision="int8").precision == "int8"
    assert create_engine(both, device="cpu", precision="fp32").name == "onnxruntime"


@pytest.mark.skipif("tensorrt" not in available_backends(), reason="TensorRT is not installed")
def test_tensorrt_without_a_gpu_is_one_clear_line(bundle: Bundle) -> None:
    from proto_mtl_ros.runtime.cuda import Cuda, CudaError

    try:
        Cuda()
    except CudaError:
        assert "CUDA" in refusal(bundle, backend="tensorrt")
    else:
        pytest.skip("there is a GPU")


# --- torch ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the real architecture, small and with random fp16 weights."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    from proto_mtl_ros.model import build_from_manifest

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
    import safetensors.torch
    import torch

    from proto_mtl_ros.model import build_from_manifest
    from proto_mtl_ros.model.deploy import DeployGraph

    images = pictures(2, 64, 96)
    engine = create_engine(torch_bundle, "torch", "cpu")
    maps = engine.infer(images)
    network = build_from_manifest(dict(torch_bundle.manifest.architecture))
    stored = safetensors.torch.load_file(torch_bundle.weights_path)
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
    said = refusal(torch_bundle, backend="torch", device="cpu", precision=precision)
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
    assert "does not hold the weights" in refusal(other, backend="torch")


@pytest.mark.parametrize("architecture", [{}, {"tasks": ["smell"]}, {"tasks": [], "legs": 4}])
def test_an_architecture_of_another_release_is_refused(
    torch_bundle: Bundle, tmp_path: Path, architecture: dict
) -> None:
    manifest = torch_bundle.manifest.model_copy(update={"architecture": architecture})
    other = Bundle.write(tmp_path / "o", manifest, {"weights.safetensors": b"unread"})
    assert "cannot build the architecture" in refusal(other, backend="torch")


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_pickled_weights_are_never_opened(torch_bundle: Bundle, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    other = Bundle.write(
        tmp_path / "o", torch_bundle.manifest, {"weights.safetensors": pickle.dumps(_Trap(trap))}
    )
    assert "does not hold the weights" in refusal(other, backend="torch")
    assert not trap.exists()


def test_torch_without_a_gpu_is_a_loud_fallback(torch_bundle: Bundle) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    engine = create_engine(torch_bundle, "torch", "cuda:0")
    assert engine.device == "cpu"
    assert engine.fallback is not None
    assert "running on the CPU" in engine.fallback
    assert create_engine(torch_bundle, "torch", "auto").fallback is None


@pytest.mark.parametrize("model", sorted(path.parent.name for path in MODELS.glob("*/model.json")))
def test_every_engine_gives_the_maps_of_torch(model: str, backend: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    bundle = Bundle.load(MODELS / model)
    images = np.repeat(np.repeat(pictures(1, 12, 16), 16, axis=1), 16, axis=2)
    reference = create_engine(bundle, "torch", "cpu").infer(images)
    maps = create_engine(bundle, backend, "cpu", threads=1, precision="fp32").infer(images)
    assert (maps["segmentation"] == reference["segmentation"]).mean() > 0.99
    assert np.abs(maps["confidence"].astype(int) - reference["confidence"]).mean() < 1
    np.testing.assert_allclose(maps["depth"], reference["depth"], rtol=0.02, atol=0.01)
    assert np.abs(maps["normals"] - reference["normals"]).max() < 0.02


def test_a_bundle_that_was_replaced_is_not_run_with_the_old_classes(
    tmp_path: Path, backend: str
) -> None:
    graph = tiny_graph().SerializeToString()
    bundle = bundle_with(tmp_path, graph)
    bundle_with(tmp_path, graph, temperature=2.0)
    assert "was replaced while it was loaded" in refusal(bundle, backend=backend)


def test_a_model_that_is_exported_again_while_it_is_loaded_is_the_one_or_the_other(
    tmp_path: Path,
) -> None:
    sides = {"left": (-1.0, 0.0, 0.0), "right": (1.0, 0.0, 0.0)}
    graphs = {name: tiny_graph(direction=side).SerializeToString() for name, side in sides.items()}
    values = Parameters(
        model=str(tmp_path / "m"), backend="onnxruntime", threads=1, output_size="network"
    )

    def export(name: str) -> None:
        manifest = tiny_manifest().model_copy(update={"name": name})
        Bundle.write(tmp_path / "m", manifest, {"model.onnx": graphs[name]})

    def exports() -> None:
        for _ in range(15):
            export("right")
            export("left")

    export("left")
    writer = threading.Thread(target=exports)
    writer.start()
    seen = []
    while writer.is_alive():
        try:
            predictor = load_predictor(values)
        except ProtoMtlError as error:  # replaced twice within one loading
            assert "was replaced while it was loaded" in str(error)
            continue
        name = predictor.bundle.name
        normals = predictor.predict(np.zeros((96, 128, 3), np.uint8))["normals"]
        np.testing.assert_allclose(normals[0, 0], sides[name])
        predictor.close()
        seen.append(name)
    writer.join()
    assert set(seen) == set(sides)
