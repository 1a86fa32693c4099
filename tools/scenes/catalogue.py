# SPDX-License-Identifier: Apache-2.0
"""What can stand in a random room: ``models.csv``, a line for each model.

Columns: library and model (a ``.sh3f`` file and its entry; ``procedural``: drawn by
:mod:`.shapes`), class, roles (what it is placed as), width, depth, height in metres, and ``rest``,
the height that things on it lie at: empty for its top, -1 for nothing lies on it.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .parts import CLASSES

TABLE = Path(__file__).with_name("models.csv")
SHOWN = Path(__file__).parents[2] / "recordings" / "room" / "CREDITS.md"
PROCEDURAL = "procedural"


@dataclass(frozen=True)
class Entry:
    """A model. ``label`` is its class, ``size`` (width, depth, height) in metres; ``rest`` the
    height that things on it lie at, None where nothing does."""

    library: str
    name: str
    label: int
    roles: tuple[str, ...]
    size: tuple[float, float, float]
    rest: float | None


def held_out() -> frozenset[tuple[str, str]]:
    """Library and name of the models of the recording that ships: never seen in training."""
    text = SHOWN.read_text(encoding="utf-8")
    return frozenset(re.findall(r"\(`([\w-]+)/([\w-]+)`\)", text))


@cache
def entries() -> tuple[Entry, ...]:
    """All models that may be drawn, in the order of the table."""
    out = []
    hidden = held_out()
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["library"], row["model"]) in hidden:
                continue
            size = (float(row["width"]), float(row["depth"]), float(row["height"]))
            rest = float(row["rest"] or size[2])
            out.append(
                Entry(row["library"], row["model"], CLASSES.index(row["class"]),
                      tuple(row["roles"].split()), size, None if rest < 0 else rest)
            )  # fmt: skip
    return tuple(out)


@cache
def by_role(role: str) -> tuple[Entry, ...]:
    """The models that may be placed as ``role``; never empty.

    Raises:
        KeyError: no model has the role.
    """
    found = tuple(e for e in entries() if role in e.roles)
    if not found:
        raise KeyError(role)
    return found
