# SPDX-License-Identifier: Apache-2.0
"""Tensors as the onnx package writes them are taken; what protobuf allows besides is read right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from proto_mtl_ros.errors import BundleError
from proto_mtl_ros.runtime.onnx_check import check_graph

FLOAT, INT64 = 1, 7
TYPES = [kind for kind in TensorProto.DataType.values() if kind not in (0, TensorProto.STRING)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graph") / "model.onnx"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def model(tensor: bytes) -> bytes:
    """A model whose graph has one initialiser."""
    return part(7, part(5, tensor))


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        taken(path, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def taken(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    check_graph(path)


@given(st.sampled_from(TYPES), st.lists(st.integers(0, 5), max_size=4), st.booleans())
def test_every_tensor_that_onnx_writes_is_taken_and_a_part_of_one_is_not(
    path: Path, kind: int, shape: list[int], raw: bool
) -> None:
    count = math.prod(shape)
    values = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind))
    if raw:
        tensor = numpy_helper.from_array(values, "t")
        assert tensor.data_type == kind and tensor.HasField("raw_data")
    else:
        tensor = helper.make_tensor("t", kind, shape, values.reshape(-1))
    taken(path, model(tensor.SerializeToString()))
    tensor.dims.append(9)
    if count:
        said = refusal(path, model(tensor.SerializeToString()))
        assert f"t states a shape of {9 * count} values" in said


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "one by one"])
def test_dimensions_and_values_may_be_packed_or_not(path: Path, packed: bool) -> None:
    """onnx writes dimensions one by one and values packed; a reader has to take both."""
    dims = part(1, varint(2) + varint(300)) if packed else number(1, 2) + number(1, 300)
    floats = part(4, bytes(2400)) if packed else (varint(4 << 3 | 5) + bytes(4)) * 600
    numbers = part(7, varint(300) * 600) if packed else number(7, 300) * 600
    taken(path, model(dims + number(2, FLOAT) + floats))
    taken(path, model(dims + number(2, INT64) + numbers))
    if packed:
        onnx.load_model_from_string(model(dims + number(2, FLOAT) + floats))
    for kind, values in ((FLOAT, floats), (INT64, numbers)):
        assert "600 values" in refusal(path, model(dims + number(2, kind) + values + values))
        assert "600 values" in refusal(path, model(dims + number(2, kind) + number(4, 0)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (number(7, 1), "no ONNX file"),  # a graph that is a number
        (part(7, number(5, 1)), "no ONNX file"),
        (b"\x3b\x3c", "no ONNX file"),  # a group
        (b"\xff" * 11, "no ONNX file"),
        (b"\x80", "no ONNX file"),
        (part(7, b"")[:-1] + b"\x05", "cut off"),
        (part(0, b"x"), "no ONNX file"),
        (varint(3 << 3 | 1) + bytes(7), "cut off"),
        (varint(3 << 3 | 5) + bytes(3), "cut off"),
        (model(part(1, varint(1) * 17) + number(2, FLOAT) + part(9, bytes(4))), "impossible shape"),
        (model(number(1, 1 << 63) + number(2, FLOAT)), "impossible shape"),
        (model(number(2, 99)), "unknown type"),
        (model(part(8, b"a\nname") + number(2, 8)), "a name has elements of an unknown type (8)"),
    ],
)
def test_what_is_no_graph_is_refused(path: Path, content: bytes, said: str) -> None:
    assert said in refusal(path, content)


def test_fields_of_fixed_size_and_unknown_ones_are_passed_over(path: Path) -> None:
    unknown = varint(99 << 3 | 1) + bytes(8) + varint(98 << 3 | 5) + bytes(4) + part(97, b"x")
    taken(path, unknown + number(1, 10) + model(unknown + number(1, 1) + number(2, FLOAT)
                                                + part(9, bytes(4))))  # fmt: skip
    taken(path, b"")


def test_a_graph_of_endless_small_fields_is_refused(path: Path) -> None:
    assert "more than 1000000 fields" in refusal(path, number(1, 1) * 1_000_001)
