# SPDX-License-Identifier: Apache-2.0
"""Where every pixel of one picture is in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class OpticalFlow:
    """Dense flow from one image to another of the same size: float32 [H, W, 2], (right, down) in
    pixels; and where each pixel has gone, maybe outside of the other image.
    """

    vectors: npt.NDArray[np.float32]
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]

    @classmethod
    def between(cls, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> OpticalFlow:
        """Flow from ``first`` to ``second``, grey [H, W] both."""
        opencv: Any = cv2  # whose type stubs do not know optical flow
        method = opencv.DISOpticalFlow.create(opencv.DISOPTICAL_FLOW_PRESET_FAST)
        vectors = method.calc(first, second, None)
        v, u = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
        return cls(vectors, u + vectors[..., 0], v + vectors[..., 1])

    def sampled(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the other image, or a map of it, where each pixel has gone; 0 outside."""
        return cv2.remap(image, self.x, self.y, cv2.INTER_LINEAR)

    def lengths(self) -> npt.NDArray[np.float32]:
        """How far each pixel has gone, float32 [H, W] in pixels."""
        return np.hypot(self.vectors[..., 0], self.vectors[..., 1])
