# SPDX-License-Identifier: Apache-2.0
"""Changes single places of the code and runs that module's tests, which should fail.

    python tools/reliability/measure_mutation.py [--minutes 40] [--seed 0] [--only GROUP ...]
    python tools/reliability/measure_mutation.py --explain

Cosmic-ray makes the mutants; they are drawn at random, one for each place, and tried in a copy of
the repository until the time is over. Why a survivor may live stands in survivors.json, by
"file: old -> new"; --explain copies that into the figures, without trying the mutants again.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

HERE = Path(__file__).resolve().parent / "results"
REPOSITORY = HERE.parents[2]
PACKAGE = "proto_mtl_ros"
NOT_LOOKED_AT = "not looked at yet"

# group -> its files, and the tests that are of them
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "geometry": (
        ("geometry/*.py",),
        (
            "test_geometry",
            "test_normals",
            "test_letterbox",
            "test_registration",
            "test_depth_cleaning",
            "test_stability",
        ),
    ),
    "tasks": (("tasks.py",), ("test_tasks",)),
    "encodings": (
        ("encodings/*.py",),
        ("test_encodings", "test_compressed", "test_rvl", "test_picture_size"),
    ),
    "bundle": (("runtime/bundle.py", "runtime/manifest.py"), ("test_bundle",)),
    "manifest": (("data/manifest.py",), ("test_data_manifest",)),
}

# these two need arguments of their own
WITHOUT = ("core/VariableInserter", "core/VariableReplacer")


@dataclass(frozen=True)
class Mutant:
    """One change: the ``occurrence``-th place of an operator in a file."""

    group: str
    file: str
    line: int
    operator: str
    occurrence: int


def annotations(source: str) -> set[tuple[int, int]]:
    """Return (line, column) of everything in annotations: nothing evaluates them."""
    found: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | None] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            parts = [node.returns, *(one.annotation for one in every)]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        for part in parts:
            if part is None:
                continue
            for line in range(part.lineno, (part.end_lineno or part.lineno) + 1):
                first = part.col_offset if line == part.lineno else 0
                last = part.end_col_offset if line == part.end_lineno else 1000
                found |= {(line, column) for column in range(first, last or 0)}
    return found


def mutants_of(group: str, path: Path, operators: list[str]) -> list[list[Mutant]]:
    """Return the mutants of a file, those of the same place together."""
    source = path.read_text(encoding="utf-8")
    passed_over = annotations(source)
    file = path.relative_to(REPOSITORY).as_posix()
    places: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
    tree = get_ast(source)
    for name in operators:
        operator = get_operator(name)()
        occurrence = 0
        for node in ast_nodes(tree):
            for start, _ in operator.mutation_positions(node):
                if start not in passed_over:
                    places[start].append(Mutant(group, file, start[0], name, occurrence))
                occurrence += 1
    return list(places.values())


def draw(groups: list[str], seed: int) -> list[Mutant]:
    """Return one mutant of each place, in an order drawn at random."""
    operators = sorted(set(operator_names()) - set(WITHOUT))
    generator = random.Random(seed)
    found = []
    for group in groups:
        for pattern in GROUPS[group][0]:
            for path in sorted((REPOSITORY / PACKAGE).glob(pattern)):
                for place in mutants_of(group, path, operators):
                    found.append(generator.choice(place))
    generator.shuffle(found)
    return found


def copy_repository(target: Path) -> None:
    """Copy what git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


