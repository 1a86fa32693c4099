# SPDX-License-Identifier: Apache-2.0
"""``README.md`` and ``reliability.json`` of this folder from what tests and benches have left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import write_text
from tools.performance.page import (
    section,
    table,
)

PAGE, DATA, PLOT = "README.md", "reliability.json", "soak.png"

PARTS = {
    "faults": "PROTO_MTL_CAMPAIGN=1 python -m pytest --record-faults {folder}/faults.json",
    "soak": "python -m tools.soak --minutes 30",
    "fuzz": "the fuzzers, see the section's command",
    "coverage": "make coverage",
    "mutation": "make mutation",
    "untried": "a list of {{name, why}} by hand",
}
"""What the page is made of, and how a part that is missing is made."""

_FAULT_KEYS = {"group", "name", "tried", "survived", "lost", "seen", "test", "date"}
_LARGE = ("series", "schedule", "machine")

Row = Mapping[str, Any]


def read_parts(folder: Path) -> dict[str, Any]:
    """Return what the files in a folder hold, by part; parts without a file are left out.

    Several files ``faults*.json`` are joined; of a fault in more than one the newest entry counts.

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
        found["faults"] = [faults[key] for key in sorted(faults)]
    for part, kind in (("soak", dict), ("fuzz", list), ("coverage", dict), ("mutation", dict),
                       ("untried", list)):  # fmt: skip
        path = folder / f"{part}.json"
        if path.is_file():
            found[part] = _read(path, kind)
    if not found:
        raise ConfigError(f"{folder} has no figures: run `{PARTS['soak']}` and `make coverage`")
    return found


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
        "faults_lost": sum(entry["lost"] for entry in faults),
        "soak": None if soak is None else {k: v for k, v in soak.items() if k not in _LARGE},
        "fuzz": parts.get("fuzz"),
        "coverage": coverage,
        "mutation_killed_percent": None if mutation is None else mutation["killed_percent"],
        "mutation": mutation,
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


def write_page(folder: Path, docs: Path) -> dict[str, Any]:
    """Write the page and its data into ``docs``; return the data."""
    parts = read_parts(folder)
    data = reliability(parts)
    shown = folder.as_posix() if not folder.is_absolute() else folder.name
    sections = [
        "# Reliability",
        "What was done to the node and its tools to make them fail, and what came of it. Written by"
        f" `python -m tools.reliability` from the files in `{shown}`, which the commands below have"
        " made; the same as data: [reliability.json](reliability.json).",
        _summary(data),
    ]
    if data["faults"]:
        sections.append(_faults(parts.get("faults", ()), shown))
    if "soak" in parts:
        sections.append(_soak(parts["soak"], (docs / PLOT).is_file()))
    sections += [_SECTIONS[part](parts[part]) for part in _SECTIONS if part in parts]
    if data["missing"]:
        lines = [f"- {part}: {PARTS[part].format(folder=shown)}" for part in data["missing"]]
        sections.append("\n\n".join(["## Not measured yet", "\n".join(lines)]))
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, "\n\n".join(sections) + "\n")
    return data


def _summary(data: Row) -> str:
    soak, coverage, mutation = data["soak"], data["coverage"], data["mutation"]
    slope = "too short to tell"
    if soak is not None and soak["memory_slope_mib_per_hour"] is not None:
        slope = _slope(soak)
    rows = [
        ("kinds of faults tried", len(data["faults"])),
        ("faults tried, survived", f"{data['faults_tried']}, {data['faults_survived']}"),
        ("results, frames or files lost that should not have been", data["faults_lost"]),
        ("soak, minutes", _known(soak, lambda: f"{soak['minutes']:.0f}")),
        ("memory in the soak", _known(soak, lambda: slope)),
        ("unexplained drops in the soak", _known(soak, lambda: soak["unexplained_drops"])),
        (
            "fuzzed, findings",
            _known(
                data["fuzz"],
                lambda: (
                    f"{sum(one['inputs'] for one in data['fuzz'])} inputs in"
                    f" {sum(one['seconds'] for one in data['fuzz']) / 60:.0f} minutes,"
                    f" {sum(len(one['findings']) for one in data['fuzz'])}"
                ),
            ),
        ),
        (
            "coverage: lines, branches",
            _known(coverage, lambda: f"{coverage['line']:.1f} %, {coverage['branch']:.1f} %"),
        ),
        (
            "mutants killed",
            _known(
                mutation,
                lambda: f"{mutation['killed_percent']:.1f} % of a sample of {mutation['mutants']}",
            ),
        ),
    ]
    return table(("", ""), rows)


