# SPDX-License-Identifier: Apache-2.0
"""When each image was sent or each result received: the log that player and recorder leave.

Times are of the monotonic clock, which the processes of one machine share, so the difference of
two logs is a latency.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proto_mtl_ros.errors import BagError
from proto_mtl_ros.files import read_json, write_text

_MOST_BYTES = 64_000_000


@dataclass
class StampLog:
    """Per topic, header stamps (ns) in the order of sending or arrival, and monotonic times (ns) of
    the same messages; and single figures beside them.
    """

    stamps: dict[str, list[int]] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def add(self, topic: str, stamp: int, time: int) -> None:
        self.stamps.setdefault(topic, []).append(stamp)
        self.times.setdefault(topic, []).append(time)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> StampLog:
        return cls(**read_json(path, BagError, _MOST_BYTES))


def header_stamp(cdr: bytes) -> int:
    """Return the stamp, in nanoseconds, of a serialised message that begins with a header."""
    if len(cdr) < 12:
        raise BagError("a message is too short to hold a header: it is damaged")
    seconds, nanoseconds = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def shifted(cdr: bytes, nanoseconds: int) -> bytes:
    """Return a serialised message that begins with a header, its stamp moved by so much."""
    moved = bytearray(cdr)
    layout = "<iI" if cdr[1] & 1 else ">iI"
    try:
        struct.pack_into(layout, moved, 4, *divmod(header_stamp(cdr) + nanoseconds, 1_000_000_000))
    except struct.error:
        raise BagError("a message has a time that no stamp can have: it is damaged") from None
    return bytes(moved)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False))
