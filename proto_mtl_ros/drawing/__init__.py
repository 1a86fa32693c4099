# SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions for people, with numpy and OpenCV alone. All colours are RGB."""

from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet, tinted
from proto_mtl_ros.drawing.legend import class_legend, class_shares, depth_scale, normal_legend
from proto_mtl_ros.drawing.maps import draw_depth, draw_normals, draw_segmentation, overlay

__all__ = [
    "SheetRow",
    "class_legend",
    "class_shares",
    "contact_sheet",
    "depth_scale",
    "draw_depth",
    "draw_normals",
    "draw_segmentation",
    "normal_legend",
    "overlay",
    "tinted",
]
