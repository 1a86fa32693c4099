# SPDX-License-Identifier: Apache-2.0
"""What a command writes to the terminal: names of topics and classes are other people's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from proto_mtl_ros.errors import printable


def echo(text: str) -> None:
    """Print lines; what is not printable is shown escaped."""
    typer.echo(printable(text.removesuffix("\n"), kept="\n"))


@contextmanager
def progress_bar(text: str = "") -> Iterator[Callable[[str, float, float | None], None]]:
    """Give a function that takes what is going on, how much is done, and of how much."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    words = TextColumn("{task.description:<44}", markup=False)
    count = TextColumn("{task.completed:g}/{task.total}", markup=False)
    with Progress(words, BarColumn(), count, TimeElapsedColumn()) as bar:
        task = bar.add_task(text, total=None)

        def update(stage: str, done: float, of: float | None) -> None:
            bar.update(task, description=printable(stage), completed=done, total=of)

        yield update
