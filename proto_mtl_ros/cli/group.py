# SPDX-License-Identifier: Apache-2.0
"""A command that has subcommands."""

from __future__ import annotations

import typer
from typer.core import TyperGroup


def command_group(
    help: str, epilog: str | None = None, cls: type[TyperGroup] | None = None
) -> typer.Typer:
    """Return an app that shows its help when it is called without a subcommand.

    Help is plain text: in marked-up text a list such as [front, rear] would vanish. An error keeps
    its traceback as Python writes it.
    """
    return typer.Typer(
        help=help,
        cls=cls,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
