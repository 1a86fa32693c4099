# SPDX-License-Identifier: Apache-2.0
"""TensorRT: engines are built by the real builder, which needs no GPU; running one needs it.

Everything up to reading a built engine is tried here with TensorRT-RTX, whose wheels come from
PyPI. Its GPUs are named, as there is none to ask.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from proto_mtl_ros.cli.engine import app
from proto_mtl_ros.errors import EngineError, ProtoMtlError
from proto_mtl_ros.ros.model_loading import Loading
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import available_backends
from proto_mtl_ros.runtime.engine_cache import EngineCache
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt, EnginePlan

MODELS = Path(__file__).resolve().parents[2] / "models"
GPU, CAPABILITY = "a GPU", "8.6"
VALUES = Parameters(
    model=str(MODELS / "nyu13-lite0"), backend="onnxruntime", device="cpu", threads=1
)

pytestmark = pytest.mark.skipif(
    "tensorrt" not in available_backends(),
    reason="neither tensorrt nor tensorrt-rtx is installed",
)


def plan_of(bundle: Bundle, folder: Path, **options: object) -> EnginePlan:
    cache = EngineCache(folder / "cache")
    return EnginePlan.of(bundle, GPU, CAPABILITY, build_for=CAPABILITY, cache=cache, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load(MODELS / "nyu13-lite0")


def with_an_unknown_operator(bundle: Bundle, folder: Path) -> Bundle:
    model = onnx.load(str(bundle.onnx_path))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "NoSuchOperator"
    return Bundle.write(folder, bundle.manifest, {"model.onnx": model.SerializeToString()})


@pytest.mark.parametrize(
    ("precision", "max_batch"),
    [
        pytest.param("fp32", 1, marks=pytest.mark.slow),
        ("fp16", 1),
        pytest.param("fp16", 4, marks=pytest.mark.slow),
    ],
)
def test_engines_of_the_shipped_model_are_built_stored_and_found(
    shipped: Bundle, tmp_path: Path, precision: str, max_batch: int
) -> None:
    plan = plan_of(shipped, tmp_path, precision=precision, max_batch=max_batch)
    with pytest.raises(EngineNotBuilt, match="none was built yet"):
        plan.find()
    told: list[tuple[float, str]] = []
    path = plan.build(lambda share, what: told.append((share, what)))
    assert plan.find() == path.read_bytes()
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    weights = shipped.onnx_path.stat().st_size  # fp16
    size = path.stat().st_size
    assert size > 0.9 * weights * (2 if precision == "fp32" else 1)
    if precision == "fp16":
        assert size < 1.8 * weights
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".engine", ".json"]
    other = plan_of(shipped, tmp_path, precision=precision, max_batch=max_batch + 1)
    with pytest.raises(EngineNotBuilt, match="shapes: .* ->"):
        other.find()


def test_a_graph_that_the_builder_does_not_take_is_one_clear_line(
    shipped: Bundle, tmp_path: Path
) -> None:
    odd = with_an_unknown_operator(shipped, tmp_path / "odd")
    plan = plan_of(odd, tmp_path, precision="fp32")
    with pytest.raises(EngineError, match="NoSuchOperator") as caught:
        plan.build(lambda *_: None)
    assert "\n" not in str(caught.value)
    assert not plan.path.exists()
    cache = EngineCache(tmp_path)  # nor is there a GPU of that name
    old = EnginePlan.of(shipped, GPU, "3.5", "fp32", build_for="3.5", cache=cache)
    with pytest.raises(EngineError, match="SM86|of the machine"):
        old.build(lambda *_: None)


def test_the_command_says_why_nothing_can_be_built() -> None:
    command = ["build", "--model", str(MODELS / "nyu13-lite0"), "--gpu", "99"]
    with pytest.raises(ProtoMtlError, match="CUDA"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_node_builds_beside_its_work_and_loads_what_was_built(
    shipped: Bundle, tmp_path: Path
) -> None:
    """What is loaded afterwards is what the parameters name; without a GPU not the new engine."""
    plan = plan_of(shipped, tmp_path, precision="fp32")
    predictor = Loading(VALUES, plan=plan).wait(threading.Event())
    assert predictor.engine.name == "onnxruntime"
    assert plan.path.is_file()


@pytest.mark.slow
def test_an_engine_that_cannot_be_kept_is_taken_into_use(shipped: Bundle, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    plan = plan_of(shipped, tmp_path, precision="fp32")
    loading = Loading(VALUES, plan=plan)
    loading.wait(threading.Event())
    assert "PROTO_MTL_CACHE" in loading.warning and "\n" not in loading.warning
    assert len(plan.find()) > 1_000_000


def test_a_build_that_is_given_up_ends(shipped: Bundle, tmp_path: Path) -> None:
    before = threading.active_count()
    loading = Loading(VALUES, plan=plan_of(shipped, tmp_path, precision="fp32"))
    loading.abandon("given up")
    end = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() == before
    assert not list(tmp_path.rglob("*.engine"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "use fp16, fp32, int8"),
        ({"precision": "int8"}, "proto-mtl export --model nyu13-lite0 --precision int8"),
        ({"size": (100, 128)}, "multiples of 32"),
        ({"max_batch": 0}, "1..64"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(
    shipped: Bundle, tmp_path: Path, options: dict, said: str
) -> None:
    with pytest.raises(ProtoMtlError, match=said):
        plan_of(shipped, tmp_path, **options)


def test_a_broken_library_is_one_clear_line(
    shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the wheels of PyPI that are stubs of NVIDIA's."""
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(EngineError, match="libnvinfer.so.10"):
        plan_of(shipped, tmp_path)
