# SPDX-License-Identifier: Apache-2.0
"""Changes single places of the code and runs that module's tests, which should fail.

    python -m tools.reliability.measure_mutation [--minutes 40] [--seed 0] [--only GROUP ...]

The changes are sessions of cosmic-ray, of one change in each place, in an order drawn at random,
until the time is over. Sessions stay in .mutation/ and go on where they were (--minutes 0: only
the figures are written anew). Why a survivor may live stands in survivors.json, by
"file: old -> new".
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

HERE = Path(__file__).resolve().parent / "results"
REPOSITORY = HERE.parents[2]
SESSIONS = REPOSITORY / ".mutation"

# group -> its files in the package, and the tests that are of them
GROUPS: dict[str, tuple[tuple[str, ...], str]] = {
    "geometry": (("geometry/*.py",), "test/geometry"),
    "tasks": (("tasks/*.py",), "test/tasks"),
    "encodings": (("encodings/*.py",), "test/encodings"),
    "bundle": (("runtime/bundle.py", "runtime/manifest.py"), "test/runtime/test_bundle.py"),
    "manifest": (("data/manifest.py",), "test/data/test_data_manifest.py"),
}
NOT_COPIED = (".*", "build", "install", "log", "out", "runs", "shared")
ANNOTATIONS = "core/ReplaceBinaryOperator_BitOr_"
"""Operators that change ``int | None``, which nothing evaluates."""


class Session:
    """The mutants of a group, and what has come of them."""

    def __init__(self, group: str, copy: Path) -> None:
        self.path, self._copy = SESSIONS / f"{group}.sqlite", copy
        patterns, tests = GROUPS[group]
        self._files = sorted(
            f"proto_mtl_ros/{file.relative_to(REPOSITORY / 'proto_mtl_ros').as_posix()}"
            for pattern in patterns
            for file in (REPOSITORY / "proto_mtl_ros").glob(pattern)
        )
        options = '-x -q -p no:cacheprovider --hypothesis-seed=0 -m "not slow"'
        self._tests = f"{sys.executable} -m pytest {options} {tests}"

    def prepare(self, seed: int) -> None:
        """Make the session, unless it is there; the tests must pass without a mutant."""
        start = time.monotonic()
        self._run("baseline", self._config(3600))
        limit = 10 + 3 * (time.monotonic() - start)
        config = self._config(limit)
        if self.path.is_file():
            return
        SESSIONS.mkdir(exist_ok=True)
        self._run("init", config, str(self.path))
        generator = random.Random(seed)
        places: dict[tuple[Path, tuple[int, int]], list[str]] = {}
        with use_db(self.path, WorkDB.Mode.open) as database:
            for item in database.work_items:
                (mutation,) = item.mutations
                if not mutation.operator_name.startswith(ANNOTATIONS):
                    key = (mutation.module_path, mutation.start_pos)
                    places.setdefault(key, []).append(item.job_id)
            items = {item.job_id: item for item in database.work_items}
            chosen = [items[generator.choice(places[key])] for key in sorted(places)]
            generator.shuffle(chosen)
            database.clear()
            database.add_work_items(chosen)

    def go_on(self, seconds: float) -> None:
        """Try mutants for so long."""
        with suppress(subprocess.TimeoutExpired):  # what was tried is in the session
            self._run("exec", self._copy / "mutation.toml", self.path, timeout=seconds)

    def rows(self) -> list[dict[str, Any]]:
        """Return file, line, change and outcome of the mutants that were tried."""
        found = []
        with use_db(self.path, WorkDB.Mode.open) as database:
            results = dict(database.results)
            for item in database.work_items:
                result, (mutation,) = results.get(item.job_id), item.mutations
                if result is not None and result.worker_outcome == WorkerOutcome.NORMAL:
                    found.append(
                        {
                            "file": mutation.module_path.as_posix(),
                            "line": mutation.start_pos[0],
                            "change": change(result.diff or ""),
                            "outcome": outcome(result),
                        }
                    )
        return found

    def _config(self, limit: float) -> Path:
        path = self._copy / "mutation.toml"
        path.write_text(
            f"[cosmic-ray]\nmodule-path = {json.dumps(self._files)}\ntimeout = {limit:.1f}\n"
            f'test-command = {json.dumps(self._tests)}\ndistributor.name = "local"\n'
        )
        return path

    def _run(self, *words: object, timeout: float | None = None) -> None:
        command = [sys.executable, "-m", "cosmic_ray.cli", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(self._copy)}
        subprocess.run(command, cwd=self._copy, env=environment, check=True, timeout=timeout)


def outcome(result: WorkResult) -> str:
    """Return "killed", "survived" or "timeout"."""
    if not result.is_killed:
        return "survived"
    return "timeout" if result.output == "timeout" else "killed"


def change(diff: str) -> str:
    """Return what a mutant changes, "old -> new"."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old, new = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return f"{old} -> {new or '(removed)'}"


def share(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of some mutants."""
    names = [row["outcome"] for row in rows]
    count = {name: names.count(name) for name in ("killed", "survived", "timeout")}
    percent = round(100 - 100 * count["survived"] / len(rows), 1) if rows else None
    return {"mutants": len(rows), **count, "killed_percent": percent}


def figures(rows: list[dict[str, Any]], reasons: dict[str, str]) -> dict[str, Any]:
    """Return what mutation.json holds."""
    rows = sorted(rows, key=lambda row: (row["file"], row["line"]))
    return {
        "tool": f"cosmic-ray {importlib.metadata.version('cosmic-ray')}",
        **share(rows),
        "modules": [
            {"module": module, **share([row for row in rows if row["file"] == module])}
            for module in sorted({row["file"] for row in rows})
        ],
        "survivors": [
            {
                "where": f"{row['file']}:{row['line']}",
                "mutation": row["change"],
                "why": reasons.get(f"{row['file']}: {row['change']}", "not looked at yet"),
            }
            for row in rows
            if row["outcome"] == "survived"
        ],
    }


def main() -> None:
    """Draw, try, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--out", type=Path, default=HERE / "mutation.json")
    options = parser.parse_args()
    reasons = json.loads((HERE / "survivors.json").read_text(encoding="utf-8"))
    start, rows = time.monotonic(), []
    for group in options.only:
        with tempfile.TemporaryDirectory() as folder:  # its files are the ones that are changed
            copy = Path(folder) / "copy"
            shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
            session = Session(group, copy)
            if options.minutes:
                session.prepare(options.seed)
                session.go_on(60 * options.minutes / len(options.only))
            rows += session.rows()
    found = figures(rows, reasons) | {"seconds": round(time.monotonic() - start)}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['killed_percent']} % of {len(rows)} killed: {options.out}")


if __name__ == "__main__":
    main()
