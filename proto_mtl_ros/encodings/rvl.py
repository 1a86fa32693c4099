# SPDX-License-Identifier: Apache-2.0
"""RVL, a lossless code for depth images that many RGB-D drivers send.

After A. D. Wilson: "Fast Lossless Depth Image Compression", ISS 2017. A picture is runs of zeros
and runs of other values; each value is the difference to the one before it, its sign in the lowest
bit; all numbers are written in groups of three bits with a fourth that says whether more follow,
eight groups to a word, the first in its highest bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proto_mtl_ros.encodings.encoding import EncodingError

_LONGEST = 11
"""Groups that a number of 32 bits can have."""


def decode_rvl(content: bytes, count: int) -> npt.NDArray[np.uint16]:
    """Return ``count`` values, uint16, of RVL data; EncodingError ``bad_rvl``."""
    numbers = _numbers(content)
    out = np.zeros(count, np.uint16)
    place = at = 0
    previous = 0
    while place < count:
        if at + 1 >= len(numbers):
            raise EncodingError("bad_rvl", f"depth ends after {place} of {count} pixels")
        zeros, others = int(numbers[at]), int(numbers[at + 1])
        place, at = place + zeros, at + 2
        coded = numbers[at : at + others]
        if place + others > count or len(coded) < others:
            raise EncodingError("bad_rvl", f"depth has other than {count} pixels")
        if others:
            values = previous + np.cumsum((coded >> 1) ^ -(coded & 1))
            out[place : place + others] = values.astype(np.uint16)
            previous = int(values[-1])
        place, at = place + others, at + others
    return out


def _numbers(content: bytes) -> npt.NDArray[np.int64]:
    """Return all numbers of the data; of an unfinished one at the end nothing."""
    words = np.frombuffer(content, "<u4", len(content) // 4)
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    groups = ((words[:, None] >> shifts) & 15).astype(np.uint8).reshape(-1)
    ends = np.flatnonzero(groups < 8)
    if not len(ends):
        return np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise EncodingError("bad_rvl", "depth is not RVL: a number has more than 32 bits")
    places = np.arange(ends[-1] + 1) - np.repeat(starts, lengths)
    parts = (groups[: ends[-1] + 1] & 7).astype(np.int64) << (3 * places)
    return np.add.reduceat(parts, starts)
