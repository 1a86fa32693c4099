# SPDX-License-Identifier: Apache-2.0
"""Bundles that would read other files, or are larger inside than out, are refused by one line."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_graph, tiny_manifest, write_tiny_bundle

from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine

pytestmark = pytest.mark.tries(
    "parsers", "a bundle that leads out of itself, or is larger inside than out",
    seen="one line that names the file and what is wrong",
)  # fmt: skip

SECRET = b"a secret of another folder, of sixty-four bytes in all, aligned."


def bundle_of(folder: Path, architecture: object = None, /, **files: bytes) -> Path:
    """Write a bundle whose model.json is right about whatever files it has."""
    folder.mkdir()
    names = {name.replace("__", "."): content for name, content in files.items()}
    for name, content in names.items():
        (folder / name).write_bytes(content)
    stated = json.loads(tiny_manifest().to_json())
    stated["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in names.items()}
    stated["architecture"] = architecture or {}
    (folder / "model.json").write_text(json.dumps(stated))
    return folder


def refusal(folder: Path, backend: str = "onnxruntime") -> str:
    with pytest.raises(ProtoMtlError) as refused:
        create_engine(Bundle.load(folder), backend, "cpu")
    line = str(refused.value)
    assert line and "\n" not in line and len(line) < 1000
    return line


def leading_to(location: str, kind: str = "initialiser") -> bytes:
    """A graph one of whose tensors lies in another file."""
    tensor = TensorProto(name="direction", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    model = tiny_graph()
    if kind == "initialiser":
        own = next(t for t in model.graph.initializer if t.name == tensor.name)
        own.CopyFrom(tensor)
        return model.SerializeToString()
    node = onnx.NodeProto(op_type="Constant", output=["unused"])
    node.attribute.append(helper.make_attribute("value", tensor))
    if kind == "inside a loop":
        body = helper.make_graph([node], "body", [], [])
        node = helper.make_node("Loop", ["", ""], [], body=body)
    model.graph.node.insert(0, node)
    return model.SerializeToString()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["initialiser", "constant", "inside a loop"])
@pytest.mark.parametrize("where", ["beside it", "above it", "anywhere"])
def test_a_graph_that_leads_to_another_file_is_refused(
    where: str, kind: str, backend: str, tmp_path: Path
) -> None:
    pytest.importorskip(backend)
    (tmp_path / "secret").write_bytes(SECRET)
    locations = {"beside it": "secret", "above it": "../secret"}
    location = locations.get(where, str(tmp_path / "secret"))
    folder = bundle_of(tmp_path / "evil", model__onnx=leading_to(location, kind))
    (folder / "secret").write_bytes(SECRET)
    assert "lies in another file (external data)" in refusal(folder, backend)


@pytest.mark.control
def test_a_runtime_alone_would_have_read_the_other_file(tmp_path: Path) -> None:
    """What the check is for: ONNX Runtime gives the bytes of the file beside the graph."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(leading_to("secret"))
    (tmp_path / "secret").write_bytes(SECRET)
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    (normals,) = session.run(["normals"], {"image": np.zeros((1, 32, 32, 3), np.uint8)})
    assert normals[0, 0, 0].tobytes() == SECRET[:12]


def of_numbers_that_are_not_there(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="large", data_type=TensorProto.FLOAT, dims=[1 << 30])
    tensor.float_data.extend([0.0] * 4)
    model.graph.initializer.append(tensor)


def of_texts(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"]))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.zeros(2, np.float32), "values")
    values.dims[:] = [1 << 40]
    indices = numpy_helper.from_array(np.zeros(2, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def of_shape(*dims: int) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.initializer[0].dims.__setitem__(slice(None), dims)


@pytest.mark.parametrize(
    "change",
    [
        of_shape(1 << 40), of_shape(-1), of_shape(*[1] * 1000),
        of_numbers_that_are_not_there, of_texts, sparse,
    ],
)  # fmt: skip
def test_a_tensor_that_states_what_it_is_not_is_refused(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = tiny_graph()
    change(model)
    folder = bundle_of(tmp_path / "evil", model__onnx=model.SerializeToString())
    assert "is refused" in refusal(folder)


def nested(levels: int) -> bytes:
    """Graphs in attributes of nodes in graphs, by hand: protobuf's own writer gives up earlier."""

    def field(number: int, content: bytes) -> bytes:
        length, out = len(content), b""
        while True:
            out += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
            length >>= 7
            if not length:
                return bytes([number << 3 | 2]) + out + content

    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def test_graphs_in_graphs_end_somewhere(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path / "evil", model__onnx=nested(5000))
    assert "nested too deep" in refusal(folder)


def safetensors_header(entries: dict[str, object], data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 1 << 26) + b"{}",
        safetensors_header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 9]}}),
        safetensors_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        safetensors_header({"a": [] * 3}),
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
    ids=["endless header", "long header", "terabytes", "other size", "no data", "no shape", "deep"],
)  # fmt: skip
def test_weights_that_state_what_they_are_not_are_refused(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    architecture = {"tasks": ["depth"], "width": 16, "head_width": 8}
    refusal(bundle_of(tmp_path / "evil", architecture, weights__safetensors=content), "torch")


@pytest.mark.parametrize(
    "architecture",
    [
        {"tasks": ["depth"], "width": 10**9},
        {"tasks": ["depth"], "blocks": 10**9},
        {"tasks": ["depth"] * 10_000},
        {"tasks": ["depth"], "width": 2048, "head_width": 512, "blocks": 8},
        {"tasks": "depth"},
        {"tasks": ["depth"], "backbone": "../../x"},
        {"tasks": ["depth"], "backbone_weights": "/etc/passwd", "pretrained": True, "width": 16},
    ],
)
def test_an_architecture_beyond_measure_is_refused_before_it_is_built(
    architecture: dict[str, object], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    weights = save({"a": torch.zeros(1)})
    refusal(bundle_of(tmp_path / "evil", architecture, weights__safetensors=weights), "torch")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 500_000, "nested deeper"),
        ('{"metrics": ' + '{"a":' * 100 + "1" + "}" * 101, "nested deeper"),
        ('{"schema_version": 1' + "0" * 5000 + "}", "not valid JSON"),
        ('{"schema_version": 1' + "0" * 100 + "}", "a number of"),
        (" " * 1_000_001, "more than 1 MB"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "not valid JSON"),
        ("null", "no JSON object"),
    ],
    ids=["brackets", "deep", "long number", "number", "huge", "no text", "nothing"],
)
def test_a_model_json_that_is_a_bomb_is_refused(text: str, said: str, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "model.json").write_text(text)
    with pytest.raises(ProtoMtlError, match=said) as refused:
        Bundle.load(folder)
    assert len(str(refused.value)) < 600


def test_a_file_that_is_not_named_is_not_used(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path / "evil", README__md=b"hello")
    (folder / "model.onnx").write_bytes(tiny_graph().SerializeToString())
    assert "has no model.onnx" in refusal(folder)
