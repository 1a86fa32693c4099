# SPDX-License-Identifier: Apache-2.0
"""What each command's exit status says, from real processes; the table stands in errors.py.

The node's own: test_node_process.py (0, 2) and test_engine_faults.py (5).
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proto_mtl_ros import errors
from proto_mtl_ros.cli import main
from proto_mtl_ros.errors import ENGINE, EXIT_STATUSES, INPUT, INTERRUPTED, MISSING, USAGE

REPOSITORY = Path(__file__).resolve().parents[2]
ROOM = REPOSITORY / "recordings" / "room"
COMMAND = (sys.executable, "-m", "proto_mtl_ros.cli")


def run(*arguments: object, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run `proto-mtl`, on a machine that lacks the package `without`."""
    command = [*COMMAND]
    if without:
        program = f"import sys; sys.modules[{without!r}] = None; "
        command = [
            sys.executable,
            "-c",
            f"{program}from proto_mtl_ros.cli.main import main; main()",
        ]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (0, ("--version",)),
        (USAGE, ("no-such-command",)),
        (USAGE, ("bag", "info", "--no-such-option")),
        (USAGE, ("train", "--data", "x", "--out", "y")),  # neither --config nor --init
        (INPUT, ("bag", "info", "no_such_recording")),
        (INPUT, ("evaluate", "--data", "no_such_data")),
        (INPUT, ("bag", "evaluate", ROOM, "--model", "{damaged}", "--out", "{out}")),
        (ENGINE, ("bag", "evaluate", ROOM, "--backend", "abacus", "--out", "{out}")),
        (ENGINE, ("engine", "check", "--backends", "abacus", "--data", ROOM)),
    ],
    ids=lambda value: str(value if isinstance(value, int) else value[0]),
)
def test_each_kind_of_error_has_its_status(
    status: int, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "model.json").write_text("{}")
    places = {"{out}": tmp_path / "out", "{damaged}": damaged}
    done = run(*(places.get(str(argument), argument) for argument in arguments))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr.strip()) == (status != 0)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("typer", ("--version",)), ("rclpy", ("node",)), ("rosbags", ("bag", "info", ROOM))],
)
def test_a_missing_package_has_its_status(package: str, arguments: tuple[object, ...]) -> None:
    done = run(*arguments, without=package)
    assert done.returncode == MISSING, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert package in line and ("pip install" in line or "source ROS 2" in line)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    program = (
        "from proto_mtl_ros.cli import main; main.load_command = lambda name: 1 / 0; main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "bag"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (ModuleNotFoundError("x", name="proto_mtl_ros.cli.bag"), MISSING, "update proto_mtl_ros"),
        (ModuleNotFoundError("x", name="cv2.aruco"), MISSING, "'cv2.aruco' is not installed: pip"),
        (ImportError("x", name="numpy"), MISSING, "'numpy' is too old or broken: pip install"),
        (OSError(errno.ENOSPC, "No space left on device"), INPUT, "make room there"),
        (PermissionError(errno.EACCES, "no", "/x"), INPUT, "/x: no: check its permissions"),
        (KeyboardInterrupt(), INTERRUPTED, "stopped by Ctrl-C"),
        (ImportError("x", name="colours"), None, ""),
        (OSError(errno.EINVAL, "Invalid argument"), None, ""),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, BaseException) else "",
)
def test_what_happens_while_a_command_is_loaded(
    fault: BaseException,
    status: int | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line and a status for what a user can act on; what is our fault goes on as it is."""

    def load(name: str) -> None:
        raise fault

    monkeypatch.setattr(main, "load_command", load)
    with pytest.raises(SystemExit if status else type(fault)) as caught:
        main.run_command("bag", ["info"])
    lines = capsys.readouterr().err.splitlines()
    if status:
        assert caught.value.code == status
        assert len(lines) == 1 and lines[0].startswith("proto-mtl bag: ") and said in lines[0]
    else:
        assert caught.value is fault and not lines


def test_a_command_that_is_stopped_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "bag", "evaluate", str(ROOM), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not out.exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == "proto-mtl bag: stopped by Ctrl-C"


def test_help_and_docs_tell_every_status() -> None:
    shown = run("--help").stdout
    page = (REPOSITORY / "docs" / "operation.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE))
    for status, text in EXIT_STATUSES.items():
        assert f"{status}  {text}" in shown
        assert rows[str(status)] == text
    assert len(rows) == len(EXIT_STATUSES)


def test_every_error_has_a_status_of_the_table() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ProtoMtlError)
    ]
    assert len(kinds) > 5
    assert all(kind.exit_status in EXIT_STATUSES for kind in kinds)
