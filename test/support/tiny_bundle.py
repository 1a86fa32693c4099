# SPDX-License-Identifier: Apache-2.0
"""A real but tiny model bundle whose maps are simple functions of the picture.

    segmentation = min(red // 20, 12)      confidence = 200
    depth        = blue / 25.5  (raw)      normals    = (0, 0, -1)

The graph runs in ONNX Runtime like any other, so that nodes, engines and commands are tested
with their real parts, and the values that they publish can be computed by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.manifest import ModelManifest, Normalisation, TrainingRecord
from proto_mtl_ros.tasks import NYU13

CONFIDENCE = 200
CANONICAL_FX = 300.0
INPUT_SIZE = (96, 128)
MAX_CLASS = 12


def expected(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the tiny network gives for uint8[B, H, W, 3], computed with numpy."""
    shape = images.shape[:3]
    normals = np.zeros((*shape, 3), np.float32)
    normals[..., 2] = -1.0
    return {
        "segmentation": np.minimum(images[..., 0] // 20, MAX_CLASS).astype(np.uint8),
        "confidence": np.full(shape, CONFIDENCE, np.uint8),
        "depth": (images[..., 2].astype(np.float32) / np.float32(25.5)).astype(np.float32),
        "normals": normals,
    }


def tiny_graph(
    delay_loops: int = 0, direction: tuple[float, float, float] = (0.0, 0.0, -1.0)
) -> onnx.ModelProto:
    """Build the graph.

    Args:
        delay_loops: multiplications of two 256x256 matrices beside the work (see ``_delay``).
        direction: of all normals.
    """
    constants: dict[str, np.ndarray] = {
        "red_index": np.array(0, np.int64),
        "blue_index": np.array(2, np.int64),
        "twenty": np.array(20.0, np.float32),
        "twelve": np.array(float(MAX_CLASS), np.float32),
        "metre": np.array(25.5, np.float32),
        "confidence_value": np.array(float(CONFIDENCE), np.float32),
        "zero": np.array(0.0, np.float32),
        "axes": np.array([3], np.int64),
        "direction": np.array(direction, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["image", "red_index"], ["red8"], axis=3),
        helper.make_node("Cast", ["red8"], ["red"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["red", "twenty"], ["red_scaled"]),
        helper.make_node("Floor", ["red_scaled"], ["red_floor"]),
        helper.make_node("Min", ["red_floor", "twelve"], ["ids"]),
        helper.make_node("Cast", ["ids"], ["segmentation"], to=TensorProto.UINT8),
        helper.make_node("Gather", ["image", "blue_index"], ["blue8"], axis=3),
        helper.make_node("Cast", ["blue8"], ["blue"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["blue", "metre"], ["near_depth"]),
        *_delay(delay_loops, constants),
        helper.make_node("Add", ["near_depth", "late"], ["depth"]),
        helper.make_node("Mul", ["red", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "confidence_value"], ["confidence_float"]),
        helper.make_node("Cast", ["confidence_float"], ["confidence"], to=TensorProto.UINT8),
        helper.make_node("Unsqueeze", ["nothing", "axes"], ["nothing4"]),
        helper.make_node("Add", ["nothing4", "direction"], ["normals"]),
    ]
    maps = ["batch", "height", "width"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*maps, 3])],
        [
            helper.make_tensor_value_info("segmentation", TensorProto.UINT8, maps),
            helper.make_tensor_value_info("confidence", TensorProto.UINT8, maps),
            helper.make_tensor_value_info("depth", TensorProto.FLOAT, maps),
            helper.make_tensor_value_info("normals", TensorProto.FLOAT, [*maps, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _delay(loops: int, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Return nodes that compute "late", which is always 0, in a time that grows with ``loops``.

    A Loop whose body multiplies matrices, a third of a millisecond a round on one core. It starts
    from the picture, so that it cannot be folded into a constant when the graph is loaded.
    """
    if loops <= 0:
        return [helper.make_node("Identity", ["zero"], ["late"])]
    size = 256
    constants["rounds"] = np.array(loops, np.int64)
    constants["go_on"] = np.array(True)
    constants["square"] = np.zeros((size, size), np.float32)
    constants["matrix"] = np.full((size, size), 1e-6, np.float32)
    state = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition_in"], ["condition_out"]),
            helper.make_node("MatMul", ["state_in", "matrix"], ["state_out"]),
        ],
        "round",
        [
            state("round", TensorProto.INT64, []),
            state("condition_in", TensorProto.BOOL, []),
            state("state_in", TensorProto.FLOAT, [size, size]),
        ],
        [
            state("condition_out", TensorProto.BOOL, []),
            state("state_out", TensorProto.FLOAT, [size, size]),
        ],
    )
    return [
        helper.make_node("ReduceMax", ["red"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "zero"], ["start"]),
        helper.make_node("Add", ["square", "start"], ["state_0"]),
        helper.make_node("Loop", ["rounds", "go_on", "state_0"], ["state_n"], body=body),
        helper.make_node("ReduceMax", ["state_n"], ["late"], keepdims=0),
    ]


def tiny_manifest(name: str = "tiny") -> ModelManifest:
    """Return a manifest that fits the tiny graph, its files not yet named."""
    return ModelManifest(
        name=name,
        architecture={"kind": "tiny"},
        tasks=("segmentation", "depth", "normals"),
        classes=NYU13.classes,
        palette=NYU13.palette,
        input_size=INPUT_SIZE,
        normalisation=Normalisation(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        canonical_fx=CANONICAL_FX,
        training=TrainingRecord(data="none, the maps are computed", licence="Apache-2.0"),
    )


def write_tiny_bundle(
    directory: Path,
    name: str = "tiny",
    delay_loops: int = 0,
    tasks: tuple[str, ...] = ("segmentation", "depth", "normals"),
) -> Path:
    """Write the bundle to ``directory / name`` and return that folder.

    Args:
        directory: an existing or new folder, for example a ``tmp_path``.
        name: of the model and of its folder.
        delay_loops: makes inference slow, by about a third of a millisecond a loop on an idle core
            (300: about 100 ms).
        tasks: that the model promises; its graph gives them all.
    """
    graph = tiny_graph(delay_loops).SerializeToString()
    manifest = tiny_manifest(name).model_copy(update={"tasks": tasks})
    bundle = Bundle.write(Path(directory) / name, manifest, {"model.onnx": graph})
    return bundle.path
