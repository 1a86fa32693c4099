# SPDX-License-Identifier: Apache-2.0
"""Values as text and pictures as data, for an HTML page."""

from __future__ import annotations

import base64
from html import escape


def image(data: bytes, text: str, kind: str = "jpeg") -> str:
    """Return an <img> with its data inside; ``text`` is read where it is not seen."""
    source = base64.b64encode(data).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{source}">'


def milliseconds(value: float | None) -> str:
    """Return whole milliseconds, "-" for None."""
    return "-" if value is None else f"{value:.0f} ms"


def number(value: float | None, decimals: int = 3) -> str:
    """Return a number with so many decimals, "-" for None."""
    return "-" if value is None else f"{value:.{decimals}f}"


def percent(part: float | None) -> str:
    """Return a part of 1 in per cent, "-" for None."""
    return "-" if part is None else f"{100 * part:.0f} %"
