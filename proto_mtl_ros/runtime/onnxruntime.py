# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime backend: the smallest to install and the quickest to start."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.runtime.backend import Engine, EngineOptions, register_backend
from proto_mtl_ros.runtime.bundle import INPUT, Bundle
from proto_mtl_ros.runtime.machine import usable_cores

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_CUDA = "CUDAExecutionProvider"


@register_backend
class OnnxRuntimeEngine(Engine):
    """Runs ``model.onnx``."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    requires = (("onnxruntime",),)
    install = "pip install onnxruntime"
    ranks = {("cuda", "fp32"): 40, ("cpu", "fp32"): 20}

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        import onnxruntime

        # int8 is no faster here than fp32 on CPUs without instructions for it
        precision = "fp32" if options.precision == "auto" else options.precision
        if precision == "fp16":
            raise EngineError("ONNX Runtime runs in fp32 or int8: choose one, or tensorrt for fp16")
        path = bundle.graph_path(precision)
        self._session, device, fallback = _open(str(path), options)
        self._run_options = onnxruntime.RunOptions()
        super().__init__(bundle.manifest, device, precision, fallback)
        self._check_graph(
            f"the graph of {bundle.name} ({path})",
            {tensor.name: tensor.type for tensor in self._session.get_inputs()},
            {tensor.name: tensor.type for tensor in self._session.get_outputs()},
            _TYPES,
        )

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        maps = self._session.run(list(self._outputs), {INPUT: images}, self._run_options)
        return dict(zip(self._outputs, maps, strict=True))

    def cancel(self) -> None:
        self._run_options.terminate = True

    def _release(self) -> None:
        self._session = None


def _open(path: str, options: EngineOptions) -> tuple[Any, str, str | None]:
    """Return the session, the device it runs on, and why not on the wanted one."""
    import onnxruntime

    fallback = None
    if options.device != "cpu" and _CUDA in onnxruntime.get_available_providers():
        try:
            session = _session(path, options.threads, (_CUDA, {"device_id": str(options.gpu)}))
            if session.get_providers()[0] == _CUDA:
                return session, f"cuda:{options.gpu}", None
            why = "check its driver, CUDA and cuDNN"
        except Exception as error:  # its exceptions share no base of their own
            why = one_line(error)
        fallback = f"ONNX Runtime cannot use the GPU ({why}); running on the CPU"
    elif options.device.startswith("cuda"):
        how = "pip install onnxruntime-gpu instead of onnxruntime"
        fallback = f"this ONNX Runtime has no CUDA ({how}); running on the CPU"
    try:
        return _session(path, options.threads), "cpu", fallback
    except Exception as error:  # as above
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}"
            f" ({one_line(error)}): update it or export the model again"
        ) from None


def _session(path: str, threads: int, *gpu: Any) -> Any:
    import onnxruntime

    usable = usable_cores()
    options = onnxruntime.SessionOptions()
    # 0 leaves the number to ONNX Runtime, which looks at all CPUs and not at those we may use
    options.intra_op_num_threads = threads or (0 if usable == os.cpu_count() else usable)
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
