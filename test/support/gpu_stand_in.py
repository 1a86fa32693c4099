# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a GPU: CUDA's runtime library and TensorRT's runtime, in the host's memory.

It keeps account of what is allocated, records into CUDA graphs instead of doing, refuses what CUDA
refuses, and runs an ONNX graph where TensorRT would run its engine. Whether NVIDIA's libraries do
the same only a machine with their GPU shows; that every call exists is in test_tensorrt_api.py.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

INVALID, OUT_OF_MEMORY, ILLEGAL_ADDRESS = 1, 2, 700
NO_DEVICE = 100
TEXTS = {
    INVALID: b"invalid argument",
    OUT_OF_MEMORY: b"out of memory",
    NO_DEVICE: b"no CUDA-capable device",
    ILLEGAL_ADDRESS: b"an illegal memory access was encountered",
}


class StandInCuda:
    """libcudart with ``gpus`` GPUs of ``room`` bytes; streams are in order, so they do at once.

    Attributes:
        memory, pinned: address -> what is allocated and not freed.
        fail: name of a function -> the status that it gives from now on.
    """

    def __init__(self, gpus: int = 1, room: int = 1 << 24) -> None:
        self.gpus, self.room = gpus, room
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Callable[[], int]]] = {}
        self.recording: list[Callable[[], int]] | None = None
        self.fail: dict[str, int] = {}
        self._next = 100

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and name in self.fail:
            return lambda *_: self.fail[name]
        return super().__getattribute__(name)

    def do(self, what: Callable[[], int]) -> int:
        """Do something in a stream, or record it."""
        if self.recording is None:
            return what()
        self.recording.append(what)
        return 0

    class _Text:
        restype: Any = None

        def __call__(self, status: ctypes.c_int) -> bytes:
            return TEXTS[status.value]

    cudaGetErrorString = _Text()

    def cudaGetDeviceCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0 if self.gpus else NO_DEVICE

    def cudaSetDevice(self, index: ctypes.c_int) -> int:
        return 0 if index.value < self.gpus else INVALID

    def cudaDeviceGetAttribute(self, value: Any, attribute: Any, index: Any) -> int:
        value._obj.value = {75: 8, 76: 7}[attribute.value]
        return 0

    def cudaGetDeviceProperties(self, properties: Any, index: Any) -> int:
        properties.value = b"Stand-in"
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.room - self.used(), self.room
        return 0

    def used(self) -> int:
        return sum(map(len, self.memory.values()))

    def cudaMalloc(self, pointer: Any, size: ctypes.c_size_t) -> int:
        if self.used() + size.value > self.room:
            return OUT_OF_MEMORY
        return self._allocate(self.memory, pointer, size)

    def cudaHostAlloc(self, pointer: Any, size: ctypes.c_size_t, flags: Any) -> int:
        return self._allocate(self.pinned, pointer, size)

    def _allocate(self, where: dict[int, Any], pointer: Any, size: ctypes.c_size_t) -> int:
        block = (ctypes.c_ubyte * size.value)()
        pointer._obj.value = ctypes.addressof(block)
        where[ctypes.addressof(block)] = block
        return 0

    def cudaFree(self, pointer: ctypes.c_void_p) -> int:
        return 0 if self.memory.pop(pointer.value or 0, None) is not None else INVALID

    def cudaFreeHost(self, pointer: ctypes.c_void_p) -> int:
        return 0 if self.pinned.pop(pointer.value or 0, None) is not None else INVALID

    def cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        ends = (self.memory, self.pinned) if kind.value == 1 else (self.pinned, self.memory)
        target, origin = ends[0].get(to.value), ends[1].get(source.value)
        if target is None or origin is None or size.value > min(len(target), len(origin)):
            return INVALID

        def copy() -> int:
            ctypes.memmove(target, origin, size.value)
            return 0

        return self.do(copy)

    def cudaStreamCreate(self, stream: Any) -> int:
        self._next += 1
        stream._obj.value = self._next
        self.streams.add(self._next)
        return 0

    def cudaStreamDestroy(self, stream: ctypes.c_void_p) -> int:
        if stream.value not in self.streams:
            return INVALID
        self.streams.remove(stream.value)
        return 0

    def cudaStreamSynchronize(self, stream: ctypes.c_void_p) -> int:
        return 0 if stream.value in self.streams and self.recording is None else INVALID

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> int:
        self.recording = []
        return 0

    def cudaStreamEndCapture(self, stream: Any, graph: Any) -> int:
        self._next += 1
        graph._obj.value = self._next
        self.graphs[self._next], self.recording = self.recording or [], None
        return 0

    def cudaGraphInstantiateWithFlags(self, ready: Any, graph: Any, flags: Any) -> int:
        self._next += 1
        ready._obj.value = self._next
        self.graphs[self._next] = self.graphs[graph.value]
        return 0

    def cudaGraphDestroy(self, graph: Any) -> int:
        del self.graphs[graph.value]
        return 0

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> int:
        for step in self.graphs.get(graph.value, [lambda: INVALID]):
            if status := step():
                return status
        return 0


