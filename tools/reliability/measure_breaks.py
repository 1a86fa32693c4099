# SPDX-License-Identifier: Apache-2.0
"""Breaks the node and the reading of files on purpose; the fault tests should notice.

    python -m tools.reliability.measure_breaks [number ...]

Each of breaks.json (what, changes as file, old, new, and pytest's arguments) is made in a copy of
the repository, where its tests pass before. When they fail afterwards they have noticed it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from proto_mtl_ros.files import write_text

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
NOT_COPIED = (".*", "build", "install", "log", "out", "runs", "shared", "__pycache__")


def noticed(copy: Path, tests: list[str]) -> tuple[bool, str]:
    """Run tests in a copy of the repository; return whether they fail, and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr[-300:]]
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest cannot run {tests}: {lines[-1]}")
    failed = [line for line in lines if line.startswith("FAILED")]
    return done.returncode == 1, (failed or lines)[-1]


def run(one: dict[str, Any]) -> dict[str, Any]:
    """Make one break and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        fails, line = noticed(copy, one["tests"])
        if fails:
            return {"what": one["what"], "noticed": None, "said": f"fails unbroken: {line}"}
        for file, old, new in one["changes"]:
            text = (copy / file).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise SystemExit(f"{file} has {old!r} not once: bring breaks.json up to date")
            (copy / file).write_text(text.replace(old, new), encoding="utf-8")
        start = time.monotonic()
        found, line = noticed(copy, one["tests"])
    return {
        "what": one["what"],
        "noticed": found,
        "tests": one["tests"][0],
        "said": line.removeprefix("FAILED ")[:200],
        "seconds": round(time.monotonic() - start),
    }


def main(numbers: list[int]) -> None:
    """Make the breaks, all or those of these numbers from 1, and write breaks.json."""
    listed = json.loads((HERE / "breaks.json").read_text(encoding="utf-8"))
    rows = []
    for number in numbers or range(1, len(listed) + 1):
        rows.append(run(listed[number - 1]))
        print(f"{number}: {json.dumps(rows[-1])}", flush=True)
    print(f"{sum(row['noticed'] is True for row in rows)} of {len(rows)} noticed")
    if not numbers:
        write_text(HERE / "results" / "breaks.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
