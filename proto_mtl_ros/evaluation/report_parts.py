# SPDX-License-Identifier: Apache-2.0
"""What all reports share: the page around the sections, panels of a frame, legends, facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from proto_mtl_ros.drawing import (
    SheetRow,
    class_shares,
    draw_depth,
    draw_normals,
    tinted,
)
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.evaluation.report_style import STYLE
from proto_mtl_ros.evaluation.report_values import (
    image,
    percent,
)


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Return a whole HTML page that loads nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="soft">{escape(subtitle)}</p>'
        f"{''.join(sections)}</main></body></html>"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Return figures in large type, each with what it means."""
    body = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text in pairs
    )
    return f'<div class="tiles">{body}</div>'


def panels(row: SheetRow, palette: np.ndarray, far: float) -> dict[str, np.ndarray]:
    """Return the pictures of a frame by what they show, uint8 [h, w, 3] each."""
    found: dict[str, np.ndarray] = {"input": row.rgb}
    if row.segmentation is not None:
        found["classes over input"] = tinted(row.rgb, row.segmentation, palette)
    if row.depth is not None:
        found["depth"] = draw_depth(row.depth, 0.0, far)
    if row.reference_depth is not None:
        found["measured depth"] = draw_depth(row.reference_depth, 0.0, far)
    if row.normals is not None:
        found["normals"] = draw_normals(row.normals)
    return found


def class_legend_html(rows: Sequence[SheetRow], classes: Sequence[str], palette: np.ndarray) -> str:
    """Return the colours of the classes that occur, with their shares."""
    maps = [row.segmentation for row in rows if row.segmentation is not None]
    if not maps:
        return ""
    items = []
    for index, share in class_shares(maps, len(classes)):
        red, green, blue = (int(v) for v in palette[index])
        items.append(
            f'<span><i style="background:rgb({red},{green},{blue})"></i>'
            f"{escape(classes[index])} {percent(share)}</span>"
        )
    return f'<div class="legend">{"".join(items)}</div>'


def depth_scale_html(far: float) -> str:
    """Return the colours of depth from 0 to ``far`` metres."""
    ramp = np.linspace(far / 256, far, 256, dtype=np.float32)[None]
    png = encode_compressed(draw_depth(ramp, 0.0, far), "png").tobytes()
    return (
        f'<div class="scale"><span>depth 0 m</span>{image(png, "depth colours", "png")}'
        f"<span>{far:g} m</span></div>"
    )


def made_with(facts: Mapping[str, str]) -> str:
    """Return the section on what a report was made with."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f'<h2>Made with</h2><div class="card"><table>{rows}</table></div>'
