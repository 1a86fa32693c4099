# SPDX-License-Identifier: Apache-2.0
"""What the TensorRT backend does with a GPU, on a stand-in of one: values, memory, failures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the stand-in runs engines with it")

from gpu_stand_in import ILLEGAL_ADDRESS, OUT_OF_MEMORY, StandInCuda, stand_in_tensorrt
from tiny_bundle import expected, tiny_graph, write_tiny_bundle

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.runtime import cuda as cuda_module
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.cuda import Buffer, Cuda, CudaError
from proto_mtl_ros.runtime.engine import Engine, create_engine
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt, EnginePlan

MOST = (2, 96, 128)


def pictures(batch: int, height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandInCuda:
    library = StandInCuda()
    monkeypatch.setattr(cuda_module, "_load_library", lambda: library)
    return library


@pytest.fixture
def tensorrt(gpu: StandInCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = stand_in_tensorrt(gpu, MOST)
    library.__spec__ = object()  # installed
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    return library


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("PROTO_MTL_CACHE", str(tmp_path / "cache"))
    return Bundle.load(write_tiny_bundle(tmp_path))


@pytest.fixture
def load(tensorrt: Any, bundle: Bundle) -> Callable[..., Engine]:
    def load(content: bytes = b"") -> Engine:
        plan = EnginePlan.of(bundle, "Stand-in", "8.7", "fp16", None, 2)
        plan.cache.store(plan.key, content or tiny_graph().SerializeToString())
        return create_engine(bundle, "tensorrt", max_batch=2)

    return load


def nothing_is_left(gpu: StandInCuda) -> bool:
    return not (gpu.memory or gpu.pinned or gpu.streams or gpu.graphs)


def test_values_of_every_shape_are_those_of_the_graph(
    load: Callable[..., Engine], gpu: StandInCuda
) -> None:
    engine = load()
    assert engine.choice == "tensorrt fp16 on cuda:0 (as asked for)"
    kept = []
    for seed, batch, height, width in ((0, 1, 96, 128), (1, 2, 96, 128), (2, 1, 64, 32),
                                       (3, 1, 96, 128), (4, 2, 96, 128)):  # fmt: skip
        images = pictures(batch, height, width, seed)
        kept.append((engine.infer(images), expected(images)))
    for maps, values in kept:  # none was overwritten by a later run
        for name, value in values.items():
            np.testing.assert_allclose(maps[name], value, rtol=1e-6)
    # three shapes: four maps and the image each, a graph each
    assert (len(gpu.memory), len(gpu.pinned), len(gpu.graphs)) == (15, 15, 3)
    engine.close()
    assert nothing_is_left(gpu)


def test_without_an_engine_it_says_how_to_build_one(tensorrt: Any, bundle: Bundle) -> None:
    with pytest.raises(EngineNotBuilt, match="build it with `proto-mtl engine build --model tiny`"):
        create_engine(bundle, "tensorrt")
    engine = create_engine(bundle)
    assert engine.name != "tensorrt" and engine.not_built is not None
    engine.close()


def test_an_engine_that_cannot_be_read_is_named(load: Callable[..., Engine]) -> None:
    with pytest.raises(EngineError, match=r"cannot read its engine \(the engine is of another.*"
                                          r"delete .*\.engine to build another"):  # fmt: skip
        load(b"of another version")


def test_an_engine_of_other_maps_is_refused(load: Callable[..., Engine], gpu: StandInCuda) -> None:
    graph = tiny_graph()
    del graph.graph.output[-1]
    with pytest.raises(EngineError, match="normals"):
        load(graph.SerializeToString())
    assert nothing_is_left(gpu)


def test_a_size_that_it_was_not_built_for_is_told(
    load: Callable[..., Engine], gpu: StandInCuda
) -> None:
    engine = load()
    with pytest.raises(EngineError, match=r"from \[1, 32, 32, 3\] to \[2, 96, 128, 3\], not"):
        engine.infer(pictures(1, 128, 128))
    engine.infer(pictures(1))
    engine.close()
    assert nothing_is_left(gpu)


@pytest.mark.parametrize(
    ("function", "status", "said"),
    [
        ("cudaMalloc", OUT_OF_MEMORY, "cudaMalloc failed: out of memory"),
        ("cudaHostAlloc", OUT_OF_MEMORY, "cudaHostAlloc failed: out of memory"),
        ("cudaStreamSynchronize", ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
        ("cudaStreamBeginCapture", ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
        ("cudaGraphInstantiateWithFlags", OUT_OF_MEMORY, "out of memory"),
        ("works", 0, "TensorRT failed: "),
        ("contexts", 0, "the GPU has no room for the engine"),
        ("room", 0, "out of memory"),  # for the image and some of its maps
    ],
)
def test_a_failure_at_first_is_told_takes_no_memory_and_is_tried_again(
    load: Callable[..., Engine], gpu: StandInCuda, tensorrt: Any, function: str, status: int,
    said: str,
) -> None:  # fmt: skip
    engine = load()
    for _ in range(2):
        if function == "room":
            gpu.room = 150_000
        elif status:
            gpu.fail[function] = status
        else:
            setattr(tensorrt, function, False)
        with pytest.raises(EngineError, match=said):
            engine.infer(pictures(1))
        assert not gpu.memory and not gpu.pinned
    gpu.fail.clear()
    gpu.room = 1 << 24
    tensorrt.works = tensorrt.contexts = True
    images = pictures(1)
    np.testing.assert_array_equal(
        engine.infer(images)["segmentation"], expected(images)["segmentation"]
    )
    engine.close()


def test_a_gpu_that_is_lost_later_is_told_each_time(
    load: Callable[..., Engine], gpu: StandInCuda
) -> None:
    engine = load()
    engine.infer(pictures(1))
    gpu.fail["cudaGraphLaunch"] = ILLEGAL_ADDRESS
    for _ in range(2):
        with pytest.raises(CudaError, match="cudaGraphLaunch failed: an illegal memory access"):
            engine.infer(pictures(1))


def test_what_a_gpu_says_of_itself(gpu: StandInCuda) -> None:
    cuda = Cuda()
    assert (cuda.name, cuda.capability) == ("Stand-in", "8.7")
    buffer = Buffer(cuda, (1024,), np.dtype(np.float32))
    assert [len(memory) for memory in gpu.memory.values()] == [4096]
    buffer.free()
    buffer.free()
    assert nothing_is_left(gpu)


def test_no_gpu_or_not_that_one(gpu: StandInCuda) -> None:
    with pytest.raises(CudaError, match="there is no GPU 3, only 1: choose another device"):
        Cuda(3)
    gpu.gpus = 0
    with pytest.raises(CudaError, match=r"no CUDA GPU can be used \(no CUDA-capable device\)"):
        Cuda()
