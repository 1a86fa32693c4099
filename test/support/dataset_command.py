# SPDX-License-Identifier: Apache-2.0
"""Running `proto-mtl dataset` in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from proto_mtl_ros.cli import dataset


def dataset_command(*arguments: object) -> str:
    """Return what a subcommand prints; raises what it raises."""
    result = CliRunner().invoke(dataset.app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
