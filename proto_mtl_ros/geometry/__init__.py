# SPDX-License-Identifier: Apache-2.0
"""Cameras, letterboxing and depth geometry, with numpy and OpenCV alone.

Frames are optical frames (REP-103): x right, y down, z forward. Pixel centres lie at integer
coordinates, so a resize by ``s`` moves a coordinate ``c`` to ``(c + 0.5) * s - 0.5``.
"""

from proto_mtl_ros.geometry.camera import Camera, canonical_factor
from proto_mtl_ros.geometry.depth import depth_to_points, valid_depth
from proto_mtl_ros.geometry.letterbox import Letterbox, height_at, resize, resize_to_width

__all__ = [
    "Camera",
    "Letterbox",
    "canonical_factor",
    "depth_to_points",
    "height_at",
    "resize",
    "resize_to_width",
    "valid_depth",
]
