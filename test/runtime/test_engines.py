# SPDX-License-Identifier: Apache-2.0
"""Engines give the maps of the deployed graph, and say clearly when they cannot."""

from __future__ import annotations

import os
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


@settings(max_examples=8, deadline=None)
@given(batch=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_any_batch_and_size_gives_the_values_of_the_graph(
    engine: Engine, batch: int, rows: int, columns: int
) -> None:
    images = pictures(batch, 32 * rows, 32 * columns)[:, :, ::-1]  # not contiguous
    maps = engine.infer(images)
    reference = expected(images)
    assert set(maps) == set(reference)
    for name, values in reference.items():
        assert maps[name].dtype == values.dtype
        np.testing.assert_allclose(maps[name], values, rtol=1e-6)


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


def test_a_warm_up_takes_time_and_a_closed_engine_says_so(bundle: Bundle, backend: str) -> None:
    engine = create_engine(bundle, backend, threads=1)
    assert "asked for" in engine.choice
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
    assert "threads is -1" in refusal(bundle, threads=-1)


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_a_gpu_that_cannot_be_used_is_a_loud_fallback(bundle: Bundle, backend: str) -> None:
    engine = create_engine(bundle, backend, "cuda", threads=1)
    assert engine.device == "cpu"
    assert engine.fallback is not None
    assert "running on the CPU" in engine.fallback
    assert set(engine.infer(pictures(1, 32, 32))) == set(expected(pictures(1, 32, 32)))
    fastest = create_engine(bundle, "auto", "cuda", threads=1)
    assert (fastest.name, fastest.device) == ("onnxruntime", "cpu")
    assert fastest.fallback is not None and "running on the CPU" in fastest.fallback


def test_what_is_no_graph_is_refused(tmp_path: Path, backend: str) -> None:
    odd = bundle_with(tmp_path, b"this is not ONNX")
    assert "it is no ONNX file" in refusal(odd, backend=backend)
    line = refusal(odd)  # of all backends
    assert "no backend can run the model" in line and "it is no ONNX file" in line
    assert "weights.safetensors" in line or "torch" not in available_backends()


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