def _known(part: Any, said: Any) -> Any:
    return "not measured" if part is None else said()


def _slope(soak: Row) -> str:
    low, high = soak["memory_slope_interval"]
    noise = "within noise" if soak["memory_within_noise"] else "more than noise"
    return (
        f"{soak['memory_slope_mib_per_hour']:+.2f} MiB an hour"
        f" (95 %: {low:+.2f} to {high:+.2f}), {noise}"
    )


def _faults(entries: Sequence[Row], folder: str) -> str:
    """The table of what the tests tried, by group."""
    parts = [
        "## Faults",
        "Every row is a test with real processes, real files and real DDS. `survived` counts those"
        " after which everything worked again, `lost` the results, frames or files that should not"
        " have been lost. The figures are of the full campaign; `make test` runs a smaller one.",
    ]
    for group in sorted({entry["group"] for entry in entries}):
        own = [entry for entry in entries if entry["group"] == group]
        tests = sorted({entry["test"].partition("::")[0] for entry in own})
        rows = [
            (entry["name"], entry["tried"], entry["survived"], entry["lost"], entry["seen"])
            for entry in own
        ]
        command = (
            f"PROTO_MTL_CAMPAIGN=1 python -m pytest {' '.join(tests)} --record-faults"
            f" {folder}/faults.json"
        )
        parts += [
            f"### {group.capitalize()}",
            f"`{command}`",
            table(("fault", "tried", "survived", "lost", "what an operator sees"), _cells(rows)),
        ]
    return "\n\n".join(parts)


def _soak(soak: Row, plot: bool) -> str:
    balance = soak["accounts"]
    ended = " It was ended early." if soak["interrupted"] else ""
    if "remark" in soak:  # written by hand
        ended += f" {soak['remark']}"
    text = (
        f"{soak['images_in_a_loop']} images of `{soak['recording']}` again and again at"
        f" {soak['rate_hz']:.1f} Hz for {soak['minutes']:.1f} minutes, through the node and on to"
        f" two subscribers of {', '.join(soak['results'])}, with {len(soak['schedule'])} faults"
        f" mixed in, one at a time by a schedule (seed {soak['seed']}).{ended}"
    )
    lost = ", ".join(f"{fault} {n}" for fault, n in balance["lost_in_transport"].items())
    causes = ", ".join(f"{cause} {n}" for cause, n in balance["causes"].items())
    rows: list[tuple[str, Any]] = [
        ("images sent", balance["sent"]),
        ("sent while the node was not active or not connected yet", balance["while_inactive"]),
        ("lost in transport (best effort), by what was going on", lost or 0),
        ("received", balance["received"]),
        ("processed", balance["processed"]),
        ("received and not processed, by cause", causes or 0),
        (
            "points not published, as there was no calibrated camera_info",
            balance["without_calibration"],
        ),
        *((f"unexplained: {name}", n) for name, n in balance["unexplained"].items()),
    ]
    trends = [
        (
            name.replace("_mib", ", MiB"),
            f"{one['per_hour']:+.2f}",
            f"{one['low']:+.2f} to {one['high']:+.2f}",
            f"{one['growth']:+.2f}",
            f"{one['scatter']:.2f}",
        )
        for name, one in soak["trends"].items()
        if one is not None
    ]
    faults = [
        (row["name"], row["tried"], row["survived"], row["lost"],
         f"{row['longest_recovery_seconds']:.1f}", "; ".join(row["seen"]))
        for row in soak["faults"]
    ]  # fmt: skip
    parts = [text]
    if plot:
        parts.append(f"![memory, rates, latency and faults along the soak]({PLOT})")
    parts += [
        table(("what became of every image", ""), _cells(rows)),
        f"Memory, files and threads, after the first {soak['warm_up_minutes']:.1f} minutes, in"
        " which every fault came once. The slope is the median of the slopes between all pairs of"
        " rounds of faults (Theil and Sen). rss is all memory of the process, anon its heap, pss"
        " divides what is shared, uss is what it has alone.",
        table(("", "an hour", "95 %", "growth", "scatter"), trends)
        if trends
        else "Too short for a slope.",
        table(
            (
                "fault",
                "tried",
                "survived",
                "lost",
                "results again after, s",
                "what an operator sees",
            ),
            _cells(faults),
        ),
    ]
    command = f"python -m tools.soak --minutes {soak['minutes']:.0f}"
    return section("Soak", command, soak, *parts)


