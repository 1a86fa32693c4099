# SPDX-License-Identifier: Apache-2.0
"""The page of what was done to make it fail: `python -m tools.reliability`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli.main import run_tool

RELIABILITY = Path("tools/reliability")


def reliability(
    results: Annotated[
        Path, typer.Option(help="Folder of what tests and benches have left.")
    ] = RELIABILITY / "results",
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = RELIABILITY,
) -> None:
    """Write README.md and reliability.json from those figures.

    A part that has no file yet is named as missing. Ends with status 1 where a fault was not
    survived, a test of the campaign failed.
    """
    from tools.reliability.page import PAGE, write_page

    data = write_page(results, docs)
    typer.echo(
        f"{len(data['faults'])} kinds of faults, {data['faults_tried']} tried,"
        f" {data['faults_survived']} survived, {data['faults_lost']} lost"
    )
    if data["missing"]:
        typer.echo(f"not measured yet: {', '.join(data['missing'])}")
    typer.echo(f"wrote {docs / PAGE}")
    if data["failed"]:
        typer.echo(f"not survived: {'; '.join(data['failed'])}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    run_tool("tools.reliability", reliability)
