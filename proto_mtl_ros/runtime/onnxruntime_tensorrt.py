# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on TensorRT: builds and keeps its engines itself, in the first run of each shape.

For machines that have both and no need of a build ahead of time; the ``tensorrt`` backend knows of
progress, sidecars and a build beside the running node.
"""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import EngineOptions
from proto_mtl_ros.runtime.engine_cache import default_folder
from proto_mtl_ros.runtime.onnxruntime import OnnxRuntimeEngine


class OnnxRuntimeTensorRtEngine(OnnxRuntimeEngine):
    """See ``onnxruntime.OnnxRuntimeEngine``; fp32, fp16 or int8."""

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    install = "pip install onnxruntime-gpu instead of onnxruntime, and TensorRT of its version"

    def _graph(self, bundle: Bundle, options: EngineOptions) -> tuple[str, Path]:
        precision = "fp16" if options.precision == "auto" else options.precision
        return precision, bundle.graph_path(precision, "tensorrt")

    def _provider_options(self, gpu: int, precision: str) -> dict[str, str]:
        return {
            "device_id": str(gpu),
            "trt_fp16_enable": str(precision != "fp32"),
            "trt_int8_enable": str(precision == "int8"),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(default_folder() / "onnxruntime"),
            "trt_cuda_graph_enable": "True",
        }


def load(bundle: Bundle, options: EngineOptions) -> OnnxRuntimeTensorRtEngine:
    """Create the engine; see ``engine.create_engine``."""
    return OnnxRuntimeTensorRtEngine(bundle, options)
