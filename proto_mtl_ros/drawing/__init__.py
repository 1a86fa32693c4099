# SPDX-License-Identifier: Apache-2.0
"""Images of predictions for people, with numpy and OpenCV alone. All colours are RGB.

Legends, charts and sheets, which a node does not need, are in modules of their own.
"""

from proto_mtl_ros.drawing.maps import draw_depth, draw_normals, draw_segmentation, overlay

__all__ = ["draw_depth", "draw_normals", "draw_segmentation", "overlay"]
