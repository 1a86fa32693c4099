# SPDX-License-Identifier: Apache-2.0
"""Licences of what is installed, as its own metadata states them; models and recordings, too."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files.installation import shared_file
from tools.performance.page import render

PACKAGE = "proto_mtl_ros"
UNKNOWN = "unknown"

# Strong copyleft first: the first that matches names the flag.
_FLAGS = (
    ("copyleft", re.compile(r"\bA?GPL|Affero|(?<!Lesser )(?<!Library )General Public", re.I)),
    ("weak copyleft", re.compile(r"\bLGPL|Lesser General|\bMPL|Mozilla|\bEPL|Eclipse", re.I)),
    ("proprietary", re.compile(r"proprietary|NVIDIA", re.I)),
)
_CREATIVE_COMMONS = re.compile(r"\[(CC[^\]]+)\]\(")


@dataclass
class Licence:
    """What is known of one thing that is used.

    flag: "copyleft", "weak copyleft", "proprietary", "unknown", or "" for nothing to look at.
    used_for: the sets of dependencies that it belongs to.
    """

    name: str
    version: str
    text: str
    flag: str
    used_for: list[str] = field(default_factory=list)


def flag(text: str) -> str:
    """What a reader should look at in a licence, "" for nothing."""
    if text == UNKNOWN:
        return UNKNOWN
    return next((name for name, pattern in _FLAGS if pattern.search(text)), "")


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def stated_licences() -> dict[str, str]:
    """The licences of all that is installed by name, as pip-licenses reads them."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--with-system"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "--format=json"], env=environment, capture_output=True, text=True, check=True
    )
    found = {}
    for entry in json.loads(done.stdout):
        text = _first_lines(entry["License"], 1)
        found[normalised(entry["Name"])] = UNKNOWN if text.lower() == UNKNOWN else text
    return found


def _first_lines(text: str, count: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ", ".join(lines[:count])


def _of_licence_file(distribution: importlib.metadata.Distribution) -> str:
    for file in distribution.files or ():
        if re.match(r"(LICEN[CS]E|COPYING)\b", file.name) and Path(str(file.locate())).is_file():
            return _first_lines(file.read_text(encoding="utf-8"), 2)
    return ""


def _of_ros_package(name: str) -> str:
    # ROS's wheels say nothing in their metadata, but bring the package.xml.
    ros_name = re.sub(r"^ros-(jazzy-)?", "", normalised(name)).replace("-", "_")
    manifest = Path(sys.prefix) / "share" / ros_name / "package.xml"
    if not manifest.is_file():
        return ""
    root = ElementTree.parse(manifest).getroot()
    return "; ".join(filter(None, (e.text for e in root.iter("license"))))


def installed(sets: Mapping[str, Iterable[str]]) -> tuple[list[Licence], list[str]]:
    """The licences of everything installed that the sets need, by name, and what is not installed.

    sets: requirements (PEP 508) by the name of the set; what they need in turn is followed.
    """
    from packaging.requirements import Requirement

    stated = stated_licences()
    found: dict[str, Licence] = {}
    missing: set[str] = set()
    for used_for, requirements in sets.items():
        waiting = [Requirement(text) for text in requirements]
        seen: set[tuple[str, str]] = set()
        while waiting:
            requirement = waiting.pop()
            name = normalised(requirement.name)
            for extra in ("", *requirement.extras):
                if (name, extra) in seen:
                    continue
                seen.add((name, extra))
                try:
                    distribution = importlib.metadata.distribution(requirement.name)
                except importlib.metadata.PackageNotFoundError:
                    missing.add(name)
                    continue
                entry = found.get(name)
                if entry is None:
                    text = stated.get(name, UNKNOWN)
                    if text == UNKNOWN:
                        text = _of_ros_package(name) or _of_licence_file(distribution) or UNKNOWN
                    version = distribution.version.partition("+")[0]  # of 2.13.0+cpu
                    entry = found[name] = Licence(name, version, text, flag(text))
                if used_for not in entry.used_for:
                    entry.used_for.append(used_for)
                for text in distribution.requires or ():
                    needed = Requirement(text)
                    if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                        waiting.append(needed)
    return [found[name] for name in sorted(found)], sorted(missing)


def of_extra(extra: str) -> list[str]:
    """The requirements of one extra of this package, and of the package itself.

    Raises ConfigError, one line, for an extra that there is not.
    """
    from packaging.requirements import Requirement

    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"{PACKAGE} is not installed, so nothing says what it needs: run pip install -e ."
        ) from None
    extras = distribution.metadata.get_all("Provides-Extra") or []
    if normalised(extra) not in map(normalised, extras):
        raise ConfigError(f"there is no extra {extra}; there are: {', '.join(extras)}")
    result = []
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            result.append(text)
    return result


def in_file(path: Path) -> list[str]:
    """The requirements in a file without options, such as requirements-robot.txt.

    Raises OSError.
    """
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def of_models(folder: Path) -> list[Licence]:
    """What the bundles in a folder say of the data that they were trained on."""
    result = []
    for path in sorted(folder.glob("*/model.json")):
        training = json.loads(path.read_text(encoding="utf-8"))["training"]
        start = training["initialisation"]
        text = f"{training['data']}: {training['licence']}; started from {start}"
        unclear = UNKNOWN if "no explicit licence" in text else flag(text)
        result.append(Licence(path.parent.name, "", text, unclear))
    return result


def of_recordings(folder: Path) -> list[Licence]:
    """What the credits of the recordings in a folder say."""
    result = []
    for path in sorted(folder.glob("*/CREDITS.md")):
        parts = sorted(set(_CREATIVE_COMMONS.findall(path.read_text(encoding="utf-8"))))
        text = f"Apache-2.0; shows models under {', '.join(parts)}, credits in CREDITS.md"
        result.append(Licence(path.parent.name, "", text, ""))
    return result


_DEFAULT = ("demo", "ros-wheels", "test")


def command(
    extra: Annotated[
        list[str] | None,
        typer.Option(help="Extras of setup.py to look at. [default: demo, ros-wheels, test]"),
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="Also a requirements file, such as requirements-robot.txt.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print tools/licences.md.")] = False,
) -> None:
    """Print name, version and licence of everything installed that this package needs.

    Copyleft, proprietary and unknown licences are flagged. The licences are what the packages
    say in their metadata; nobody has checked them.
    """
    sets = {name: of_extra(name) for name in extra or _DEFAULT}
    if requirements is not None:
        sets["robot"] = in_file(requirements)
    packages, missing = installed(sets)
    shipped = {
        kind: of(folder)
        for kind, of in (("models", of_models), ("recordings", of_recordings))
        if (folder := shared_file(kind)) is not None
    }
    if markdown:
        template = Path(__file__).with_name("licences.md.j2")
        typer.echo(render(template, packages=packages, shipped=shipped), nl=False)
    else:
        for entry in (*packages, *(row for rows in shipped.values() for row in rows)):
            mark = f"  [{entry.flag}]" if entry.flag else ""
            typer.echo(f"{entry.name} {entry.version}".strip() + f": {entry.text}{mark}")
    if missing:
        typer.echo(f"not installed here: {', '.join(missing)}", err=True)


if __name__ == "__main__":
    run_tool("tools.licences", command)
