# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation of the deployed graph by NNCF: ONNX in, ONNX with Q/DQ nodes out.

Convolutions are quantised, weights per channel. In float stay attention, normalisation, decoding,
the last layer of normals, the two layers next to the image, whose error all tasks inherit (with
them in eight bits the shipped model lost 1.8, 0.8 and 0.8 % of its segmentation, depth and normals,
without 0.3, 0.1 and 0.1 %), and all that computes depth alone: depth is one exponential number per
pixel, and with its decoder in eight bits it lost 17 %.
CPUs take unsigned activations with an offset; TensorRT takes signed ones without.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..errors import ProtoMtlError, one_line
from ..runtime.bundle import INPUT
from ..runtime.onnx_weights import fold_casts, halve_weights

Target = Literal["cpu", "tensorrt"]

FLOAT_BRANCHES = ("depth",)
"""Tasks of which nothing is quantised but what they share with others."""

FLOAT_ENDS = ("normals",)
"""Tasks whose last layer stays in float."""

FLOAT_LAYERS = 2
"""Convolutions next to the image that stay in float."""


class QuantisationError(ProtoMtlError):
    """A graph could not be quantised, or lost too much by it."""


def int8_graph(model: bytes, images: Iterable[np.ndarray], target: Target = "cpu") -> bytes:
    """Return an int8 ONNX graph of a deployed graph.

    Args:
        model: the fp32 graph of a bundle.
        images: uint8 [1, H, W, 3] to calibrate with, all of one size; a hundred are plenty.
        target: what it shall run on.

    Raises:
        QuantisationError: NNCF cannot quantise it, or there was no image.
    """
    import nncf
    import onnx
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        QuantizationParameters,
    )

    frames = [{INPUT: image} for image in images]
    if not frames:
        raise QuantisationError("no image to calibrate with: give a data set or a recording")
    graph = onnx.load_model_from_string(model)
    fold_casts(graph)
    # symmetric on CPUs would waste the negative half on what follows a ReLU
    preset, activations = nncf.QuantizationPreset.MIXED, None
    if target == "tensorrt":
        preset = nncf.QuantizationPreset.PERFORMANCE
        activations = QuantizationParameters(
            mode=QuantizationScheme.SYMMETRIC, signedness_to_force=True
        )
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            quantised = nncf.quantize(
                graph,
                nncf.Dataset(frames),
                preset=preset,
                subset_size=len(frames),
                ignored_scope=nncf.IgnoredScope(names=kept_in_float(graph), types=["MatMul"]),
                advanced_parameters=AdvancedQuantizationParameters(
                    activations_quantization_params=activations
                ),
            )
    except Exception as error:  # NNCF and the runtime below it raise many kinds
        raise QuantisationError(
            f"the graph cannot be quantised ({type(error).__name__}: {one_line(error)})"
        ) from None
    halve_weights(quantised)
    quantised.doc_string = ""
    del quantised.metadata_props[:]
    onnx.checker.check_model(quantised)
    return quantised.SerializeToString()


def kept_in_float(model: Any) -> list[str]:
    """Return the names of the nodes of a deployed graph that shall not be quantised, sorted."""
    producers = {name: node for node in model.graph.node for name in node.output}
    outputs = [output.name for output in model.graph.output]
    behind = {name: _behind(name, producers) for name in outputs}
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    found = set(convolutions[:FLOAT_LAYERS])  # nodes come in the order in which they are computed
    for task in FLOAT_BRANCHES:
        if task in behind:
            others = (nodes for name, nodes in behind.items() if name != task)
            found |= behind[task].difference(*others)
    for task in FLOAT_ENDS:
        name = task
        # back along the first input: decoding reads nothing else that was computed by the network
        while name in producers and producers[name].op_type != "Conv":
            name = producers[name].input[0]
        if name in producers:
            found.add(producers[name].name)
    return sorted(found)


def _behind(output: str, producers: dict[str, Any]) -> set[str]:
    """Return the names of all nodes that an output is computed by."""
    found: set[str] = set()
    waiting = [output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found
