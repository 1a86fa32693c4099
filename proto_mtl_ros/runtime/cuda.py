# SPDX-License-Identifier: Apache-2.0
"""The few calls of the CUDA runtime that an engine needs, by ctypes: nothing to install.

JetPack and every CUDA installation bring libcudart; so do the wheels of torch, ONNX Runtime and
TensorRT. Pages of the CUDA Runtime API reference name the functions.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.errors import EngineError

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_RELAXED = 2  # cudaStreamCaptureModeRelaxed
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # cudaDeviceAttr


class CudaError(EngineError):
    """A CUDA call failed, or there is no CUDA."""


class Cuda:
    """The CUDA runtime with one of its GPUs; CudaError, one line, where it cannot be used."""

    def __init__(self, index: int = 0) -> None:
        self._library = _load_library()
        count = ctypes.c_int()
        status = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if status or not count.value:
            why = self._text(status) if status else "no device"
            raise CudaError(f"no CUDA GPU can be used ({why}): check the driver")
        if index >= count.value:
            raise CudaError(f"there is no GPU {index}, only {count.value}: choose another device")
        self.index = index
        self.use()

    def use(self) -> None:
        """Make this GPU that of the calling thread."""
        self._call("cudaSetDevice", ctypes.c_int(self.index))

    @property
    def capability(self) -> str:
        """Compute capability, such as "8.7"."""
        call, index = "cudaDeviceGetAttribute", ctypes.c_int(self.index)
        numbers = [ctypes.c_int(one) for one in (_COMPUTE_MAJOR, _COMPUTE_MINOR)]
        return ".".join(
            str(self._new(call, one, index, kind=ctypes.c_int).value) for one in numbers
        )

    @property
    def name(self) -> str:
        # the name is the first member of cudaDeviceProp in every version, the rest moves
        properties = ctypes.create_string_buffer(8192)
        for function in ("cudaGetDeviceProperties_v2", "cudaGetDeviceProperties"):
            if hasattr(self._library, function):
                self._call(function, properties, ctypes.c_int(self.index))
                return properties.value.decode(errors="replace")
        return f"GPU {self.index}"

    def stream(self) -> ctypes.c_void_p:
        return self._new("cudaStreamCreate")

    def synchronise(self, stream: ctypes.c_void_p) -> None:
        self._call("cudaStreamSynchronize", stream)

    def free_stream(self, stream: ctypes.c_void_p) -> None:
        self._call("cudaStreamDestroy", stream)

    def capture(self, stream: ctypes.c_void_p) -> None:
        """Record what is put into ``stream`` from now on instead of doing it."""
        self._call("cudaStreamBeginCapture", stream, ctypes.c_int(_RELAXED))

    def end_capture(self, stream: ctypes.c_void_p) -> ctypes.c_void_p:
        """Return what was recorded, ready to be launched."""
        graph = ctypes.c_void_p()
        self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
        # this one has had the same arguments since CUDA 11.4; cudaGraphInstantiate has not
        ready = self._new("cudaGraphInstantiateWithFlags", graph, ctypes.c_ulonglong(0))
        self._call("cudaGraphDestroy", graph)
        return ready

    def launch(self, graph: ctypes.c_void_p, stream: ctypes.c_void_p) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def free_graph(self, graph: ctypes.c_void_p) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _new(self, function: str, *arguments: Any, kind: Any = ctypes.c_void_p) -> Any:
        """Return what a function writes to its first argument."""
        value = kind()
        self._call(function, ctypes.byref(value), *arguments)
        return value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise CudaError(f"{function} failed: {self._text(status)}")

    def _text(self, status: int) -> str:
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        return (self._library.cudaGetErrorString(ctypes.c_int(status)) or b"").decode()


class Buffer:
    """An array on the GPU at ``pointer``, and its pinned twin ``host``, valid until ``free``."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._cuda = cuda
        self.nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        size = ctypes.c_size_t(self.nbytes)
        self._device = cuda._new("cudaMalloc", size)
        try:
            self._pinned = cuda._new("cudaHostAlloc", size, ctypes.c_uint(0))
        except CudaError:
            cuda._call("cudaFree", self._device)
            raise
        raw: Any = (ctypes.c_ubyte * self.nbytes).from_address(self._pinned.value or 0)
        self.host: np.ndarray = np.frombuffer(raw, dtype).reshape(shape)

    @property
    def pointer(self) -> int:
        return self._device.value or 0

    def upload(self, stream: ctypes.c_void_p) -> None:
        self._copy(self._device, self._pinned, _TO_DEVICE, stream)

    def download(self, stream: ctypes.c_void_p) -> None:
        self._copy(self._pinned, self._device, _TO_HOST, stream)

    def _copy(self, to: Any, source: Any, kind: int, stream: ctypes.c_void_p) -> None:
        size = ctypes.c_size_t(self.nbytes)
        self._cuda._call("cudaMemcpyAsync", to, source, size, ctypes.c_int(kind), stream)

    def free(self) -> None:
        """Give both back; ``host`` must not be used any more."""
        device, pinned = self._device, self._pinned
        self._device, self._pinned = ctypes.c_void_p(), ctypes.c_void_p()
        if device.value:
            self._cuda._call("cudaFree", device)
        if pinned.value:
            self._cuda._call("cudaFreeHost", pinned)


def _load_library() -> Any:
    for name in _candidates():
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise CudaError(
        "no CUDA runtime library (libcudart) is installed: install CUDA, or run on the CPU"
    )


def _candidates() -> Iterator[str]:
    """Yield names of the library: the system's, then those that wheels brought."""
    yield "libcudart.so"
    if found := ctypes.util.find_library("cudart"):
        yield found
    for version in "13", "12", "11.0":
        yield f"libcudart.so.{version}"
    yield "/usr/local/cuda/lib64/libcudart.so"
    for root in sorted({Path(entry) for entry in sys.path if entry.endswith("-packages")}):
        yield from map(str, sorted(root.glob("nvidia/*/lib/libcudart.so.*"), reverse=True))
