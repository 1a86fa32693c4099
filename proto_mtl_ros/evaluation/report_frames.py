# SPDX-License-Identifier: Apache-2.0
"""Frames in a report: a slider through all that are shown, the best and the worst."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.evaluation.replay_pictures import jpeg
from proto_mtl_ros.evaluation.report_parts import (
    class_legend_html,
    depth_scale_html,
    panels,
)
from proto_mtl_ros.evaluation.report_values import image
from proto_mtl_ros.geometry import (
    height_at,
    resize,
)

_PANEL = 320
_COLUMNS = ("input", "classes over input", "depth", "measured depth", "normals")

EXTREMES = 3
"""Best and worst frames that are shown."""


def best_and_worst(errors: Iterable[tuple[float, int]]) -> tuple[list[int], list[int]]:
    """Return which of (error, frame) are the best and which the worst; none is both."""
    ranked = [frame for _, frame in sorted(errors)]
    best = ranked[: min(EXTREMES, len(ranked) // 2)]
    return best, ranked[::-1][: len(best)]


def slider(
    rows: Sequence[SheetRow], classes: Sequence[str], palette: np.ndarray, far: float
) -> str:
    """Return the section in which a slider goes through the frames; "" without any."""
    if not rows:
        return ""
    frames = [
        {"time": row.caption, "data": base64.b64encode(_strip(row, palette, far)).decode("ascii")}
        for row in rows
    ]
    first = rows[0]
    heads = " | ".join(name for name in _COLUMNS if name in panels(first, palette, far))
    script = (
        "const frames=JSON.parse(document.getElementById('frames').textContent);"
        "const slider=document.getElementById('slider'),picture=document.getElementById('frame'),"
        "time=document.getElementById('time');"
        "function show(){const f=frames[slider.value];"
        "picture.src='data:image/jpeg;base64,'+f.data;time.textContent=f.time;}"
        "slider.addEventListener('input',show);show();"
    )
    return (
        '<h2>Through the recording</h2><div class="card">'
        f'<p class="soft">{escape(heads)}</p>'
        '<img id="frame" alt="a frame and its results" style="width:100%;border-radius:6px">'
        f'<p><input id="slider" type="range" min="0" max="{len(frames) - 1}" value="0" step="1"'
        ' style="width:80%" aria-label="frame"> <span id="time"></span></p>'
        f"{class_legend_html(rows, classes, palette)}{depth_scale_html(far)}"
        f'<script type="application/json" id="frames">{json.dumps(frames)}</script>'
        f"<script>{script}</script></div>"
    )


def _strip(row: SheetRow, palette: np.ndarray, far: float) -> bytes:
    """Return the panels of a frame side by side, a JPEG."""
    shown = panels(row, palette, far)
    height = height_at(_PANEL, row.rgb)
    pictures = [
        resize(np.ascontiguousarray(shown[name]), _PANEL, height)
        for name in _COLUMNS
        if name in shown
    ]
    return jpeg(np.concatenate(pictures, 1), _PANEL * len(pictures), 80)


def extremes(
    by: str,
    best: Sequence[SheetRow],
    worst: Sequence[SheetRow],
    palette: np.ndarray,
    far: float,
) -> str:
    """Return the sections of the best and the worst frames by a figure; "" without any."""
    if not best:
        return ""
    cards = []
    for title, rows in ((f"Best by {by}", best), (f"Worst by {by}", worst)):
        strips = "".join(
            f"<figure>{image(_strip(row, palette, far), row.caption)}"
            f"<time>{escape(row.caption)}</time></figure>"
            for row in rows
        )
        cards.append(f'<h2>{title}</h2><div class="card"><div class="moments">{strips}</div></div>')
    return "".join(cards)
