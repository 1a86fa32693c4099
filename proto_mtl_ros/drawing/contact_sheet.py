# SPDX-License-Identifier: Apache-2.0
"""Frames below one another: picture, classes, depth and normals side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proto_mtl_ros.drawing.legend import (
    LINE,
    blank,
    class_legend,
    depth_scale,
    normal_legend,
    text_width,
    write,
)
from proto_mtl_ros.drawing.maps import RGB, draw_depth, draw_normals, overlay
from proto_mtl_ros.geometry import height_at, resize

_TINT = 0.55  # weight of the class colours over a picture
_GAP = 6
_MISSING = (225, 225, 225)
_SHADE = (20, 20, 20)
_WHITE = (255, 255, 255)
_FAR_CHOICES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 80.0)


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One frame of a contact sheet. Maps may have another size than the picture, or be missing.

    They are as in a prediction; ``reference_depth`` is measured, float32 [h, w] in metres.
    """

    caption: str
    rgb: RGB
    segmentation: npt.NDArray[np.uint8] | None = None
    depth: npt.NDArray[np.float32] | None = None
    normals: npt.NDArray[np.float32] | None = None
    reference_depth: npt.NDArray[np.float32] | None = None


def contact_sheet(
    rows: Sequence[SheetRow],
    classes: Sequence[str],
    palette: npt.ArrayLike,
    far: float | None = None,
    panel_width: int = 320,
) -> RGB:
    """A labelled grid, uint8 [H, W, 3]: input, classes, depth, normals, with what colours mean.

    A column appears when any row has its map. Below the columns are the classes present with
    their share, the metre scale and the directions.

    ``far`` is the depth in metres at the end of the colours, None for ``far_limit`` of all rows.
    Raises ValueError when there are no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    end = far_limit(rows) if far is None else far
    ids = [row.segmentation for row in rows if row.segmentation is not None]
    scale, directions = depth_scale(0.0, end, panel_width), normal_legend(panel_width)
    legends = {
        "input": blank(LINE, panel_width),
        "classes over input": class_legend(classes, palette, panel_width, ids) if ids else scale,
        "depth": scale,
        "measured depth": scale,
        "normals": directions,
    }
    drawn = [panels(row, palette, end) for row in rows]
    columns = [
        (title, [own.get(title) for own in drawn], legend)
        for title, legend in legends.items()
        if any(title in own for own in drawn)
    ]
    heights = [height_at(panel_width, row.rgb) for row in rows]
    footer = max(legend.shape[0] for _, _, legend in columns)
    total_width = _GAP + len(columns) * (panel_width + _GAP)
    total_height = _GAP + LINE + sum(height + _GAP for height in heights) + footer + _GAP
    sheet = blank(total_height, total_width)
    for number, (title, pictures, legend) in enumerate(columns):
        left = _GAP + number * (panel_width + _GAP)
        across = slice(left, left + panel_width)
        write(sheet, title, left + (panel_width - text_width(title)) // 2, _GAP - 2)
        top = _GAP + LINE
        for row, picture, height in zip(rows, pictures, heights, strict=True):
            sheet[top : top + height, across] = _panel(picture, panel_width, height)
            if number == 0 and row.caption:
                _write_caption(sheet[top : top + height, across], row.caption)
            top += height + _GAP
        sheet[top : top + legend.shape[0], across] = legend
    return sheet


def panels(row: SheetRow, palette: npt.ArrayLike, far: float) -> dict[str, RGB]:
    """Return what there is of a frame as pictures by title; ``far``: metres at the colours' end."""
    found = {"input": row.rgb}
    if row.segmentation is not None:
        height, width = row.segmentation.shape
        rgb = resize(row.rgb, width, height)
        found["classes over input"] = overlay(rgb, row.segmentation, palette, _TINT)
    if row.depth is not None:
        found["depth"] = draw_depth(row.depth, 0.0, far)
    if row.reference_depth is not None:
        found["measured depth"] = draw_depth(row.reference_depth, 0.0, far)
    if row.normals is not None:
        found["normals"] = draw_normals(row.normals)
    return found


def _panel(picture: RGB | None, width: int, height: int) -> RGB:
    """The picture at the panel's size; grey with a note where there is none."""
    if picture is None:
        panel = np.full((height, width, 3), _MISSING, np.uint8)
        write(panel, "none", (width - text_width("none")) // 2, (height - LINE) // 2)
        return panel
    return resize(picture, width, height, "linear" if width <= picture.shape[1] else "nearest")


def _write_caption(panel: RGB, caption: str) -> None:
    """Write white on a dark strip at the bottom left of the panel, in place."""
    height, width = panel.shape[:2]
    strip = panel[max(height - LINE, 0) :, : min(text_width(caption) + 8, width)]
    strip[...] = _SHADE
    write(panel, caption, 4, height - LINE, _WHITE)


def far_limit(rows: Sequence[SheetRow]) -> float:
    """Return a round number of metres that 98 % of all depths of the rows lie within."""
    maps = [m[::4, ::4] for row in rows for m in (row.depth, row.reference_depth) if m is not None]
    values = np.concatenate([m[np.isfinite(m) & (m > 0)] for m in maps]) if maps else np.empty(0)
    far = float(np.percentile(values, 98)) if values.size else 0.0
    return next((choice for choice in _FAR_CHOICES if choice >= far), _FAR_CHOICES[-1])
