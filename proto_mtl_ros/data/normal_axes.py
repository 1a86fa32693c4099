# SPDX-License-Identifier: Apache-2.0
"""The frame that stored normals are in, and finding it out where nobody wrote it down.

Public data sets store normals in every handedness there is. The depth beside them decides: normals
of the depth map are in the optical frame, so the signed permutation of the stored components that
agrees with them best is the right one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals

OPTICAL = "x,y,z"
"""The stored frame is the optical one: x right, y down, z forward, facing the camera."""

_NAMES = "xyz"
_LEAST_COSINE, _LEAST_LEAD = 0.75, 0.05


@dataclass(frozen=True)
class NormalAxes:
    """The stored component that holds x right, y down, z forward, and the sign of each."""

    order: tuple[int, int, int]
    signs: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> NormalAxes:
        """Return what a text such as ``x,-y,-z`` (OpenGL) says; DataError for another."""
        parts = [part.strip() for part in str(text).split(",")]
        letters = [part.lstrip("+-") for part in parts]
        if sorted(letters) != list(_NAMES) or any(len(part) > 2 for part in parts):
            raise DataError(
                f"normal_axes {text!r} must say which stored component, with its sign, points "
                "right, down and forward, such as x,y,z or x,-y,-z"
            )
        order = [_NAMES.index(letter) for letter in letters]
        signs = [-1 if part.startswith("-") else 1 for part in parts]
        return cls((order[0], order[1], order[2]), (signs[0], signs[1], signs[2]))

    def __str__(self) -> str:
        return ",".join(
            ("-" if sign < 0 else "") + _NAMES[place] for place, sign in zip(self.order, self.signs)
        )

    def optical(self, stored: np.ndarray) -> np.ndarray:
        """Return vectors [..., 3] in the optical frame."""
        return stored[..., list(self.order)] * np.array(self.signs, np.float32)


def find_normal_axes(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], camera: Camera, where: object
) -> NormalAxes:
    """Return the axes that agree with normals derived from depth.

    Args:
        frames: depth float32 [H, W] in metres and stored unit normals [H, W, 3] of a few frames.
        where: whose normals they are, for the message.

    Raises:
        DataError: no axes agree, or two agree equally well.
    """
    correlation, pixels = np.zeros((3, 3)), 0
    for depth, stored in frames:
        derived = depth_to_normals(depth, camera)
        both = derived.any(-1) & stored.any(-1)
        correlation += derived[both].astype(np.float64).T @ stored[both].astype(np.float64)
        pixels += int(both.sum())
    scores = sorted(
        (
            (sum(s * correlation[i, o] for i, (o, s) in enumerate(zip(order, signs))), order, signs)
            for order in permutations(range(3))
            for signs in product((1, -1), repeat=3)
        ),
        reverse=True,
    )
    best, second = scores[0][0] / max(pixels, 1), scores[1][0] / max(pixels, 1)
    if best < _LEAST_COSINE or best - second < _LEAST_LEAD:
        raise DataError(
            f"the axes of the normals of {where} cannot be told from its depth (agreement "
            f"{best:.2f}, next best {second:.2f}): give normal_axes, such as x,y,z or x,-y,-z"
        )
    return NormalAxes(scores[0][1], scores[0][2])  # type: ignore[arg-type]
