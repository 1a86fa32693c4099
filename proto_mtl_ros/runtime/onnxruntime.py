# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime backend: the smallest to install and the quickest to start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from proto_mtl_ros.errors import (
    EngineError,
    one_line,
)
from proto_mtl_ros.runtime.bundle import (
    INPUT,
    Bundle,
)
from proto_mtl_ros.runtime.engine import EngineOptions
from proto_mtl_ros.runtime.loaded_engine import LoadedEngine
from proto_mtl_ros.runtime.machine import usable_cores

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeEngine(LoadedEngine):
    """Runs ``model.onnx``. Used by one thread at a time; see ``engine.Engine``."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    provider = "CUDAExecutionProvider"
    """That it runs on where a GPU shall be used."""

    install = "pip install onnxruntime-gpu instead of onnxruntime"
    """What brings that provider."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load and check the graph; see ``engine.create_engine`` for errors."""
        precision, path = self._graph(bundle, options)
        gpu = (self.provider, self._provider_options(options.gpu, precision))
        self._session, device, fallback = _open(str(path), options, gpu, self.install)
        super().__init__(bundle.manifest, device, precision, fallback)
        self._check_graph(
            f"the graph of {bundle.name} ({path})",
            {tensor.name: tensor.type for tensor in self._session.get_inputs()},
            {tensor.name: tensor.type for tensor in self._session.get_outputs()},
            _TYPES,
        )

    def _graph(self, bundle: Bundle, options: EngineOptions) -> tuple[str, Path]:
        """Return the precision to run in, and the graph for it."""
        # int8 is no faster here than fp32 on CPUs without instructions for it
        precision = "fp32" if options.precision == "auto" else options.precision
        if precision == "fp16":
            raise EngineError("ONNX Runtime runs in fp32 or int8: choose one, or tensorrt for fp16")
        return precision, bundle.graph_path(precision)

    def _provider_options(self, gpu: int, precision: str) -> dict[str, str]:
        """Return what the provider shall be told."""
        return {"device_id": str(gpu)}

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        maps = self._session.run(list(self._outputs), {INPUT: images})
        return dict(zip(self._outputs, maps, strict=True))

    def _release(self) -> None:
        self._session = None


def load(bundle: Bundle, options: EngineOptions) -> OnnxRuntimeEngine:
    """Create the engine; see ``engine.create_engine``."""
    return OnnxRuntimeEngine(bundle, options)


def _open(
    path: str, options: EngineOptions, gpu: tuple[str, dict[str, str]], install: str
) -> tuple[Any, str, str | None]:
    """Return the session, the device it runs on, and why not on the wanted one."""
    fallback = None
    provider = gpu[0]
    if options.device != "cpu" and provider in onnxruntime.get_available_providers():
        try:
            session = _session(path, options.threads, gpu)
            if session.get_providers()[0] == provider:
                return session, f"cuda:{options.gpu}", None
            why = "check its driver, CUDA and cuDNN"
        except Exception as error:  # its exceptions share no base of their own
            why = one_line(error)
        fallback = f"ONNX Runtime cannot use the GPU ({why}); running on the CPU"
    elif options.device.startswith("cuda"):
        name = provider.removesuffix("ExecutionProvider")
        fallback = f"this ONNX Runtime has no {name} ({install}); running on the CPU"
    try:
        return _session(path, options.threads), "cpu", fallback
    except Exception as error:  # as above
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}"
            f" ({one_line(error)}): update it or export the model again"
        ) from None


def _session(path: str, threads: int, *gpu: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _automatic()
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


def _automatic() -> int:
    """Return a number of threads, or 0 (ONNX Runtime decides) where all CPUs may be used."""
    usable = usable_cores()
    return 0 if usable == os.cpu_count() else usable
