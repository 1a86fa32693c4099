# SPDX-License-Identifier: Apache-2.0
"""Messages with faults: fields changed at random, or bytes of their serialised form."""

from __future__ import annotations

import array
import math
import random
import re
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

_NUMBERS = (0.0, -0.0, -1.0, 1.0, 1e-308, 1e308, -1e308, math.nan, math.inf, -math.inf, 0.5)
_STRINGS = ("", "rgb8", "bgr8", "mono8", "bayer_rggb8", "yuv422", "32FC1", "nv99", "RGB8", "jpeg",
            "plumb_bob", "equidistant", "rational_polynomial", "16UC1; compressedDepth png",
            "\n[ERROR] forged", "%s%n", "a" * 5000, "\U0001f916")  # fmt: skip
_LONGEST = 200_000


class Mutator:
    """Changes valid messages; equal seeds give equal faults."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def fields(self, message: Any) -> Any:
        """Return a copy of a message with one to three fields changed."""
        copy = deserialize_message(serialize_message(message), type(message))
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._change(copy)
        return copy

    def octets(self, message: Any) -> bytes:
        """Return a serialised message with bytes changed, cut off, or put in."""
        data = bytearray(serialize_message(message))
        for _ in range(self._random.choice((1, 2, 8))):
            self._damage(data)
        return bytes(data)

    def _change(self, message: Any) -> None:
        kinds = message.get_fields_and_field_types()
        name = self._random.choice([*kinds, *(n for n in kinds if n not in ("header", "roi"))])
        value = getattr(message, name)
        if hasattr(value, "get_fields_and_field_types"):
            self._change(value)
        else:
            setattr(message, name, self._value(kinds[name], value))

    def _value(self, kind: str, value: Any) -> Any:
        if kind.startswith("sequence<uint8"):
            data = bytearray(value)
            self._damage(data)
            return array.array("B", data[:_LONGEST])
        if kind.startswith(("sequence<double", "double[")):
            return self._numbers(list(value), may_resize=kind.startswith("sequence"))
        if kind == "string":
            return self._random.choice((*_STRINGS, value[: len(value) // 2], value + "x"))
        if kind == "boolean":
            return not value
        return self._integer(kind, int(value))

    def _numbers(self, values: list[float], may_resize: bool) -> list[float]:
        if may_resize and self._random.random() < 0.4:
            return [self._random.uniform(-1, 1)] * self._random.choice((0, 1, 3, 4, 8, 14, 5000))
        if self._random.random() < 0.1:
            return [0.0] * len(values)
        if values:
            index = self._random.randrange(len(values))
            values[index] = self._random.choice((*_NUMBERS, self._random.uniform(-2000, 2000)))
        return values

    def _integer(self, kind: str, value: int) -> int:
        found = re.fullmatch(r"(u?)int(\d+)|octet|byte", kind)
        bits = int(found[2]) if found and found[2] else 8
        signed = bool(found and found[2] and not found[1])
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        near = (
            value - 1,
            value + 1,
            2 * value,
            value // 2,
            value ^ 1 << self._random.randrange(bits),
        )
        choice = self._random.choice((low, high, 0, 1, *near))
        return min(max(choice, low), high)

    def _damage(self, data: bytearray) -> None:
        """Change bytes in place."""
        position = self._random.randrange(len(data) + 1)
        what = self._random.randrange(5)
        if what == 0:
            del data[position:]
        elif what == 1:
            data[position:position] = self._random.randbytes(self._random.choice((1, 4, 3000)))
        elif what == 2:
            data[position : position + 4] = b"\xff\xff\xff\xff"
        elif what == 3:
            del data[position : position + self._random.choice((1, 4, 64))]
        elif data:
            data[position - 1] ^= 1 << self._random.randrange(8)
