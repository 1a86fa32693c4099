# SPDX-License-Identifier: Apache-2.0
"""Names in a stranger's file reach the terminal as text, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from proto_mtl_ros.cli.bag import app
from proto_mtl_ros.cli.terminal import echo, progress_bar
from proto_mtl_ros.errors import one_line
from recordings import image_message, write_messages

NASTY = "\x1b]0;PWN\x07\x1b[5m\u202e[/x][red]"
SHOWN = r"\x1b]0;PWN\x07\x1b[5m\u202e[/x][red]"


def test_lines_bars_and_errors_show_what_is_not_printable(capsys: pytest.CaptureFixture) -> None:
    echo(f"topic {NASTY}\nnext")
    with progress_bar() as tell:
        tell(NASTY, 1, 2)
    out = capsys.readouterr().out
    assert out.startswith(f"topic {SHOWN}\nnext\n") and out.count(SHOWN) == 2
    assert one_line(f"a\n {NASTY}") == f"a {SHOWN}"
    assert len(one_line("\0" * 20_000_000)) == 200


def test_nothing_of_a_recording_steers_the_terminal(tmp_path: Path) -> None:
    pixels, stamp = np.zeros((48, 64, 3), np.uint8), 10**9
    messages = [
        ("/camera/image[/x]", stamp, image_message(pixels, "rgb8", stamp, NASTY)),
        ("/camera/image", stamp, image_message(pixels, NASTY, stamp)),
    ]
    write_messages(tmp_path / "bag", messages)
    result = CliRunner().invoke(app, ["info", str(tmp_path / "bag")])
    assert result.exit_code == 0 and "/camera/image[/x]" in result.output
    assert SHOWN in result.output
    assert "\x1b" not in result.output and "\x07" not in result.output
