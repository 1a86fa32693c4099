# SPDX-License-Identifier: Apache-2.0
"""Methods x labels x seeds, and the table of their figures.

python -m benchmark --protocol benchmark/protocols/cpu.yaml --data <nyuv2>
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmark.protocol import Protocol
from benchmark.runs import check_results, chosen, runs_of
from proto_mtl_ros.data.table import read_splits
from proto_mtl_ros.errors import ConfigError, ProtoMtlError, TrainingError, one_line

_SHOWN = 3
"""How many failed runs the last line names."""


def main(
    protocol: Annotated[Path, typer.Option(help="YAML file: what is trained, and how.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the NYUv2 pack; not needed for --table-only.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the result files.")] = Path(
        "benchmark/results"
    ),
    docs: Annotated[
        Path | None,
        typer.Option(help="Folder that gets tables and chart, such as docs; else only printed."),
    ] = None,
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
    """Train and evaluate every method of a protocol; print its tables.

    One result file per run. Stop it whenever you like, with Ctrl-C or kill: the same command skips
    what is finished and continues what was begun at its last finished epoch. Two of these commands
    may share the folders.
    """
    settings = Protocol.read(protocol)
    from benchmark.pages import write_tables
    from benchmark.runner import Runner, outlook

    failures: dict[str, str] = {}
    if not table_only:
        if data is None:
            raise ConfigError("--data is missing: give the folder of the NYUv2 pack")
        read_splits(data / "splits.csv")  # a wrong folder fails here, once
        runs = chosen(runs_of(settings), only or [])
        check_results(runs, results)
        # as Ctrl-C, so that no training is left behind
        signal.signal(signal.SIGTERM, _terminated)
        runner = Runner(data, results, work or _cache(), workers, typer.echo)
        typer.echo(outlook(runner.missing(runs), data, workers, runner.threads))
        runner.go(runs)
        failures = runner.failures
    typer.echo(write_tables(protocol, results, docs))
    if failures:
        names = ", ".join(list(failures)[:_SHOWN])
        more = f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise TrainingError(f"{len(failures)} runs failed: {names}{more}; the reasons stand above")


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "proto_mtl_ros" / "benchmark"


def run(arguments: list[str] | None = None) -> None:
    """Run the command and exit; what a user can act on ends in one line on stderr."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app(arguments, prog_name="python -m benchmark")
    except ProtoMtlError as error:
        print(f"python -m benchmark: {one_line(error, 2000)}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    run()
