# SPDX-License-Identifier: Apache-2.0
"""The page of what was tried: everything in it comes from a file, what has none is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fault_log import FaultLog
from typer.testing import CliRunner

from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.errors import ConfigError
from tools.reliability.__main__ import reliability
from tools.reliability.page import PARTS, write_page

app = command_group("")
app.command()(reliability)


def fault(name: str, group: str, **more: Any) -> dict[str, Any]:
    usual = {"tried": 4, "survived": 4, "lost": 0, "seen": "WARN: no image", "date": "2026-01-01"}
    test = "test/tools/test_reliability.py::test_a_page_of_everything"
    return {"name": name, "group": group, "test": test, **usual, **more}


SOAK = {
    "machine": {"processor": "a CPU", "cores": 2, "gpu": None, "python": "3.11", "versions": {}},
    "model": "tiny", "recording": "room", "images_in_a_loop": 60, "rate_hz": 12.0, "seed": 0,
    "minutes": 30.0, "warm_up_minutes": 2.5, "results": ["depth"], "interrupted": False,
    "memory_slope_mib_per_hour": 0.5, "memory_slope_interval": [-1.0, 2.0],
    "memory_within_noise": True, "unexplained_drops": 0,
    "accounts": {
        "sent": 1000, "while_inactive": 7, "lost_in_transport": {"burst": 3}, "received": 990,
        "processed": 980, "causes": {"overwritten": 10}, "without_calibration": 4,
        "unexplained": {"without a cause": 0},
    },
    "trends": {
        "rss_mib": {"per_hour": 0.5, "low": -1.0, "high": 2.0, "growth": 0.2, "scatter": 1.0},
        "fds": None,
    },
    "faults": [
        {"name": "the camera stops", "tried": 12, "survived": 11, "lost": 2, "failed": [],
         "longest_recovery_seconds": 0.3, "seen": ["no image for N s"]},
    ],
    "schedule": [{"name": "pause", "start": 1.0, "seconds": 5.0}],
    "series": {"t": [0.0, 1.0]},
}  # fmt: skip

FUZZ = [{"target": "bundle loader", "tool": "atheris", "seconds": 600, "inputs": 12345,
         "findings": ["a list where an object was due: TypeError"]}]  # fmt: skip
COVERAGE = {
    "line": 93.2, "branch": 90.1,
    "files": [{"file": "proto_mtl_ros/runtime/cuda.py", "line": 40.0, "branch": 25.0}],
    "uncovered": [{"what": "runtime/cuda.py", "why": "needs a GPU | a driver"}],
}  # fmt: skip
MUTATION = {
    "tool": "cosmic-ray 8", "mutants": 200, "killed": 165, "survived": 30, "timeout": 5,
    "killed_percent": 85.0, "seconds": 2400,
    "survivors": [{"where": "tasks.py:10", "mutation": "x | y", "why": "equivalent"}],
}  # fmt: skip
BREAKS = [
    {"what": "a stall is not seen", "noticed": True, "said": "test_a"},
    {"what": "locks hold nobody off", "noticed": False, "said": "1 passed"},
]
UNTRIED = [{"name": "GPU resets", "why": "no GPU here"}]


def write(folder: Path, **parts: Any) -> Path:
    for name, content in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_page_of_everything(tmp_path: Path) -> None:
    first = [fault("unplugged", "camera", seen="old"), fault("full", "disk", survived=3, lost=1)]
    newer = [fault("unplugged", "camera", tried=50, survived=50, valid=7, date="2026-02-01")]
    newer += [
        fault("gone", "camera", test=f"test/tools/test_{name}")
        for name in ("x.py", "soak.py::test_x")
    ]
    write(tmp_path, faults_a=newer, faults_b=first, soak=SOAK, fuzz=FUZZ, coverage=COVERAGE,
          mutation=MUTATION, breaks=BREAKS, untried=UNTRIED)  # fmt: skip
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "soak.png").write_bytes(b"")
    options = ["--results", str(tmp_path), "--docs", str(docs)]
    done = CliRunner().invoke(app, options, catch_exceptions=False)
    assert done.exit_code == 1 and "not measured yet" not in done.output
    assert "3 kinds of faults, 66 tried, 64 survived, 3 lost" in done.output
    assert "not survived: full; the camera stops" in done.output
    data = write_page(tmp_path, docs)
    assert json.loads((docs / "reliability.json").read_text()) == data
    by_name = {entry["name"]: entry for entry in data["faults"]}
    assert set(by_name) == {"unplugged", "full", "the camera stops"}
    assert by_name["unplugged"]["tried"] == 50 and by_name["the camera stops"]["lost"] == 2
    assert (data["faults_tried"], data["faults_survived"], data["faults_lost"]) == (66, 64, 3)
    assert data["soak"]["minutes"] == 30 and data["soak"]["memory_slope_mib_per_hour"] == 0.5
    assert data["soak"]["unexplained_drops"] == 0 and "series" not in data["soak"]
    assert data["coverage"]["line"] == 93.2 and data["mutation_killed_percent"] == 85.0
    assert data["missing"] == []
    text = (docs / "README.md").read_text()
    for said in (
        "| unplugged | 50 | 50 | 7 | 0 | WARN: no image |",
        "| full | 4 | **3** |  | 1 | WARN: no image |",
        "### A real node over DDS: camera",
        "python -m pytest test/tools/test_reliability.py --record",
        "+0.50 MiB an hour (95 %: -1.00 to +2.00), within noise",
        "soak.png",
        "| the camera stops | 12 | 11 | 2 | 0.3 | no image for N s |",
        "| burst 3 |",
        "| bundle loader | atheris | 10.0 | 12345 | a list where an object was due",
        "needs a GPU \\| a driver",
        "| tasks.py:10 | `x \\| y` | equivalent |",
        "1 of 2 noticed",
        "| locks hold nobody off | **no** | 1 passed |",
        "GPU resets",
    ):
        assert said in text, said
    assert "Not measured yet" not in text


def test_a_page_of_what_found_nothing(tmp_path: Path) -> None:
    findings = [{"input": "a list", "error": "TypeError"}]
    modules = [{"module": "tasks.py", "mutants": 9, "killed": 8, "killed_percent": 88.9}]
    write(
        tmp_path, soak={**SOAK, "faults": [], "trends": {"fds": None}},
        fuzz=[{**FUZZ[0], "findings": findings, "command": "make fuzz"},
              {**FUZZ[0], "target": "bag reader", "findings": []}],
        coverage={**COVERAGE, "uncovered": []},
        mutation={**MUTATION, "survivors": [], "modules": modules},
    )  # fmt: skip
    assert write_page(tmp_path, tmp_path)["faults"] == []
    text = (tmp_path / "README.md").read_text()
    for said in (
        "Too short for a slope.",
        "`make fuzz`",
        "| 12345 | input: a list; error: TypeError |",
        "| bag reader | atheris | 10.0 | 12345 | none |",
        "| `tasks.py` | 9 | 8 | 89 |",
    ):
        assert said in text, said
    for nothing in ("## Faults", "![memory", "What no test runs", "why it lives"):
        assert nothing not in text, nothing


def test_what_was_not_measured_is_named_and_not_invented(tmp_path: Path) -> None:
    write(tmp_path, faults=[fault("unplugged", "camera")])
    done = CliRunner().invoke(app, ["--results", str(tmp_path), "--docs", str(tmp_path / "docs")])
    assert done.exit_code == 0, done.output
    assert "not measured yet: soak, fuzz, coverage, mutation, breaks, untried" in done.output
    data = json.loads((tmp_path / "docs" / "reliability.json").read_text())
    for part in ("soak", "fuzz", "coverage", "mutation", "mutation_killed_percent", "untried"):
        assert data[part] is None
    text = (tmp_path / "docs" / "README.md").read_text()
    missing = text.partition("## Not measured yet")[2]
    assert "make coverage" in missing and "tools.soak --minutes 30" in missing
    for heading in ("## Soak", "## Fuzzing", "## Coverage", "## Mutation", "## Untried"):
        assert heading not in text


HERE = "test/tools/test_reliability.py"


def test_a_test_that_fails_marks_its_row_or_gets_one(tmp_path: Path) -> None:
    first, second = (f"{HERE}::{name}" for name in ("test_a_page_of_everything", "write"))
    for run in range(2):
        log = FaultLog()
        if run == 0:
            log.add(first, "disk", "full", tried=2, valid=1, sent=5, came=4, seen="ERROR")
            log.add(f"{HERE}::test_gone", "disk", "an older name", seen="ERROR")
            log.outcome(first, None, None)
        else:
            log.outcome(f"{HERE}::test_gone", None, None)
            log.outcome(first, None, "it hangs")
            log.outcome(second, None, "no such file")
        for failure in (None, "it is unpickled", None):
            log.outcome(f"{HERE}::test_x", ("parsers", "a pickle", "one line"), failure)
        log.write(tmp_path / "faults_mine.json")
        data = write_page(tmp_path, tmp_path)
        by_name = {row["name"]: row for row in data["faults"]}
        assert (by_name["full"]["survived"], by_name["full"]["lost"]) == (0 if run else 2, 1)
        assert (by_name["a pickle"]["tried"], by_name["a pickle"]["survived"]) == (3, 2)
        assert data["failed"] == (["full", "write", "a pickle"] if run else ["a pickle"])
    assert "an older name" not in (tmp_path / "faults_mine.json").read_text()
    text = (tmp_path / "README.md").read_text()
    assert "**not survived: it hangs**" in text and "test_x: it is unpickled" in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("soak", "{", "soak.json is damaged"),
        ("fuzz", "{}", "not a JSON list"),
        ("faults_a", '[{"name": "x"}]', "no fault"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(ConfigError, match=PARTS["soak"]):  # nothing there yet: what to run
        write_page(tmp_path, tmp_path)
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        write_page(tmp_path, tmp_path)
