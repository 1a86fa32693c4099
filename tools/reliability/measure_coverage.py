# SPDX-License-Identifier: Apache-2.0
"""Runs the tests under coverage, the processes they start included, and writes coverage.json.

    python -m tools.reliability.measure_coverage [pytest arguments]

Why a line is not covered stands in reasons.json, by file or file::function; lines that have no
reason there are reported as such.
"""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "results"
REPOSITORY = HERE.parents[2]
LOWEST = 10
NO_REASON = "no reason noted: a test is missing"


def coverage(*words: str) -> int:
    """Run a command of coverage; return its status."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "coverage", *words]
    return subprocess.run(command, cwd=REPOSITORY, env=environment).returncode


def shares(sums: dict[str, Any]) -> dict[str, float]:
    """Return percent of lines and branches; nothing to cover is all covered."""
    counts = {
        "line": (sums["covered_lines"], sums["num_statements"]),
        "branch": (sums["covered_branches"], sums["num_branches"]),
    }
    return {name: round(100 * n / of, 2) if of else 100.0 for name, (n, of) in counts.items()}


def uncovered(files: dict[str, Any], reasons: dict[str, str]) -> list[dict[str, str]]:
    """Return what no test runs by reason, the most lines first; without one, by file.

    Args:
        files: of coverage's report.
        reasons: why, by a pattern of file or file::function.
    """
    lines: dict[str, int] = {}
    for path, one in files.items():
        for function, region in one["functions"].items():
            names = (f"{path}::{function}", path)
            found = (p for name in names for p in reasons if fnmatch.fnmatch(name, p))
            what = next(found, path)
            lines[what] = lines.get(what, 0) + len(region["missing_lines"])
    return [
        {
            "what": f"{what.replace('*', '...')} ({count} lines)",
            "why": reasons.get(what, NO_REASON),
        }
        for what, count in sorted(lines.items(), key=lambda item: -item[1])
        if count
    ]


def main(arguments: list[str]) -> None:
    """Measure and write."""
    start, path = time.monotonic(), REPOSITORY / ".coverage.json"
    coverage("erase")
    status = coverage("run", "-m", "pytest", "--timeout", "600", *arguments)
    if status not in (0, 1):
        raise SystemExit(f"pytest ended with status {status}: see above")
    if status:
        print("some tests failed: the figures are of the rest", file=sys.stderr)
    if coverage("combine", "--quiet") or coverage("json", "--quiet", "-o", str(path)):
        raise SystemExit("coverage could not report: see above")
    whole = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    reasons = json.loads((HERE / "reasons.json").read_text(encoding="utf-8"))
    files = [{"file": name, **shares(one["summary"])} for name, one in whole["files"].items()]
    found = {
        **shares(whole["totals"]),
        "statements": whole["totals"]["num_statements"],
        "branches": whole["totals"]["num_branches"],
        "files": sorted(files, key=lambda row: (row["line"], row["branch"]))[:LOWEST],
        "uncovered": uncovered(whole["files"], reasons),
        "seconds": round(time.monotonic() - start),
        "arguments": arguments,
    }
    (HERE / "coverage.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"lines {found['line']:.1f} %, branches {found['branch']:.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
