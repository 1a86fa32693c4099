# SPDX-License-Identifier: Apache-2.0
"""Which frames calibrate an int8 graph, and which judge it: never the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Letterbox


def divided(source: FrameSource, calibrate: int, check: int) -> tuple[list[int], list[int]]:
    """Return the indices of frames to calibrate with and of others to judge by.

    Both are spread evenly over the whole source. Where it is a recording, a frame that judges is
    as far as possible from those that calibrate, yet shows the same place: the judgement is about
    arithmetic, not about new surroundings.

    Raises:
        DataError: there are fewer frames than needed for one of each.
    """
    count = len(source)
    if count < 2:
        raise DataError(f"{count} frames are not enough to calibrate and to check: give more")
    calibrate = min(calibrate, count // 2)
    check = min(check, count - calibrate)
    chosen = spread(range(count), calibrate)
    others = sorted(set(range(count)) - set(chosen))
    return chosen, spread(others, check)


def spread(indices: Sequence[int], count: int) -> list[int]:
    """Return ``count`` of the indices, evenly spread."""
    middle = (np.arange(count) + 0.5) * len(indices) / count
    return [indices[int(place)] for place in middle]


def network_images(
    source: FrameSource, indices: Sequence[int], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Yield uint8 [1, H, W, 3], the frames as the network sees them at ``size`` (height, width)."""
    for index in indices:
        rgb = source[index].rgb
        box = Letterbox.fit(rgb.shape[1], rgb.shape[0], size[1], size[0])
        yield box.apply(rgb)[None]
