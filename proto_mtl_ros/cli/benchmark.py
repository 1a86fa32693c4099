# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl benchmark`: methods x labels x seeds, and the table of their figures."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

_SHOWN = 3
"""How many failed runs the last line names."""


def command(
    protocol: Annotated[Path, typer.Option(help="YAML file: what is trained, and how.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the NYUv2 pack; not needed for --table-only.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the result files.")] = Path(
        "benchmark/results"
    ),
    docs: Annotated[Path, typer.Option(help="Folder for tables and picture.")] = Path("docs"),
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and logs; default: one in the user's cache."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows or runs, as one_label/ours, '*/ablation/*' or one_label/ours-all-seed0; "
            "may be given again. What teaches them is trained, too."
        ),
    ] = None,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Train nothing, write the tables.")
    ] = False,
) -> None:
    """Train and evaluate every method of a protocol; print and write its tables.

    One result file per run. Stop it whenever you like, with Ctrl-C or kill: the same command skips
    what is finished and continues what was begun at its last finished epoch. Two of these commands
    may share the folders.
    """
    from benchmark.protocol import Protocol
    from proto_mtl_ros.errors import (
        ConfigError,
        TrainingError,
    )

    settings = Protocol.read(protocol)  # before the slow imports: a bad file fails at once
    from benchmark.tables import write_tables

    failures: dict[str, str] = {}
    if not table_only:
        if data is None:
            raise ConfigError("--data is missing: give the folder of the NYUv2 pack")
        failures = _run(settings, data, results, work or _cache(), workers, only or [])
    typer.echo(write_tables(protocol, results, docs))
    if failures:
        names = ", ".join(list(failures)[:_SHOWN])
        more = f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise TrainingError(f"{len(failures)} runs failed: {names}{more}; the reasons stand above")


def _run(
    settings: Any, data: Path, results: Path, work: Path, workers: int, only: list[str]
) -> dict[str, str]:
    from benchmark.record import check_results
    from benchmark.runner import Runner
    from benchmark.runs import (
        chosen,
        runs_of,
    )
    from proto_mtl_ros.data.table import read_splits

    read_splits(data / "splits.csv")  # a wrong folder fails here, once
    runs = chosen(runs_of(settings), only)
    check_results(runs, results)
    # as Ctrl-C, so that no training is left behind
    signal.signal(signal.SIGTERM, _terminated)
    runner = Runner(data, results, work, workers, typer.echo)
    runner.go(runs)
    return runner.failures


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "proto_mtl_ros" / "benchmark"
