# SPDX-License-Identifier: Apache-2.0
"""A credits file: who made the models, under which terms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .models import LIBRARY_TERMS, Model

AUTHORS = {
    "Reallusion": "Reallusion (http://www.reallusion.com)",
    "KatorLegaz": "Andrew Kator & Jennifer Legaz (https://www.katorlegaz.com)",
    "Scopia": "Scopia Visual Interfaces Systems, s.l. (http://www.scopia.es) and "
    "Emmanuel Puybaret / eTeks",
}
NOTES = {
    "tvStand": "; its wood texture by Emmanuel Puybaret / eTeks",
    "radiator": " (Knyghtfall13x in its licence file)",
}

HEAD = """\
| model | author | terms | published at |
|---|---|---|---|
"""


def write(models: Iterable[Model], path: Path, text: str) -> None:
    """Write ``text`` and the credits of ``models``, each once, under a temporary name first."""
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
    temporary.write_text(text + HEAD + "".join(rows[key] for key in sorted(rows)), encoding="utf-8")
    temporary.replace(path)
