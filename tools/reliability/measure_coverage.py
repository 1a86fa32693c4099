# SPDX-License-Identifier: Apache-2.0
"""Runs the tests under coverage, the processes they start included, and writes coverage.json.

    python tools/reliability/measure_coverage.py [--only FILE ...] [pytest arguments]

Why a line is not covered stands in reasons.json, by file or file::function; lines that have no
reason there are reported as such.
"""

from __future__ import annotations

import argparse
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


def run(arguments: list[str]) -> None:
    """Run the tests under coverage; a failing test does not end it."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "coverage"]
    subprocess.run([*command, "erase"], cwd=REPOSITORY, check=True)
    status = subprocess.run(
        [*command, "run", "-m", "pytest", "--timeout", "600", *arguments],
        cwd=REPOSITORY,
        env=environment,
    ).returncode
    if status not in (0, 1):  # 1: some tests failed
        raise SystemExit(f"pytest ended with status {status}: see above")
    if status:
        print("some tests failed: the figures are of the rest", file=sys.stderr)
    subprocess.run([*command, "combine", "--quiet"], cwd=REPOSITORY, check=True)


def report(path: Path, only: list[str]) -> dict[str, Any]:
    """Return coverage's own report."""
    command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(path)]
    command += [f"--include={','.join(only)}"] if only else []
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def percent(covered: int, of: int) -> float:
    """Return a share in percent; nothing to cover is all covered."""
    return round(100 * covered / of, 2) if of else 100.0


def uncovered(files: dict[str, Any], reasons: dict[str, str]) -> list[dict[str, Any]]:
    """Return what no test runs by reason, the most lines first.

    Args:
        files: of coverage's report.
        reasons: why, by a pattern of file or file::function.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, one in files.items():
        for function, region in one["functions"].items():
            count = len(region["missing_lines"])
            if not count:
                continue
            names = (f"{path}::{function}", path)
            pattern = next((p for name in names for p in reasons if fnmatch.fnmatch(name, p)), None)
            # single lines without a reason are many: they are counted by file
            what = pattern or path
            row = found.setdefault(what, {"what": what, "lines": 0, "why": NO_REASON})
            row["lines"] += count
            row["why"] = reasons.get(pattern or "", NO_REASON)
    rows = sorted(found.values(), key=lambda row: -row["lines"])
    return [
        {"what": f"{row['what'].replace('*', '...')} ({row['lines']} lines)", "why": row["why"]}
        for row in rows
    ]


def figures(content: dict[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    """Return what coverage.json holds."""
    rows = []
    for path, one in content["files"].items():
        sums = one["summary"]
        rows.append(
            {
                "file": path,
                "line": percent(sums["covered_lines"], sums["num_statements"]),
                "branch": percent(sums["covered_branches"], sums["num_branches"]),
            }
        )
    sums = content["totals"]
    return {
        "line": percent(sums["covered_lines"], sums["num_statements"]),
        "branch": percent(sums["covered_branches"], sums["num_branches"]),
        "statements": sums["num_statements"],
        "branches": sums["num_branches"],
        "files": sorted(rows, key=lambda row: (row["line"], row["branch"]))[:LOWEST],
        "uncovered": uncovered(content["files"], reasons),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="report these files alone")
    parser.add_argument("--out", type=Path, default=HERE / "coverage.json")
    options, arguments = parser.parse_known_args()
    start = time.monotonic()
    run(arguments)
    reasons = json.loads((HERE / "reasons.json").read_text(encoding="utf-8"))
    whole = report(REPOSITORY / ".coverage.json", options.only)
    (REPOSITORY / ".coverage.json").unlink()
    found = figures(whole, reasons) | {
        "seconds": round(time.monotonic() - start),
        "arguments": arguments,
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"lines {found['line']:.1f} %, branches {found['branch']:.1f} %: {options.out}")


if __name__ == "__main__":
    main()
