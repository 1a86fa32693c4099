# SPDX-License-Identifier: Apache-2.0
"""A command that has subcommands."""

from __future__ import annotations

import typer


def command_group(help: str, epilog: str | None = None) -> typer.Typer:
    """Return an app that shows its help when it is called without a subcommand.

    Help is plain text: in marked-up text a list such as [front, rear] would vanish. An error keeps
    its traceback as Python writes it.
    """
    return typer.Typer(
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
