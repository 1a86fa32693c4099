# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO backend: Intel and ARM CPUs; the fastest with int8, and calm on busy cores."""

from __future__ import annotations

from typing import Any

import numpy as np

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.runtime.backend import Engine, EngineOptions, register_backend
from proto_mtl_ros.runtime.bundle import INPUT, Bundle

_TYPES = {"u8": "uint8", "f32": "float32"}
_KEPT_SHAPES = 32


@register_backend
class OpenVinoEngine(Engine):
    """Runs ``model.onnx``, compiled once for each shape of input that comes.

    With a fixed shape it is faster than with an open one. The latest few are kept.
    """

    name = "openvino"
    title = "OpenVINO"
    requires = (("openvino",),)
    install = "pip install openvino"
    ranks = {("cpu", "int8"): 10, ("cpu", "fp32"): 30}

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        import openvino

        precision = options.precision
        if precision == "auto":
            precision = "int8" if bundle.has_int8 else "fp32"
        if precision == "fp16":
            raise EngineError("OpenVINO runs in fp32 or int8: choose one, or tensorrt for fp16")
        gpu = options.device.startswith("cuda")
        fallback = "OpenVINO has no CUDA; running on the CPU" if gpu else None
        super().__init__(bundle.manifest, "cpu", precision, fallback)
        path = bundle.graph_path(precision)
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the robot's scheduler knows better
        }
        if options.threads:
            self._settings["INFERENCE_NUM_THREADS"] = options.threads
        self._requests: dict[tuple[int, ...], Any] = {}
        try:
            self._core = openvino.Core()
            self._model: Any = self._core.read_model(path)
        except Exception as error:  # its exceptions share no base of their own
            raise EngineError(
                f"OpenVINO {openvino.__version__} cannot load {path}"
                f" ({one_line(error)}): update it or export the model again"
            ) from None
        self._check_graph(
            f"the graph of {bundle.name} ({path})",
            {port.get_any_name(): _type(port) for port in self._model.inputs},
            {name: _type(port) for port in self._model.outputs for name in port.get_names()},
            _TYPES,
        )

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        import openvino

        request = self._request(images.shape)
        request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        request.infer()
        # the request's own memory is written again by the next frame
        return {name: request.get_tensor(name).data.copy() for name in self._outputs}

    def cancel(self) -> None:
        for request in list(self._requests.values()):
            request.cancel()

    def _release(self) -> None:
        self._model = None
        self._requests.clear()

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return a request for inputs of ``shape``, compiled when it comes for the first time."""
        request = self._requests.pop(shape, None)
        if request is None:
            model = self._model.clone()
            model.reshape({INPUT: list(shape)})
            request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
            while len(self._requests) >= _KEPT_SHAPES:
                del self._requests[next(iter(self._requests))]
        self._requests[shape] = request
        return request


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())