class StandInParser:
    """Reads any file; what it is comes out when it runs."""

    num_errors = 0

    def __init__(self, network: Any, log: Any) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.content = Path(path).read_bytes()
        return True


class StandInBuilder:
    """The ONNX graph is the engine. $STAND_IN_BUILD names a file: building goes on until it has
    gone, and fails if "fail" stands in it.
    """

    def __init__(self, log: Any) -> None:
        self._log = log

    def create_network(self, flags: int) -> Any:
        assert flags == 0b11
        return SimpleNamespace(content=b"")

    def create_builder_config(self) -> Any:
        return SimpleNamespace(add_optimization_profile=lambda profile: 0)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda name, smallest, best, largest: None)

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        hold = Path(os.environ.get("STAND_IN_BUILD", "/nowhere"))
        config.progress_monitor.phase_start("Building engine", None, 2)
        config.progress_monitor.step_complete("Building engine", 1)
        while hold.exists():
            time.sleep(0.05)
            if hold.exists() and "fail" in hold.read_text():
                self._log.log("ERROR", "no tactic for this GPU")
                return None
        config.progress_monitor.phase_finish("Building engine")
        return bytes(network.content)


def stand_in_tensorrt(cuda: StandInCuda, most: tuple[int, int, int]) -> Any:
    """Return what is used of the module ``tensorrt`` to run engines; an engine is an ONNX graph.

    Args:
        cuda: whose memory engines work on.
        most: largest batch, height and width.
    """
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}

    class Context:
        def __init__(self, session: Any) -> None:
            self.session = session
            self.shape: tuple[int, ...] = ()
            self.addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shape = shape
            return all(size <= limit for size, limit in zip(shape, most, strict=False))

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert address in cuda.memory
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert stream in cuda.streams
            return library.works and cuda.do(self._run) == 0

        def _run(self) -> int:
            image = np.frombuffer(cuda.memory[self.addresses["image"]], np.uint8)
            names = [one.name for one in self.session.get_outputs()]
            maps = self.session.run(names, {"image": image.reshape(self.shape)})
            for name, values in zip(names, maps, strict=True):
                ctypes.memmove(cuda.memory[self.addresses[name]], values.tobytes(), values.nbytes)
            return 0

    class Engine:
        def __init__(self, content: bytes) -> None:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            inputs, outputs = session.get_inputs(), session.get_outputs()
            self._session = session
            self._modes = {one.name: "INPUT" for one in inputs}
            self._kinds = {one.name: kinds[one.type] for one in (*inputs, *outputs)}
            self.num_io_tensors = len(self._kinds)

        def get_tensor_name(self, index: int) -> str:
            return list(self._kinds)[index]

        def get_tensor_mode(self, name: str) -> str:
            return self._modes.get(name, "OUTPUT")

        def get_tensor_dtype(self, name: str) -> Any:
            return self._kinds[name]

        def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
            return (1, 32, 32, 3), (1, 32, 32, 3), (*most, 3)

        def create_execution_context(self) -> Context | None:
            return Context(self._session) if library.contexts else None

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            try:
                return Engine(content)
            except Exception:
                self._log.log("ERROR", "the engine is of another version")
                return None

    library = SimpleNamespace(
        __version__="10.3.0",
        Runtime=Runtime,
        Builder=StandInBuilder,
        OnnxParser=StandInParser,
        NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1),
        IProgressMonitor=object,
        ILogger=type("ILogger", (), {"ERROR": "ERROR", "INTERNAL_ERROR": "INTERNAL_ERROR"}),
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        nptype=lambda kind: kind,
        works=True,
        contexts=True,
    )
    return library
