# SPDX-License-Identifier: Apache-2.0
"""The fp16 graph of a model computes what the fp32 graph does, to half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_graph

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.runtime.half import IN_FP32, half_graph

MODEL = Path(__file__).resolve().parents[2] / "models" / "nyu13-lite0" / "model.onnx"


def run(model: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def fp32_operators(model: bytes) -> set[str]:
    """Return the operators that give an fp32 value, other than casts."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model)).graph
    wide = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return {
        node.op_type
        for node in inferred.node
        if node.op_type != "Cast" and any(name in wide for name in node.output)
    }


def test_the_shipped_model_in_fp16_gives_its_maps() -> None:
    original = MODEL.read_bytes()
    half = half_graph(original)
    onnx.checker.check_model(onnx.load_model_from_string(half), full_check=True)
    assert len(half) < 1.02 * len(original)
    assert fp32_operators(half) <= IN_FP32
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (1, 12, 16, 3)), np.ones((1, 16, 16, 1))).astype(np.uint8)
    reference, maps = run(original, images), run(half, images)
    assert set(maps) == set(reference)
    for name, values in reference.items():
        assert (maps[name].dtype, maps[name].shape) == (values.dtype, values.shape)
    assert (maps["segmentation"] == reference["segmentation"]).mean() > 0.98
    relative = np.abs(maps["depth"] - reference["depth"]) / reference["depth"]
    assert relative.mean() < 0.005
    assert np.abs(maps["normals"] - reference["normals"]).mean() < 0.01


def test_a_graph_with_ids_and_loops_of_its_own_keeps_them() -> None:
    graph = tiny_graph().SerializeToString()
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    reference, maps = run(graph, images), run(half_graph(graph), images)
    np.testing.assert_array_equal(maps["segmentation"], reference["segmentation"])
    np.testing.assert_allclose(maps["depth"], reference["depth"], rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(maps["normals"], reference["normals"])


def graph_of(nodes: list[onnx.NodeProto], shape: list[int], name: str, weight: float) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT), *nodes],
        "small",
        [value("image", TensorProto.UINT8, shape)],
        [value("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full(shape[-1], weight, np.float32), name)],
    )
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def test_a_value_that_both_kinds_of_operators_read_is_cast_once() -> None:
    node = helper.make_node
    nodes = [
        node("Mul", ["x", "w"], ["y"]),
        node("Softmax", ["y"], ["a"], axis=-1),
        node("Exp", ["a"], ["b"]),
        node("Pow", ["y", "w"], ["c"]),
        node("Add", ["b", "c"], ["d"]),
        node("Add", ["d", "y"], ["out"]),
    ]
    content = graph_of(nodes, [2, 3], "w", 0.5)
    half = half_graph(content)
    casts = [
        n.output[0] for n in onnx.load_model_from_string(half).graph.node if n.op_type == "Cast"
    ]
    assert len(casts) == len(set(casts))
    images = np.array([[1, 2, 3], [9, 4, 16]], np.uint8)
    np.testing.assert_allclose(run(half, images)["out"], run(content, images)["out"], rtol=2e-3)


def test_a_weight_beyond_half_precision_is_refused_by_name() -> None:
    graph = graph_of([helper.make_node("Mul", ["x", "huge"], ["out"])], [1], "huge", 1e6)
    with pytest.raises(EngineError, match="huge is too large for fp16"):
        half_graph(graph)
