# SPDX-License-Identifier: Apache-2.0
"""How far a command is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(text: str = "") -> Iterator[Callable[[str, int, int | None], None]]:
    """Give a function that takes what is going on, how many are done, and of how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task(text, total=None)
        yield lambda stage, done, of: bar.update(task, description=stage, completed=done, total=of)
