# SPDX-License-Identifier: Apache-2.0
"""Weights of an ONNX graph: fp16 in the file, fp32 in the arithmetic.

Bundles store large weights as fp16, cast to fp32 where they are used; runtimes fold the cast when
they load the graph. What rewrites graphs wants plain fp32 weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_SMALLEST = 1024
"""Values of a weight below which halving it is not worth a node."""


def halve_weights(model: Any) -> None:
    """Store large fp32 initialisers as fp16 followed by a cast to fp32, in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}_fp16"], [name], name=f"{name}_cast", to=TensorProto.FLOAT
            )
        )
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
