# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime backend: the smallest to install and the quickest to start."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import onnxruntime

from proto_mtl_ros.errors import EngineError, one_line

from .bundle import Bundle
from .engine import (
    EngineNotBuilt,
    EngineOptions,
    check_images,
    check_outputs,
    grey_images,
    promised_outputs,
)

INPUT = "image"
_ONNX_TYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class OnnxRuntimeEngine:
    """Runs ``model.onnx``. Used by one thread at a time; see ``engine.Engine``."""

    name = "onnxruntime"
    not_built: EngineNotBuilt | None = None

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load and check the graph; see ``engine.create_engine`` for errors."""
        # int8 is no faster here than fp32 on CPUs without instructions for it
        self.precision = "fp32" if options.precision == "auto" else options.precision
        if self.precision == "fp16":
            raise EngineError("ONNX Runtime runs in fp32 or int8: choose one, or tensorrt for fp16")
        path = bundle.graph_path(self.precision)
        self._model = f"{bundle.name} ({path})"
        self._manifest = bundle.manifest
        self._outputs = promised_outputs(bundle.manifest)
        self._session, self.device, self.fallback = _open(
            str(path), options.device, options.threads
        )
        self.choice = f"{self.name} on {self.device}"
        self._check_graph()

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See ``engine.Engine``."""
        if self._session is None:
            raise EngineError("the engine was closed: create another one")
        images = check_images(images, self._manifest.size_multiple)
        try:
            maps = self._session.run(list(self._outputs), {INPUT: images})
        except Exception as error:  # its exceptions share no base of their own
            raise EngineError(
                f"ONNX Runtime failed on {list(images.shape)}: {one_line(error)}"
            ) from None
        return check_outputs(dict(zip(self._outputs, maps, strict=True)), self._outputs, images)

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """See ``engine.Engine``."""
        start = time.perf_counter()
        self.infer(grey_images(self._manifest, batch, size))
        return time.perf_counter() - start

    def close(self) -> None:
        """See ``engine.Engine``."""
        self._session = None

    def _check_graph(self) -> None:
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        if set(inputs) != {INPUT} or inputs[INPUT].type != "tensor(uint8)":
            found = ", ".join(f"{name} {tensor.type}" for name, tensor in inputs.items())
            raise EngineError(
                f"the graph of {self._model} takes {found or 'nothing'}, not {INPUT}"
                " tensor(uint8): export the model again"
            )
        outputs = {tensor.name: tensor.type for tensor in self._session.get_outputs()}
        for name, (dtype, _) in self._outputs.items():
            if _ONNX_TYPES.get(outputs.get(name, "")) != dtype:
                raise EngineError(
                    f"the graph of {self._model} gives {name} as {outputs.get(name, 'nothing')},"
                    f" not {dtype}: export the model again"
                )


def load(bundle: Bundle, options: EngineOptions) -> OnnxRuntimeEngine:
    """Create the engine; see ``engine.create_engine``."""
    return OnnxRuntimeEngine(bundle, options)


def _open(path: str, device: str, threads: int) -> tuple[Any, str, str | None]:
    """Return the session, the device it runs on, and why not on the wanted one."""
    fallback = None
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        index = device.partition(":")[2] or "0"
        try:
            session = _session(path, threads, ("CUDAExecutionProvider", {"device_id": index}))
            if session.get_providers()[0] == "CUDAExecutionProvider":
                return session, f"cuda:{index}", None
            why = "check its driver, CUDA and cuDNN"
        except Exception as error:  # its exceptions share no base of their own
            why = one_line(error)
        fallback = f"ONNX Runtime cannot use the GPU ({why}); running on the CPU"
    elif device.startswith("cuda"):
        fallback = (
            "this ONNX Runtime has no CUDA (pip install onnxruntime-gpu instead of onnxruntime);"
            " running on the CPU"
        )
    try:
        return _session(path, threads), "cpu", fallback
    except Exception as error:  # as above
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}"
            f" ({one_line(error)}): update it or export the model again"
        ) from None


def _session(path: str, threads: int, *gpu: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _usable_cpus()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # its warnings go to stderr past every logger
    # Threads that spin between two frames take the cores from the robot's other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Else it prints about a GPU that fails, and goes on without it: both are ours to do.
    return onnxruntime.InferenceSession(
        path, options, providers=[*gpu, "CPUExecutionProvider"], enable_fallback=0
    )


def _usable_cpus() -> int:
    """Return how many CPUs this process may use, or 0 (ONNX Runtime decides) when all."""
    if not hasattr(os, "sched_getaffinity"):  # only Linux has it
        return 0
    usable = len(os.sched_getaffinity(0))
    return 0 if usable == os.cpu_count() else usable
