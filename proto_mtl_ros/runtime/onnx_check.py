# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file must keep to before any runtime opens it, read from its bytes alone.

Runtimes follow a tensor's reference to other files, and believe the size that it states. A robot
needs no onnx package for this check: the file is walked field by field, as protobuf lays it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from proto_mtl_ros.errors import BundleError, one_line
from proto_mtl_ros.files import read_bytes

MAX_GRAPH_BYTES = 1_000_000_000
_MAX_FIELDS = 1_000_000
_MAX_DEPTH = 32
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types; bytes of those of fixed size

# Message -> its fields that hold messages of interest (numbers of onnx.proto).
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": dict.fromkeys((5, 10), "tensor")
    | dict.fromkeys((6, 11), "graph")
    | dict.fromkeys((22, 23), "sparse"),
    "sparse": {1: "tensor", 2: "tensor"},
}
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
# Bits of an element by its type; texts (8) have none.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64,
         14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
         24: 8, 25: 2, 26: 2, 27: 6, 28: 6}  # fmt: skip
_COMPLEX = (14, 15)
# Field that holds the values -> bytes of a value, 0 where they are of any length.
_VALUES = {4: 4, 5: 0, 7: 0, 10: 8, 11: 0}

Field = tuple[int, int, int, int]
"""Number, wire type, and where its content starts and ends (a number: its value twice)."""


def check_graph(path: Path) -> None:
    """Raise BundleError for data in other files and tensors of another size than they state."""
    content = read_bytes(path, MAX_GRAPH_BYTES, BundleError)
    try:
        _Walk(content).message("model", 0, len(content))
    except ValueError as error:
        raise BundleError(f"{path} is refused: {error}; export the model again") from None


class _Walk:
    """A pass over a serialised message; ValueError says what is wrong."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._count = 0

    def message(self, kind: str, start: int, end: int, depth: int = 0) -> None:
        if kind == "tensor":
            self._tensor(start, end)
            return
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deep")
        inside = _INSIDE[kind]
        for number, wire, first, last in self._fields(start, end):
            if number in inside:
                if wire != _BYTES:
                    raise ValueError("it is no ONNX file")
                self.message(inside[number], first, last, depth + 1)

    def _tensor(self, start: int, end: int) -> None:
        dims: list[int] = []
        element = stored = 0
        raw: int | None = None
        name = "a constant"
        for number, wire, first, last in self._fields(start, end):
            if number == _EXTERNAL or (number == _LOCATION and first != 0):
                raise ValueError(f"{name} lies in another file (external data)")
            if number == _DIMS:
                dims += [first] if wire == _VARINT else self._varints(first, last)
            elif number == _TYPE:
                element = first
            elif number == _NAME and wire == _BYTES:
                text = bytes(self._content[first : min(last, first + 80)])
                name = one_line(text.decode(errors="replace"))
            elif number == _RAW and wire == _BYTES:
                raw = (raw or 0) + last - first
            elif number in _VALUES:
                size = _VALUES[number]
                if wire == _BYTES:
                    stored += (last - first) // size if size else self._numbers(first, last)
                else:
                    stored += 1
        if element not in _BITS:
            raise ValueError(f"{name} has elements of an unknown type ({element})")
        if len(dims) > 16 or any(size >= 1 << 63 for size in dims):
            raise ValueError(f"{name} has an impossible shape")
        wanted = math.prod(dims)
        bits = _BITS[element]
        if raw is not None:
            right = raw == (wanted * bits + 7) // 8
        elif element in _COMPLEX:  # two numbers each
            right = stored == 2 * wanted
        else:  # small types share a number
            share = max(1, 8 // bits)
            right = stored == (wanted + share - 1) // share
        if not right:
            raise ValueError(f"{name} states a shape of {wanted} values and has others")

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        at = start
        while at < end:
            self._count += 1
            if self._count > _MAX_FIELDS:
                raise ValueError(f"it has more than {_MAX_FIELDS} fields")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, at = self._varint(at, end)
                yield number, wire, value, value
                continue
            if wire == _BYTES:
                length, at = self._varint(at, end)
            elif wire in _FIXED:
                length = _FIXED[wire]
            else:
                raise ValueError("it is no ONNX file")
            if number == 0 or at + length > end:
                raise ValueError("it is cut off or no ONNX file")
            yield number, wire, at, at + length
            at += length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self._content[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value & ((1 << 64) - 1), at
        raise ValueError("it is cut off or no ONNX file")

    def _varints(self, at: int, end: int) -> list[int]:
        found: list[int] = []
        while at < end and len(found) <= 16:
            value, at = self._varint(at, end)
            found.append(value)
        return found

    def _numbers(self, first: int, last: int) -> int:
        """Return how many varints there are: each ends with a byte below 128."""
        import numpy as np

        return int((np.frombuffer(self._content[first:last], np.uint8) < 0x80).sum())
