# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation of the deployed graph by NNCF: ONNX in, ONNX with Q/DQ nodes out.

Convolutions and linear layers are quantised, weights per channel. In float stay the products of
attention, normalisation, decoding, the last layer of normals, the two layers next to the image,
whose error all tasks inherit (with them in eight bits the shipped model lost 1.8, 0.8 and 0.8 % of
its segmentation, depth and normals, without 0.3, 0.1 and 0.1 %), and all that computes depth alone:
depth is one exponential number per pixel, and with its decoder in eight bits it lost 17 %.
CPUs take unsigned activations with an offset; TensorRT takes signed ones without.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np

from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.runtime.bundle import INPUT
from proto_mtl_ros.runtime.half import fold_casts, halve_weights

FLOAT_BRANCHES = ("depth",)
"""Tasks of which nothing is quantised but what they share with others."""

FLOAT_ENDS = ("normals",)
"""Tasks whose last layer stays in float."""

FLOAT_LAYERS = 2
"""Convolutions next to the image that stay in float."""


class QuantisationError(DataError):
    """A graph could not be quantised, or lost too much by it."""


def int8_graph(model: bytes, images: Iterable[np.ndarray], target: str = "cpu") -> bytes:
    """Return an int8 ONNX graph of the fp32 graph of a bundle.

    ``images`` to calibrate with are uint8 [1, H, W, 3] of one size; a hundred are plenty.
    """
    import nncf
    import onnx
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        QuantizationParameters,
    )

    frames = [{INPUT: image} for image in images]
    graph = onnx.load_model_from_string(model)
    fold_casts(graph)
    # symmetric on CPUs would waste the negative half on what follows a ReLU
    preset, activations = nncf.QuantizationPreset.MIXED, None
    if target == "tensorrt":
        preset = nncf.QuantizationPreset.PERFORMANCE
        # NNCF refuses to be asked for signed ones as well: see below
        activations = QuantizationParameters(mode=QuantizationScheme.SYMMETRIC)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            quantised = nncf.quantize(
                graph,
                nncf.Dataset(frames),
                preset=preset,
                subset_size=len(frames),
                ignored_scope=nncf.IgnoredScope(names=kept_in_float(graph)),
                advanced_parameters=AdvancedQuantizationParameters(
                    activations_quantization_params=activations
                ),
            )
    except Exception as error:  # NNCF and the runtime below it raise many kinds
        raise QuantisationError(
            f"the graph cannot be quantised ({type(error).__name__}: {one_line(error)})"
        ) from None
    if target == "tensorrt":
        make_signed(quantised)
    halve_weights(quantised)
    quantised.doc_string = ""
    del quantised.metadata_props[:]
    onnx.checker.check_model(quantised)
    return quantised.SerializeToString()


def make_signed(model: Any) -> None:
    """Quantise to int8 what is quantised to uint8 with 0 as zero: TensorRT has no other kind.

    The greatest value stays the same, so steps become twice as wide.
    """
    from onnx import TensorProto, numpy_helper

    constants = {value.name: value for value in model.graph.initializer}
    infos = {info.name: info for info in model.graph.value_info}
    done = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = (constants[name] for name in node.input[1:3])
        if zero.name not in done and zero.data_type == TensorProto.UINT8:
            done.add(zero.name)
            width = numpy_helper.to_array(scale) * np.float32(255 / 127)
            scale.CopyFrom(numpy_helper.from_array(width, scale.name))
            signed = numpy_helper.to_array(zero).astype(np.int8)
            zero.CopyFrom(numpy_helper.from_array(signed, zero.name))
        if node.op_type == "QuantizeLinear" and node.output[0] in infos:
            infos[node.output[0]].type.tensor_type.elem_type = zero.data_type


def kept_in_float(model: Any) -> list[str]:
    """Return the names of the nodes of a deployed graph that shall not be quantised, sorted."""
    flow = _Flow(model)
    outputs = [output.name for output in model.graph.output]
    behind = {name: flow.behind(name) for name in outputs}
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    found = set(convolutions[:FLOAT_LAYERS])  # nodes come in the order in which they are computed
    for task in FLOAT_BRANCHES:
        if task in behind:
            others = (nodes for name, nodes in behind.items() if not name.startswith(task))
            found |= behind[task].difference(*others)
    for output in outputs:
        found |= flow.decoding(output)
        if output in FLOAT_ENDS:
            found |= flow.last_convolutions(output)
    # products of what was computed from the image: attention
    found |= {
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and not any(map(flow.is_constant, node.input))
    }
    return sorted(found)


class _Flow:
    """What is computed by what in a deployed graph; its names are of values and of nodes."""

    def __init__(self, model: Any) -> None:
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._initialisers = {tensor.name for tensor in model.graph.initializer}
        self._slices: dict[str, list[str]] = {}
        for node in model.graph.node:
            if node.op_type == "Slice":
                self._slices.setdefault(node.input[0], []).append(node.name)

    def is_constant(self, value: str) -> bool:
        node = self._producers.get(value)
        if node is None:
            return value in self._initialisers
        return all(map(self.is_constant, node.input))

    def behind(self, value: str) -> set[str]:
        return {node.name for node in self._walk(value, self._sources)}

    def decoding(self, value: str) -> set[str]:
        """Return the names of the nodes between the last convolutions and an output."""
        nodes = self._walk(value, lambda node: node.input, stop={"Conv", "Shape"})
        return {node.name for node in nodes if node.op_type != "Conv"}

    def last_convolutions(self, value: str) -> set[str]:
        """Return the names of the convolutions whose results an output is decoded from."""
        nodes = self._walk(value, self._sources, stop={"Conv", "Shape"})
        return {node.name for node in nodes if node.op_type == "Conv"}

    def _walk(
        self, value: str, sources: Callable[[Any], Iterable[str]], stop: Container[str] = ()
    ) -> list[Any]:
        found: dict[str, Any] = {}
        waiting = [value]
        while waiting:
            node = self._producers.get(waiting.pop())
            if node is not None and node.name not in found:
                found[node.name] = node
                waiting += [] if node.op_type in stop else sources(node)
        return list(found.values())

    def _sources(self, node: Any) -> list[str]:
        """Return the values that a node reads.

        Maps of several tasks are upsampled together: a part of the result is computed from one of
        them only, and parts are cut off in the order in which the maps were joined.
        """
        inputs = [name for name in node.input if name]
        if node.op_type != "Slice":
            return inputs
        resize = self._producers.get(inputs[0])
        if resize is None or resize.op_type != "Resize":
            return inputs
        joined = self._producers.get(resize.input[0])
        parts = self._slices[inputs[0]]
        if joined is None or joined.op_type != "Concat" or len(joined.input) != len(parts):
            return inputs
        return [joined.input[parts.index(node.name)]]
