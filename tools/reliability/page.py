# SPDX-License-Identifier: Apache-2.0
"""``README.md`` and ``reliability.json`` of this folder from what tests and benches have left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import write_text
from tools.performance.page import render

PAGE, DATA, PLOT = "README.md", "reliability.json", "soak.png"

PARTS = {
    "faults": "PROTO_MTL_CAMPAIGN=1 python -m pytest --record-faults {folder}/faults.json",
    "soak": "python -m tools.soak --minutes 30",
    "fuzz": "the fuzzers, see the section's command",
    "coverage": "make coverage",
    "mutation": "make mutation",
    "breaks": "python -m tools.reliability.measure_breaks",
    "untried": "a list of {{name, why}} by hand",
}
"""What the page is made of, and how a part that is missing is made."""

_FAULT_KEYS = {"group", "name", "tried", "survived", "lost", "seen", "test", "date"}
_LARGE = ("series", "schedule", "machine")

_TITLES = {
    "parsers": "Parsers, in the process of the test",
    "kill -9": "Killed processes (SIGKILL)",
    "disk": "Commands on a full or read-only disk",
    "two at once": "Two commands in one folder",
    "failing tests": "Tests that fail",
}
"""Groups of faults whose tests do not start the node."""

Row = Mapping[str, Any]


def read_parts(folder: Path, tests: Path = Path()) -> dict[str, Any]:
    """Return what the files in a folder hold, by part; parts without a file are left out.

    Several files ``faults*.json`` are joined; of a fault in more than one the newest entry counts.
    Faults whose test is no longer below ``tests`` are left out.

    Raises:
        ConfigError: there is no file at all, or one is damaged.
    """
    found: dict[str, Any] = {}
    faults: dict[tuple[str, str], Row] = {}
    for path in sorted(folder.glob("faults*.json")):
        for entry in _read(path, list):
            if not isinstance(entry, dict) or not set(entry) >= _FAULT_KEYS:
                raise ConfigError(f"{path} has an entry that is no fault: record it again")
            key = (entry["group"], entry["name"])
            if key not in faults or faults[key]["date"] <= entry["date"]:
                faults[key] = entry
    if faults:
        found["faults"] = [faults[key] for key in sorted(faults) if _is_there(faults[key], tests)]
    for part, kind in (("soak", dict), ("fuzz", list), ("coverage", dict), ("mutation", dict),
                       ("breaks", list), ("untried", list)):  # fmt: skip
        path = folder / f"{part}.json"
        if path.is_file():
            found[part] = _read(path, kind)
    if not found:
        raise ConfigError(f"{folder} has no figures: run `{PARTS['soak']}` and `make coverage`")
    return found


def _is_there(fault: Row, tests: Path) -> bool:
    """Tell whether the test that tried it still exists."""
    file, _, name = fault["test"].partition("::")
    path = tests / file
    function = name.partition("[")[0]
    return path.is_file() and (not name or f"def {function}(" in path.read_text(encoding="utf-8"))


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): make it again") from None
    if not isinstance(content, kind):
        raise ConfigError(f"{path} is not a JSON {kind.__name__}: make it again")
    return content


def reliability(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the page; None for a part that is missing."""
    soak = parts.get("soak")
    faults = [dict(entry) for entry in parts.get("faults", ())]
    if soak is not None:
        faults += [_of_soak(row) for row in soak["faults"]]
    coverage, mutation = parts.get("coverage"), parts.get("mutation")
    return {
        "faults": faults,
        "faults_tried": sum(entry["tried"] for entry in faults),
        "faults_survived": sum(entry["survived"] for entry in faults),
        "faults_valid": sum(entry.get("valid", 0) for entry in faults),
        "faults_lost": sum(entry["lost"] or 0 for entry in faults),
        "failed": [entry["name"] for entry in faults if entry["survived"] < entry["tried"]],
        "soak": None if soak is None else {k: v for k, v in soak.items() if k not in _LARGE},
        "fuzz": parts.get("fuzz"),
        "coverage": coverage,
        "mutation_killed_percent": None if mutation is None else mutation["killed_percent"],
        "mutation": mutation,
        "breaks": parts.get("breaks"),
        "untried": parts.get("untried"),
        "missing": [part for part in PARTS if part not in parts],
    }


def _of_soak(row: Row) -> dict[str, Any]:
    """Return a fault of the soak as an entry of the table of faults."""
    seen = "; ".join(row["seen"])
    return {
        "group": "soak",
        "name": row["name"],
        "tried": row["tried"],
        "survived": row["survived"],
        "lost": row["lost"],
        "seen": f"{seen}; results again after at most {row['longest_recovery_seconds']:.1f} s",
        "test": "python -m tools.soak",
    }


def write_page(folder: Path, docs: Path, tests: Path = Path()) -> dict[str, Any]:
    """Write the page and its data into ``docs``; return the data."""
    parts = read_parts(folder, tests)
    data, soak = reliability(parts), parts.get("soak")
    shown = folder.as_posix() if not folder.is_absolute() else folder.name
    text = render(
        Path(__file__).with_name("page.md.j2"),
        **data,
        finding=finding,
        groups=groups(parts.get("faults", ())),
        schedule=soak["schedule"] if soak else (),
        soak_made=soak,
        how={part: command.format(folder=shown) for part, command in PARTS.items()},
        folder=shown,
        plot=PLOT if (docs / PLOT).is_file() else "",
    )
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, text)
    return data


def groups(faults: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the faults that tests tried by what the group does, each with its test's file."""
    found: dict[str, list[Row]] = {}
    for fault in faults:
        row = {**fault, "file": fault["test"].partition("::")[0]}
        title = _TITLES.get(fault["group"], f"A real node over DDS: {fault['group']}")
        found.setdefault(title, []).append(row)
    return dict(sorted(found.items()))


def finding(one: Any) -> str:
    """Return what a fuzzer has found as text."""
    return "; ".join(f"{k}: {v}" for k, v in one.items()) if isinstance(one, dict) else str(one)