class Trial:
    """Runs the tests of a group in the copy."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        # old bytecode must not pass for that of a mutant of the same second and size
        self._environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        self._limits: dict[str, float] = {}

    def measure(self, group: str) -> float:
        """Run the tests without a mutant; they must pass. Returns seconds."""
        start = time.monotonic()
        if self._run(group, None) != 0:
            raise SystemExit(f"the tests of {group} fail without a mutant: mend them first")
        seconds = time.monotonic() - start
        self._limits[group] = 10 + 3 * seconds
        return seconds

    def outcome(self, mutant: Mutant, mutated: str) -> str:
        """Return "killed", "survived" or "timeout"."""
        path = self._copy / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(mutated, encoding="utf-8")
        try:
            status = self._run(mutant.group, self._limits[mutant.group])
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            path.write_text(source, encoding="utf-8")
        return "survived" if status == 0 else "killed"

    def _run(self, group: str, limit: float | None) -> int:
        tests = [f"test/{name}.py" for name in GROUPS[group][1]]
        tests = [name for name in tests if (self._copy / name).is_file()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        process = subprocess.Popen(
            [*command, "--hypothesis-seed=0", *tests],
            cwd=self._copy,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return process.wait(limit)
        finally:
            process.kill()
            process.wait()


def change(source: str, mutated: str) -> str:
    """Return what a mutant changes, "old -> new"."""
    lines = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))
    old = " ".join(line[1:].strip() for line in lines[2:] if line.startswith("-"))
    new = " ".join(line[1:].strip() for line in lines[2:] if line.startswith("+"))
    return f"{old} -> {new or '(removed)'}"


def share(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of some mutants."""
    count = {name: sum(row["outcome"] == name for row in rows)
             for name in ("killed", "survived", "timeout")}  # fmt: skip
    noticed = count["killed"] + count["timeout"]
    percent = round(100 * noticed / len(rows), 1) if rows else None
    return {"mutants": len(rows), **count, "killed_percent": percent}


def figures(rows: list[dict[str, Any]], reasons: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return what mutation.json holds."""
    modules = sorted({row["file"] for row in rows})
    survivors = [row for row in rows if row["outcome"] == "survived"]
    return {
        **more,
        **share(rows),
        "modules": [
            {"module": module, **share([row for row in rows if row["file"] == module])}
            for module in modules
        ],
        "survivors": [
            {
                "where": f"{row['file']}:{row['line']}",
                "mutation": row["change"],
                "why": why(reasons, row["file"], row["change"]),
            }
            for row in sorted(survivors, key=lambda row: (row["file"], row["line"]))
        ],
    }


def why(reasons: dict[str, str], file: str, changed: str) -> str:
    """Return why a mutant may live."""
    return reasons.get(f"{file}: {changed}", NOT_LOOKED_AT)


def explain(path: Path, reasons: dict[str, str]) -> None:
    """Note in the figures why their survivors may live."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for one in found["survivors"]:
        one["why"] = why(reasons, one["where"].rpartition(":")[0], one["mutation"])
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Draw, try, write after each mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--most", type=int, help="so many mutants at most")
    parser.add_argument("--out", type=Path, default=HERE / "mutation.json")
    parser.add_argument("--explain", action="store_true", help="only note why survivors live")
    options = parser.parse_args()
    path = HERE / "survivors.json"
    reasons = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if options.explain:
        explain(options.out, reasons)
        return
    start = time.monotonic()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_repository(copy)
        trial = Trial(copy)
        for group in options.only:
            print(f"{group}: {trial.measure(group):.1f} s without a mutant", flush=True)
        drawn = draw(options.only, options.seed)
        print(f"{len(drawn)} places", flush=True)
        for mutant in drawn[: options.most]:
            if time.monotonic() - start > 60 * options.minutes:
                break
            source = (REPOSITORY / mutant.file).read_text(encoding="utf-8")
            mutated = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
            assert mutated is not None
            row = {
                "file": mutant.file,
                "line": mutant.line,
                "change": change(source, mutated),
                "outcome": trial.outcome(mutant, mutated),
            }
            rows.append(row)
            print(f"{row['outcome']:9}{mutant.file}:{mutant.line}  {row['change']}", flush=True)
            found = figures(
                rows,
                reasons,
                tool=f"cosmic-ray {importlib.metadata.version('cosmic-ray')}",
                seed=options.seed,
                places=len(drawn),
                seconds=round(time.monotonic() - start),
            )
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if rows:
        print(f"{found['killed_percent']} % of {len(rows)} killed: {options.out}")


if __name__ == "__main__":
    main()
