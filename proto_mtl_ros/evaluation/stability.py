# SPDX-License-Identifier: Apache-2.0
"""Do results keep still where the world does? Measured along optical flow, without any label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..geometry import resize
from ..tasks import DEPTH, IGNORE_INDEX

WIDTH = 320
"""Flow is computed on images of this width: finer motion says nothing more about flicker."""

RETURNS_WITHIN = 1.0
"""Pixels: flow there and back must end this close to where it began, else it is hidden or lost."""

SAME_BRIGHTNESS = 20.0
"""Grey levels that a pixel may change along its flow."""

_LEAST_PIXELS = 200


@dataclass(frozen=True)
class FrameStability:
    """Of one frame against the one before; NaN where it cannot be said.

    Attributes:
        followed: share of the pixels that could be followed from the frame before.
        flicker: share of those that have another class than before.
        jitter: mean |log(depth now / depth before)| of those, its median taken out, because a
            camera that moves forward brings everything nearer.
        motion: median length of the flow in pixels of ``WIDTH``.
    """

    followed: float
    flicker: float
    jitter: float
    motion: float


class Stability:
    """Takes frame after frame of one camera."""

    def __init__(self) -> None:
        opencv: Any = cv2  # whose type stubs do not know optical flow
        self._flow = opencv.DISOpticalFlow.create(opencv.DISOPTICAL_FLOW_PRESET_FAST)
        self._grey: np.ndarray | None = None
        self._ids: np.ndarray | None = None
        self._depth: np.ndarray | None = None

    def add(
        self, rgb: np.ndarray, ids: np.ndarray | None, depth: np.ndarray | None
    ) -> FrameStability | None:
        """Return the figures of a frame, None for the first one or one of another shape.

        Args:
            rgb: uint8 [H, W, 3].
            ids: uint8 [h, w], 255 = unlabelled, or None.
            depth: float32 [h, w] metres, invalid where not finite or not positive, or None.
        """
        height = max(1, round(WIDTH * rgb.shape[0] / rgb.shape[1]))
        grey = cv2.cvtColor(resize(rgb, WIDTH, height), cv2.COLOR_RGB2GRAY)
        ids = None if ids is None else resize(ids, WIDTH, height, "nearest")
        depth = None if depth is None else resize(depth, WIDTH, height, "nearest")
        before, self._grey = self._grey, grey
        ids_before, self._ids = self._ids, ids
        depth_before, self._depth = self._depth, depth
        if before is None or before.shape != grey.shape:
            return None
        return self._compare(before, grey, (ids_before, ids), (depth_before, depth))

    def _compare(
        self,
        before: np.ndarray,
        grey: np.ndarray,
        ids: tuple[np.ndarray | None, np.ndarray | None],
        depths: tuple[np.ndarray | None, np.ndarray | None],
    ) -> FrameStability:
        back = self._flow.calc(grey, before, None)
        forth = self._flow.calc(before, grey, None)
        v, u = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32)
        x, y = u + back[..., 0], v + back[..., 1]
        returned = back + cv2.remap(forth, x, y, cv2.INTER_LINEAR)
        was = cv2.remap(before, x, y, cv2.INTER_LINEAR).astype(np.float32)
        column, row = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
        inside = (column >= 0) & (row >= 0) & (column < grey.shape[1]) & (row < grey.shape[0])
        followed = (
            inside
            & (np.hypot(returned[..., 0], returned[..., 1]) < RETURNS_WITHIN)
            & (np.abs(was - grey) < SAME_BRIGHTNESS)
        )
        place = row[followed], column[followed]
        flicker = jitter = float("nan")
        if ids[0] is not None and ids[1] is not None:
            old, new = ids[0][place], ids[1][followed]
            known = (old != IGNORE_INDEX) & (new != IGNORE_INDEX)
            if known.sum() >= _LEAST_PIXELS:
                flicker = float((old[known] != new[known]).mean())
        if depths[0] is not None and depths[1] is not None:
            past, now = depths[0][place], depths[1][followed]
            both = DEPTH.valid(past) & DEPTH.valid(now)
            if both.sum() >= _LEAST_PIXELS:
                change = np.log(now[both].astype(np.float64) / past[both])
                jitter = float(np.abs(change - np.median(change)).mean())
        motion = np.hypot(back[..., 0], back[..., 1])
        return FrameStability(float(followed.mean()), flicker, jitter, float(np.median(motion)))
