# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO backend: Intel and ARM CPUs; the fastest with int8, and calm on busy cores."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import openvino

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
_TYPES = {"u8": np.dtype(np.uint8), "f32": np.dtype(np.float32)}
_KEPT_SHAPES = 8


class OpenVinoEngine:
    """Runs ``model.onnx``. Used by one thread at a time; see ``engine.Engine``.

    The graph is compiled for each shape of input that comes, once: with a fixed shape it is
    faster than with an open one. The latest few are kept.
    """

    name = "openvino"
    not_built: EngineNotBuilt | None = None

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load and check the graph; see ``engine.create_engine`` for errors."""
        self.precision = options.precision
        if self.precision == "auto":
            self.precision = "int8" if bundle.has_graph("int8") else "fp32"
        if self.precision == "fp16":
            raise EngineError("OpenVINO runs in fp32 or int8: choose one, or tensorrt for fp16")
        path = bundle.graph_path(self.precision)
        self._model_name = f"{bundle.name} ({path})"
        self._manifest = bundle.manifest
        self._outputs = promised_outputs(bundle.manifest)
        self.device, self.fallback = "cpu", None
        if options.device.startswith("cuda"):
            self.fallback = "OpenVINO has no CUDA; running on the CPU"
        self.choice = f"{self.name} on {self.device}"
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
        self._check_graph()

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See ``engine.Engine``."""
        if self._model is None:
            raise EngineError("the engine was closed: create another one")
        images = check_images(images, self._manifest.size_multiple)
        try:
            request = self._request(images.shape)
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            request.infer()
            # the request's own memory is written again by the next frame
            maps = {name: request.get_tensor(name).data.copy() for name in self._outputs}
        except Exception as error:  # as above
            raise EngineError(
                f"OpenVINO failed on {list(images.shape)}: {one_line(error)}"
            ) from None
        return check_outputs(maps, self._outputs, images)

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """See ``engine.Engine``."""
        start = time.perf_counter()
        self.infer(grey_images(self._manifest, batch, size))
        return time.perf_counter() - start

    def close(self) -> None:
        """See ``engine.Engine``."""
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

    def _check_graph(self) -> None:
        inputs = [_described(port) for port in self._model.inputs]
        if inputs != [f"{INPUT} u8"]:
            raise EngineError(
                f"the graph of {self._model_name} takes {', '.join(inputs) or 'nothing'}, not"
                f" {INPUT} u8: export the model again"
            )
        given = {
            name: port.get_element_type().get_type_name()
            for port in self._model.outputs
            for name in port.get_names()
        }
        for name, (dtype, _) in self._outputs.items():
            if _TYPES.get(given.get(name, "")) != dtype:
                raise EngineError(
                    f"the graph of {self._model_name} gives {name} as {given.get(name, 'nothing')},"
                    f" not {dtype}: export the model again"
                )


def load(bundle: Bundle, options: EngineOptions) -> OpenVinoEngine:
    """Create the engine; see ``engine.create_engine``."""
    return OpenVinoEngine(bundle, options)


def _described(port: Any) -> str:
    return f"{port.get_any_name()} {port.get_element_type().get_type_name()}"
