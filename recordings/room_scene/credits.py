# SPDX-License-Identifier: Apache-2.0
"""The credits file of the recording: who made the models, under which terms, what was changed."""

from __future__ import annotations

from pathlib import Path

from .models import LIBRARY_TERMS, Model

AUTHORS = {
    "KatorLegaz": "Andrew Kator & Jennifer Legaz (https://www.katorlegaz.com)",
    "Scopia": "Scopia Visual Interfaces Systems, s.l. (http://www.scopia.es) and "
    "Emmanuel Puybaret / eTeks",
}
NOTES = {
    "tvStand": "; its wood texture by Emmanuel Puybaret / eTeks",
    "radiator": " (Knyghtfall13x in its licence file)",
}

HEAD = """\
# The room: content and credits

A camera is carried through a furnished room. Every frame has, at one stamp and in one camera
(fx = fy = 525, c = (319.5, 239.5), no distortion, frame `camera_color_optical_frame`):

| topic | content |
|---|---|
| `/camera/color/image_raw/compressed` | jpeg |
| `/camera/depth/image_rect_raw` | 16UC1, millimetres along the optical axis, exact to rounding |
| `/camera/normals/image` | 8SC3, unit vector times 127, optical frame, facing the camera |
| `/camera/segmentation/image` | mono8, the 13 NYU classes by alphabet: 0 bed .. 12 window |
| `/camera/color/camera_info`, `/camera/depth/camera_info` | the same camera twice |

Depth, normals and labels are those of one ray through each pixel's centre; the window's glass
counts as a surface, and rugs count as floor, curtains as window, pillows and lamps as objects.

## Credits

The recording in this folder is a rendering: no photograph, no real place, no person. Room,
textures of walls, floor, curtains, pictures and view, light and camera are procedural
(`../render_room.py`, Apache-2.0). The furniture models come from the Sweet Home 3D furniture
libraries 1.8 as packaged by Debian (`sweethome3d-furniture`), where the Blend Swap models were
cleaned and converted by Emmanuel Puybaret / eTeks. The recording holds images of them only; the
models themselves are not part of this repository.

All were changed: scaled, placed, lit, rendered without gloss, and some recoloured (bookcase, sofa,
bed, coffee table, television, lamp shades). Their authors endorse neither this project nor its use.

Our part of the recording is under this repository's licence (Apache-2.0). Whoever passes it on
keeps the credits below, which the terms of the CC BY models ask for.

| model | author | terms | published at |
|---|---|---|---|
"""


def write(models: list[Model], path: Path) -> None:
    """Write the credits of ``models`` to ``path``, each once, under a temporary name first."""
    rows = {}
    for model in models:
        terms, link = LIBRARY_TERMS[model.library]
        author = AUTHORS.get(model.library, model.author) + NOTES.get(model.name, "")
        source = model.source or "-"
        rows[model.library, model.name] = (
            f"| {model.title} (`{model.library}/{model.name}`) | {author} | "
            f"[{terms}]({link}) | {source} |\n"
        )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(HEAD + "".join(rows[key] for key in sorted(rows)), encoding="utf-8")
    temporary.replace(path)