def _fuzz(entries: Sequence[Row]) -> str:
    rows = [
        (one["target"], one["tool"], f"{one['seconds'] / 60:.1f}", one["inputs"],
         "; ".join(map(_finding, one["findings"])) or "none")
        for one in entries
    ]  # fmt: skip
    heads = ("target", "tool", "minutes", "inputs", "findings, all of them fixed")
    commands = sorted({one["command"] for one in entries if "command" in one})
    said = [", ".join(f"`{command}`" for command in commands)] if commands else []
    return "\n\n".join(["## Fuzzing", *said, table(heads, _cells(rows))])


def _finding(one: Any) -> str:
    return "; ".join(f"{k}: {v}" for k, v in one.items()) if isinstance(one, dict) else str(one)


def _coverage(content: Row) -> str:
    files = [
        (f"`{one['file']}`", f"{one['line']:.0f}", f"{one['branch']:.0f}")
        for one in content["files"]
    ]
    parts = [
        "## Coverage",
        f"`{PARTS['coverage']}`: all tests, the processes that they start included.",
        f"Lines {content['line']:.1f} %, branches {content['branch']:.1f} %. The files with least:",
        table(("file", "lines, %", "branches, %"), files),
    ]
    if content["uncovered"]:
        rows = [(one["what"], one["why"]) for one in content["uncovered"]]
        parts += ["What no test runs, and why:", table(("what", "why"), _cells(rows))]
    return "\n\n".join(parts)


def _mutation(content: Row) -> str:
    parts = [
        "## Mutation",
        f"`{PARTS['mutation']}` ({content['tool']}): a change is made to a line, and the tests of"
        " that module should fail.",
        f"{content['mutants']} mutants in {content['seconds'] / 60:.0f} minutes:"
        f" {content['killed']} killed by a test, {content['timeout']} by running for ever,"
        f" {content['survived']} survived; {content['killed_percent']:.1f} % killed.",
    ]
    if content.get("modules"):
        modules = [
            (f"`{one['module']}`", one["mutants"], one["killed"], f"{one['killed_percent']:.0f}")
            for one in content["modules"]
        ]
        parts.append(table(("module", "mutants", "killed", "%"), modules))
    if content["survivors"]:
        lives = [(one["where"], f"`{one['mutation']}`", one["why"]) for one in content["survivors"]]
        parts.append(table(("survivor", "mutation", "why it lives"), _cells(lives)))
    return "\n\n".join(parts)


def _untried(entries: Sequence[Row]) -> str:
    rows = [(one["name"], one["why"]) for one in entries]
    return "\n\n".join(["## Untried", table(("what", "why"), _cells(rows))])


_SECTIONS: dict[str, Callable[[Any], str]] = {
    "fuzz": _fuzz,
    "coverage": _coverage,
    "mutation": _mutation,
    "untried": _untried,
}


def _cells(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Return rows whose text does not end a cell of a table."""
    return [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
