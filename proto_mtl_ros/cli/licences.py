# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl licences`: what is installed, and under which terms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.ros.replay.installation import shared_file
from tools import licences
from tools.licences import Licence

_INTRODUCTION = """# Licences

Made by `make licences` from the metadata of what `make test` installs on Linux x86_64 with Python
3.11: the versions of requirements/*.txt. `proto-mtl licences` prints the same of your machine. The
code of this project is under Apache-2.0 (LICENSE). Of what is listed here only models and
recordings are part of it. Not listed: ROS 2 where it comes from apt, and NVIDIA's CUDA libraries
(proprietary), which PyPI's torch brings along on Linux.

*demo* and *ros-wheels* are what `make demo` installs, *test* is what `make test` adds, *robot* is
requirements-robot.txt. A robot needs nothing that only *test* has.
"""
_DEFAULT = ("demo", "ros-wheels", "test")


def command(
    extra: Annotated[
        list[str] | None,
        typer.Option(help="Extras of setup.py to look at. [default: demo, ros-wheels, test]"),
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="Also a requirements file, such as requirements-robot.txt.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print docs/licences.md.")] = False,
) -> None:
    """Print name, version and licence of everything installed that this package needs.

    Copyleft, proprietary and unknown licences are flagged. The licences are what the packages
    say in their metadata; nobody has checked them.
    """
    sets = {name: licences.of_extra(name) for name in extra or _DEFAULT}
    if requirements is not None:
        sets["robot"] = licences.in_file(requirements)
    packages, missing = licences.installed(sets)
    shipped = {
        kind: of(folder)
        for kind, of in (
            ("models", licences.of_models),
            ("recordings", licences.of_recordings),
        )
        if (folder := shared_file(kind)) is not None
    }
    if markdown:
        typer.echo(_markdown(packages, shipped))
    else:
        for entry in (*packages, *(row for rows in shipped.values() for row in rows)):
            mark = f"  [{entry.flag}]" if entry.flag else ""
            typer.echo(f"{entry.name} {entry.version}".strip() + f": {entry.text}{mark}")
    if missing:
        typer.echo(f"not installed here: {', '.join(missing)}", err=True)


def _table(rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def _markdown(packages: list[Licence], shipped: dict[str, list[Licence]]) -> str:
    flagged = [[e.name, e.flag, e.text, ", ".join(e.used_for)] for e in packages if e.flag]
    listed = [[e.name, e.version, e.text, ", ".join(e.used_for)] for e in packages]
    parts = [_INTRODUCTION]
    for kind, rows in shipped.items():
        terms = [[e.name, e.text, e.flag] for e in rows]
        parts += [f"## {kind.capitalize()} that ship\n"]
        parts += [_table([["name", "terms", "to look at"], *terms]), ""]
    parts += ["## Packages to look at\n", _table([["name", "why", "licence", "for"], *flagged])]
    parts += ["\n## All packages\n", _table([["name", "version", "licence", "for"], *listed])]
    return "\n".join(parts)
