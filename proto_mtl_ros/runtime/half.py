# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs in half precision: weights stored in it, and arithmetic done in it.

Bundles store large weights as fp16, cast to fp32 where they are used; runtimes fold the cast when
they load the graph. Engines that compute what the graph says get a graph of fp16 arithmetic: what
half precision cannot hold, sums of squares and exponentials, stays in fp32 between two casts, and
inputs and outputs keep their types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from proto_mtl_ros.errors import EngineError

VERSION = 1
"""Of ``half_graph``: engines that were built of another one are built anew."""

IN_FP32 = frozenset(
    {"LayerNormalization", "Softmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal"}
    | {"ReduceL2", "ReduceSum", "ReduceSumSquare", "ReduceMean"}
)
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = 4096
"""Values of a weight below which fp16 saves nothing to speak of: the keys of the heads among them,
which the exporter has scaled already, and whose products are exponentiated."""


def half_graph(model: bytes) -> bytes:
    """Return an ONNX graph with the arithmetic of ``model`` in fp16.

    EngineError: the ``onnx`` package is missing, or a weight is too large for fp16.
    """
    try:
        import onnx
    except ImportError:
        raise EngineError("fp16 engines are made with the onnx package: pip install onnx") from None
    graph = onnx.load_model_from_string(model)
    fold_casts(graph)
    _convert(onnx, graph)
    return graph.SerializeToString()


def _convert(onnx: Any, model: Any) -> None:
    """Make every fp32 value of the graph an fp16 one of the same name, in place."""
    from onnx import TensorProto, helper

    graph = model.graph
    floats = _fp32_values(onnx, model)
    # outputs keep name and type: what computes them gives its fp16 value another name
    inner = {value.name: f"{value.name}/fp16" for value in graph.output if value.name in floats}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    wide: dict[str, str] = {}
    nodes: list[Any] = []

    def cast(source: str, target: str, to: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], name=target, to=to))

    def in_fp32(name: str) -> str:
        """Return the fp32 twin of a value, made when it is first asked for."""
        if name not in wide:
            wide[name] = f"{name}/fp32"
            if name in weights:
                twin = TensorProto()
                twin.CopyFrom(weights[name])
                twin.name = wide[name]
                graph.initializer.append(twin)
            else:
                cast(inner.get(name, name), wide[name], TensorProto.FLOAT)
        return wide[name]

    for node in graph.node:
        in_wide = node.op_type in IN_FP32
        for position, name in enumerate(node.input):
            # the scales of a Resize are fp32 whatever it resizes
            if name in floats and (in_wide or (node.op_type == "Resize" and position > 0)):
                node.input[position] = in_fp32(name)
            else:
                node.input[position] = inner.get(name, name)
        results = [name for name in node.output if name in floats]
        for position, name in enumerate(node.output):
            if name in results:
                node.output[position] = f"{name}/wide" if in_wide else inner.get(name, name)
        if node.op_type == "Cast" and results:
            node.attribute[0].i = TensorProto.FLOAT16
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and results:
                _halve(attribute.t)
        nodes.append(node)
        for name in results if in_wide else ():
            cast(f"{name}/wide", inner.get(name, name), TensorProto.FLOAT16)
    for name, half in inner.items():
        cast(half, name, TensorProto.FLOAT)
    for name, tensor in weights.items():
        if name in floats:
            _halve(tensor)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    drop_unused_weights(model)


def _fp32_values(onnx: Any, model: Any) -> set[str]:
    """Return the names of all fp32 values: weights, results and outputs."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    fp32 = onnx.TensorProto.FLOAT
    values = (*graph.value_info, *graph.output, *graph.input)
    names = {value.name for value in values if value.type.tensor_type.elem_type == fp32}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == fp32}


def _halve(tensor: Any) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    finite = values[np.isfinite(values)]
    if finite.size and np.abs(finite).max() > _LARGEST:
        raise EngineError(f"{tensor.name or 'a constant'} is too large for fp16: use fp32")
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def halve_weights(model: Any) -> None:
    """Store large fp32 initialisers as fp16 followed by a cast to fp32, in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALLEST or np.abs(values).max() > _LARGEST:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        single = TensorProto.FLOAT
        casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=single))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def fold_casts(model: Any) -> None:
    """Replace initialisers that are cast to fp32 by fp32 ones, in place."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        source = weights.get(node.input[0]) if node.op_type == "Cast" else None
        if source is None or node.attribute[0].i != TensorProto.FLOAT:
            kept.append(node)
            continue
        values = numpy_helper.to_array(source).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_weights(model)


def drop_unused_weights(model: Any) -> None:
    """Remove initialisers that no node reads, in place."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
