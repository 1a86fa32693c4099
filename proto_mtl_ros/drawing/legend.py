# SPDX-License-Identifier: Apache-2.0
"""What the colours mean: class names, metres and directions; and text."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.drawing.maps import RGB, draw_depth, draw_normals

BACKGROUND = (250, 250, 250)
INK = (30, 30, 30)
LINE = 20
"""Height of a line of text in pixels."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.45
_MARGIN = 8
_SWATCH = 12


def blank(height: int, width: int) -> RGB:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def text_width(text: str) -> int:
    """Width of a line of text in pixels."""
    return int(cv2.getTextSize(_ascii(text), _FONT, _FONT_SCALE, 1)[0][0])


def write(picture: RGB, text: str, x: int, y: int, colour: Sequence[int] = INK) -> None:
    """Write a line of text whose upper left corner is (x, y) into the picture."""
    # The stroked font has ASCII alone.
    position = (int(x), int(y) + LINE - 6)
    shade = tuple(int(value) for value in colour)
    cv2.putText(picture, _ascii(text), position, _FONT, _FONT_SCALE, shade, 1, cv2.LINE_AA)


def class_shares(ids: Sequence[npt.NDArray[np.uint8]], classes: int) -> list[tuple[int, float]]:
    """Ids and shares of the labelled pixels of those classes that occur, most frequent first.

    Ids from ``classes`` on are unlabelled.
    """
    counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in ids], axis=0)[:classes]
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index] > 0]
    return [(index, float(counts[index] / counts.sum())) for index in order]


def class_legend(
    classes: Sequence[str],
    palette: npt.ArrayLike,
    width: int,
    ids: Sequence[npt.NDArray[np.uint8]] = (),
) -> RGB:
    """Colour and name of each class, wrapped into lines, uint8 [lines, width, 3].

    With class maps ``ids`` only their classes appear, as in ``class_shares``, each with its share.
    """
    entries = list(enumerate(classes))
    if len(ids):
        entries = [
            (index, f"{classes[index]} {'<1%' if share < 0.01 else f'{100 * share:.0f}%'}")
            for index, share in class_shares(ids, len(classes))
        ]
    places: list[tuple[int, int, int, str]] = []
    x, y = _MARGIN, 0
    for index, label in entries:
        needed = _SWATCH + 4 + text_width(label)
        if x > _MARGIN and x + needed > width - _MARGIN:
            x, y = _MARGIN, y + LINE
        places.append((x, y, index, label))
        x += needed + 12
    legend = blank(y + LINE, width)
    colours = np.asarray(palette)
    for x, y, index, label in places:
        top = y + (LINE - _SWATCH) // 2
        legend[top : top + _SWATCH, x : x + _SWATCH] = colours[index]
        write(legend, label, x + _SWATCH + 4, y)
    return legend


def depth_scale(near: float, far: float, width: int) -> RGB:
    """Colour bar of :func:`draw_depth` with ticks in metres, uint8 [2 lines, width, 3]."""
    scale = blank(2 * LINE + 4, width)
    bar = width - 2 * 2 * _MARGIN
    # Depth 0 would be drawn as invalid.
    metres = np.maximum(np.linspace(near, far, bar, dtype=np.float32), 1e-3)
    left = 2 * _MARGIN
    scale[4 : LINE - 2, left : left + bar] = draw_depth(metres[None], near, far)
    step = tick_step(far - near, bar // 50)
    first, last = int(np.ceil(near / step - 1e-6)), int(np.floor(far / step + 1e-6))
    ticks = [number * step for number in range(first, last + 1)]
    for metre in ticks:
        x = left + round((metre - near) / (far - near) * (bar - 1))
        scale[LINE - 2 : LINE + 3, x] = INK
        label = f"{metre:g} m" if metre == ticks[-1] else f"{metre:g}"
        x = min(x - text_width(f"{metre:g}") // 2, width - text_width(label))
        write(scale, label, x, LINE + 3)
    return scale


def normal_legend(width: int) -> RGB:
    """Colours of :func:`draw_normals` for the main directions, uint8 [lines, width, 3]."""
    directions: dict[str, tuple[float, float, float]] = {
        "facing camera": (0, 0, -1),
        "facing up": (0, -1, 0),
        "facing down": (0, 1, 0),
        "facing left": (-1, 0, 0),
        "facing right": (1, 0, 0),
    }
    vectors = np.array([list(directions.values())], np.float32)
    return class_legend(list(directions), draw_normals(vectors)[0], width)


def tick_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that gives at most so many ticks."""
    least = span / max(most, 1)
    power = 10.0 ** np.floor(np.log10(least))
    return float(
        next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)
    )


def _ascii(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
