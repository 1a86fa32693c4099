# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend: Jetson and desktop GPUs.

An engine is built once for a machine and then read from the cache; see ``engine_plan``. Input and
results lie in pinned memory, and a CUDA graph replays copies and kernels: a frame costs the CPU
three calls.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.runtime.backend import Engine, EngineOptions, register_backend
from proto_mtl_ros.runtime.bundle import INPUT, Bundle
from proto_mtl_ros.runtime.cuda import Buffer, Cuda, CudaError
from proto_mtl_ros.runtime.machine import TENSORRT

if TYPE_CHECKING:
    from proto_mtl_ros.runtime.engine_plan import EnginePlan


@dataclass
class _Prepared:
    """What belongs to one shape of input: context, memory, and the recorded run."""

    context: Any
    image: Buffer
    maps: dict[str, Buffer]
    graph: Any = None

    def free(self, cuda: Cuda) -> None:
        if self.graph is not None:
            cuda.free_graph(self.graph)
        for buffer in (self.image, *self.maps.values()):
            buffer.free()


@register_backend
class TensorRtEngine(Engine):
    """Runs a built engine."""

    name = "tensorrt"
    title = "TensorRT"
    requires = (TENSORRT,)
    install = "install TensorRT (JetPack brings it, elsewhere it comes from NVIDIA's package index)"
    ranks = {("cuda", "int8"): 10, ("cuda", "fp16"): 20}

    def __init__(self, bundle: Bundle, plan: EnginePlan, cuda: Cuda, content: bytes) -> None:
        """Load the engine ``content``, which was built by ``plan``."""
        from proto_mtl_ros.runtime.tensorrt_build import import_library, logger

        super().__init__(bundle.manifest, f"cuda:{cuda.index}", plan.key.precision)
        self._cuda = cuda
        self._runs: dict[tuple[int, ...], _Prepared] = {}
        trt = import_library(plan.library)
        self._logger = logger(trt)
        runtime = trt.Runtime(self._logger)
        self._engine: Any = runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineError(
                f"{plan.key.library} cannot read its engine ({one_line(self._logger.last)}):"
                f" delete {plan.path} to build another"
            )
        tensors = {True: {}, False: {}}  # type: dict[bool, dict[str, str]]
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            kind = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))).name
            tensors[is_input][name] = kind
        same = {kind: kind for of in tensors.values() for kind in of.values()}
        self._check_graph("the engine", tensors[True], tensors[False], same)
        self._stream = cuda.stream()

    @classmethod
    def load(cls, bundle: Bundle, options: EngineOptions) -> TensorRtEngine:
        """Load the built engine of this machine; EngineNotBuilt, CudaError."""
        from proto_mtl_ros.runtime.engine_plan import PRECISIONS, EnginePlan

        # CUDA first: without a GPU some TensorRT libraries end the process
        cuda = Cuda(options.gpu)
        plan = EnginePlan.of(
            bundle,
            cuda.name,
            cuda.capability,
            PRECISIONS[0] if options.precision == "auto" else options.precision,
            options.input_size,
            options.max_batch,
        )
        return cls(bundle, plan, cuda, plan.find())

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self._cuda.use()
        run = self._runs.get(images.shape) or self._prepared(self._cuda, images.shape)
        np.copyto(run.image.host, images)
        self._cuda.launch(run.graph, self._stream)
        self._cuda.synchronise(self._stream)
        # the pinned memory is written again by the next frame
        return {name: buffer.host.copy() for name, buffer in run.maps.items()}

    def _release(self) -> None:
        self._cuda.use()
        for run in self._runs.values():
            run.free(self._cuda)
        self._runs.clear()
        self._engine = None
        self._cuda.free_stream(self._stream)

    def _prepared(self, cuda: Cuda, shape: tuple[int, ...]) -> _Prepared:
        """Make context and memory for inputs of ``shape``, run once, record what a run does."""
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"the GPU has no room for the engine ({one_line(self._logger.last)}): close other"
                " programs, or choose a smaller input_size"
            )
        if not context.set_input_shape(INPUT, shape):
            smallest, _, largest = self._engine.get_tensor_profile_shape(INPUT, 0)
            raise EngineError(
                f"the engine was built for inputs from {list(smallest)} to {list(largest)}, not"
                f" {list(shape)}: build it for this size"
            )
        run = _Prepared(context, Buffer(cuda, shape, np.dtype(np.uint8)), {})
        try:
            context.set_tensor_address(INPUT, run.image.pointer)
            for name, output in self._outputs.items():
                run.maps[name] = Buffer(cuda, output.shape(shape), output.dtype)
                context.set_tensor_address(name, run.maps[name].pointer)
            # once as it is: the first run allocates, which cannot be recorded
            self._enqueue(run)
            cuda.synchronise(self._stream)
            cuda.capture(self._stream)
            try:
                self._enqueue(run)
            finally:
                run.graph = cuda.end_capture(self._stream)
        except BaseException:
            with suppress(CudaError):  # a GPU that is lost takes nothing back
                run.free(cuda)
            raise
        self._runs[shape] = run
        return run

    def _enqueue(self, run: _Prepared) -> None:
        run.image.upload(self._stream)
        if not run.context.execute_async_v3(self._stream.value or 0):
            raise EngineError(f"TensorRT failed: {one_line(self._logger.last)}")
        for buffer in run.maps.values():
            buffer.download(self._stream)
