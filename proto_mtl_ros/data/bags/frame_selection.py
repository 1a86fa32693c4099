# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording that are worth learning from: each shows something new, none is blurred."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros.geometry import resize_to_width
from proto_mtl_ros.geometry.optical_flow import OpticalFlow

_WIDTH = 160
"""Motion is measured at this width."""

_SHARP_WIDTH = 320
_SAME = 0.97
"""Correlation of two small pictures above which they show the same, whatever the flow says."""

_LEAST_SHARPNESS = 0.5
_NEIGHBOURS = 15
"""Frames before that sharpness is compared with: how sharp a frame can be depends on the scene."""


@dataclass(frozen=True)
class FrameLook:
    """What an image looks like: small, grey uint8 [h, w]; and the variance of its Laplacian."""

    small: np.ndarray
    sharpness: float

    @classmethod
    def of(cls, rgb: np.ndarray) -> FrameLook:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        middle = resize_to_width(grey, _SHARP_WIDTH)
        small = resize_to_width(grey, _WIDTH)
        return cls(small, float(cv2.Laplacian(middle, cv2.CV_64F).var()))


def motion(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far the image moved from one ``FrameLook.small`` to another, the median flow as a
    part of its width; 1 for another scene, or one that cannot be followed.
    """
    if first.shape != second.shape:
        return 1.0
    flow = OpticalFlow.between(first, second)
    explained = _correlation(first, flow.sampled(second))
    if explained < 0.5:  # the flow has found nothing to hold on to
        return 0.0 if _correlation(first, second) > _SAME else 1.0
    return float(np.median(flow.lengths()) / first.shape[1])


def choose_frames(
    looks: Iterable[tuple[int, FrameLook]],
    least_motion: float = 0.05,
    window: int = 5,
) -> list[int]:
    """Return the stamps of frames to keep, in order, of (stamp, look) in theirs.

    A frame comes into question once the image has moved by ``least_motion`` of its width since
    the last one that was kept, and the first one. Of it and the next few, ``window`` in all, the
    sharpest is taken, unless all are blurred against the median of the frames before.
    """
    kept: list[int] = []
    last: FrameLook | None = None
    before: deque[float] = deque(maxlen=_NEIGHBOURS)
    candidates: list[tuple[int, FrameLook]] = []

    def settle() -> None:
        nonlocal last
        stamp, look = max(candidates, key=lambda item: item[1].sharpness)
        if look.sharpness >= _LEAST_SHARPNESS * float(np.median(before)):
            kept.append(stamp)
            last = look
        candidates.clear()

    for stamp, look in looks:
        before.append(look.sharpness)
        if candidates or last is None or motion(last.small, look.small) >= least_motion:
            candidates.append((stamp, look))
        if len(candidates) == window:
            settle()
    if candidates:
        settle()
    return kept


def time_blocks(
    stamps: Sequence[int], blocks: Sequence[tuple[str, float]], span: tuple[int, int] | None = None
) -> dict[str, list[int]]:
    """Divide stamps into splits by time: neighbours in time are neighbours in what they show.

    Blocks are (name, part of the duration) in the order of time; a name may come again, "skip"
    leaves its frames out. ``span`` is that of the recording, None: of the stamps. ValueError where
    parts are not positive or no whole.
    """
    parts = [part for _, part in blocks]
    if not blocks or min(parts) <= 0 or abs(sum(parts) - 1) > 0.01:
        raise ValueError(f"parts of the recording must be positive and add up to 1, not {parts}")
    ordered = sorted(stamps)
    found: dict[str, list[int]] = {name: [] for name, _ in blocks if name != "skip"}
    if not ordered:
        return found
    start, end = span or (ordered[0], ordered[-1])
    ends = start + np.cumsum(parts) / sum(parts) * (end - start)
    for stamp in ordered:
        place = min(int(np.searchsorted(ends, stamp, side="left")), len(blocks) - 1)
        name = blocks[place][0]
        if name != "skip":
            found[name].append(stamp)
    return found


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 1.0
