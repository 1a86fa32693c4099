# SPDX-License-Identifier: Apache-2.0
"""HTML reports from the templates beside this file: one file each that loads nothing.

Names of topics, classes and files are other people's text: the templates escape whatever they get.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from proto_mtl_ros import __version__
from proto_mtl_ros.drawing import draw_depth
from proto_mtl_ros.drawing.contact_sheet import SheetRow, far_limit, panels
from proto_mtl_ros.drawing.legend import class_shares
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.files import write_text
from proto_mtl_ros.geometry import resize_to_width
from proto_mtl_ros.runtime.machine import machine

YARDSTICKS = {
    "miou": "0.5 is usable, 0.7 good",
    "abs_err": "indoors 0.4 m is usable, 0.2 m good",
    "mean_deg": "30 degrees are usable, 20 good",
}
"""What figures are worth, by the name of the figure."""

_PANELS = ("input", "classes over input", "depth", "measured depth", "normals")
_WIDTH = 360


def write_report(path: Path, template: str, **content: Any) -> None:
    """Fill a template; the page appears whole or not at all."""
    write_text(path, filled(template, **content))


def filled(template: str, **content: Any) -> str:
    """Fill a template; what goes into HTML is escaped."""
    return _environment().get_template(template).render(content)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("proto_mtl_ros.evaluation"),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["yardsticks"] = YARDSTICKS
    environment.filters.update(number=number, percent=percent, zip=zip)
    return environment


def number(value: float | None, decimals: int = 3) -> str:
    """Return a number with so many decimals, "-" for None and NaN."""
    return "-" if value is None or value != value else f"{value:.{decimals}f}"


def percent(part: float | None) -> str:
    """Return a part of 1 in whole per cent, "<1 %" for what rounds to none, "-" for None."""
    if part is None:
        return "-"
    return "<1 %" if 0 < part < 0.005 else f"{100 * part:.0f} %"


def picture(rgb: np.ndarray, kind: str = "jpeg") -> str:
    """Return uint8 [H, W, 3] as the source of an <img>."""
    if rgb.shape[1] > _WIDTH:
        rgb = resize_to_width(rgb, _WIDTH)
    data = encode_compressed(rgb, kind, 82).tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def machine_facts() -> dict[str, str]:
    """Return what a report was made on, by name."""
    facts = machine()
    versions = {"proto_mtl_ros": __version__, "Python": facts["python"], **facts["versions"]}
    return {
        "machine": f"{facts['processor']}, {facts['cores']} CPUs",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def drawn_frames(
    groups: Mapping[str, Sequence[SheetRow]], classes: Sequence[str], palette: np.ndarray
) -> dict[str, Any]:
    """Return frames as pictures for the macros of ``macros.html``; they share one depth range.

    "heads": the columns that appear. "legend": name, colour and share of the classes that occur.
    "far": metres at the end of the colours of "scale", None without depth. And for each group a
    list of its frames: "caption" and "panels", one for each head, None where missing.
    """
    rows = {id(row): row for own in groups.values() for row in own}
    far = far_limit(list(rows.values()))
    drawn = {
        key: {name: picture(rgb) for name, rgb in panels(row, palette, far).items()}
        for key, row in rows.items()
    }
    heads = [name for name in _PANELS if any(name in own for own in drawn.values())]
    maps = [row.segmentation for row in rows.values() if row.segmentation is not None]
    shares = class_shares(maps, len(classes)) if maps else []
    ramp = np.linspace(far / 256, far, 256, dtype=np.float32)[None]
    return {
        "heads": heads,
        "legend": [(classes[i], colour(palette[i]), share) for i, share in shares],
        "far": far if {"depth", "measured depth"} & set(heads) else None,
        "scale": picture(draw_depth(ramp, 0.0, far), "png"),
        **{
            name: [
                {"caption": row.caption, "panels": [drawn[id(row)].get(head) for head in heads]}
                for row in own
            ]
            for name, own in groups.items()
        },
    }


def colour(rgb: Sequence[int]) -> str:
    """Return a colour as CSS."""
    return "rgb({},{},{})".format(*(int(value) for value in rgb))
