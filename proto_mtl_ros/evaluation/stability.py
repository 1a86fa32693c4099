# SPDX-License-Identifier: Apache-2.0
"""Do results keep still where the world does? Measured along optical flow, without any label."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros.geometry import resize, resize_to_width
from proto_mtl_ros.geometry.optical_flow import OpticalFlow
from proto_mtl_ros.tasks import DEPTH, IGNORE_INDEX

WIDTH = 240
"""Flow is computed on images of this width: finer motion says nothing more about flicker."""

_RETURNS_WITHIN = 1.0  # pixels: flow there and back must end there, else it is hidden or lost
_SAME_BRIGHTNESS = 20.0  # grey levels that a pixel may change along its flow
_LEAST_PIXELS = 200


@dataclass(frozen=True)
class FrameStability:
    """Of one frame against the one before; None where it cannot be said.

    ``followed`` is the share of the pixels that could be followed from the frame before,
    ``flicker`` the share of those with another class, ``jitter`` their mean |log(depth now / depth
    before)|, its median taken out, because a camera that moves forward brings everything nearer,
    and ``motion`` the median length of the flow in pixels of ``WIDTH``.
    """

    followed: float
    flicker: float | None
    jitter: float | None
    motion: float


class Stability:
    """Takes frame after frame of one camera."""

    def __init__(self) -> None:
        self._before: _Frame | None = None

    def add(
        self, rgb: np.ndarray, ids: np.ndarray | None, depth: np.ndarray | None
    ) -> FrameStability | None:
        """Return the figures of a frame, None for the first one or one of another shape.

        uint8 [H, W, 3]; class ids uint8 [h, w]; metres float32 [h, w].
        """
        grey = cv2.cvtColor(resize_to_width(rgb, WIDTH), cv2.COLOR_RGB2GRAY)
        size = (WIDTH, grey.shape[0])
        now = _Frame(
            grey,
            None if ids is None else resize(ids, *size, "nearest"),
            None if depth is None else resize(depth, *size, "nearest"),
        )
        before, self._before = self._before, now
        if before is None or before.grey.shape != grey.shape:
            return None
        return _compared(before, now)


@dataclass(frozen=True, eq=False)
class _Frame:
    grey: np.ndarray
    ids: np.ndarray | None
    depth: np.ndarray | None


def _compared(before: _Frame, now: _Frame) -> FrameStability:
    back = OpticalFlow.between(now.grey, before.grey)
    forth = OpticalFlow.between(before.grey, now.grey)
    returned = back.vectors + back.sampled(forth.vectors)
    was = back.sampled(before.grey).astype(np.float32)
    column, row = np.rint(back.x).astype(np.intp), np.rint(back.y).astype(np.intp)
    height, width = now.grey.shape
    followed = (
        ((column >= 0) & (row >= 0) & (column < width) & (row < height))
        & (np.hypot(returned[..., 0], returned[..., 1]) < _RETURNS_WITHIN)
        & (np.abs(was - now.grey) < _SAME_BRIGHTNESS)
    )
    place = row[followed], column[followed]
    flicker = jitter = None
    if before.ids is not None and now.ids is not None:
        old, new = before.ids[place], now.ids[followed]
        known = (old != IGNORE_INDEX) & (new != IGNORE_INDEX)
        if known.sum() >= _LEAST_PIXELS:
            flicker = float((old[known] != new[known]).mean())
    if before.depth is not None and now.depth is not None:
        past, present = before.depth[place], now.depth[followed]
        both = DEPTH.valid(past) & DEPTH.valid(present)
        if both.sum() >= _LEAST_PIXELS:
            change = np.log(present[both].astype(np.float64) / past[both])
            jitter = float(np.abs(change - np.median(change)).mean())
    motion = float(np.median(back.lengths()))
    return FrameStability(float(followed.mean()), flicker, jitter, motion)
