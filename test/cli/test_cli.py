# SPDX-License-Identifier: Apache-2.0
"""The command line, run as a user runs it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from tiny_bundle import write_tiny_bundle

import proto_mtl_ros
from proto_mtl_ros import errors
from proto_mtl_ros.cli import comma_list, main
from proto_mtl_ros.cli.main import COMMANDS, REMEDIES, load_command
from proto_mtl_ros.errors import (
    ENGINE,
    EXIT_STATUSES,
    INPUT,
    INTERRUPTED,
    MISSING,
    USAGE,
    ConfigError,
)

REPOSITORY = Path(__file__).resolve().parents[2]
ROOM = REPOSITORY / "recordings" / "room"
HEAVY = ("torch", "rclpy", "lightning", "onnxruntime", "cv2")


def python(*words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with this repository importable; output is captured as text."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, env=environment)


def proto_mtl(
    *arguments: object, without: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `proto-mtl`, on a machine where the modules `without` are not installed."""
    program = f"import sys; sys.modules.update(dict.fromkeys({without!r})); "
    program += "from proto_mtl_ros.cli.main import main; main()"
    return python("-c", program, *arguments)


def test_help_lists_every_command_without_importing_what_they_need() -> None:
    result = proto_mtl("--help", without=HEAVY)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert f"  {name} " in result.stdout


def test_version_is_the_packages() -> None:
    assert proto_mtl("--version").stdout.strip() == f"proto-mtl {proto_mtl_ros.__version__}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_own_and_needs_no_heavy_library(name: str) -> None:
    result = proto_mtl(name, "--help", without=HEAVY)
    assert result.returncode == 0, result.stderr
    assert f"Usage: proto-mtl {name}" in result.stdout
    assert len(result.stdout.splitlines()) > 5


def test_ros2_run_gives_the_same_command() -> None:
    script = python(REPOSITORY / "scripts" / "demo", "--help")
    assert script.stdout == proto_mtl("demo", "--help").stdout


def test_every_command_has_an_executable_for_ros2_run() -> None:
    scripts = {path.name for path in (REPOSITORY / "scripts").iterdir()}
    assert scripts == set(COMMANDS)
    assert all(os.access(REPOSITORY / "scripts" / name, os.X_OK) for name in scripts)


def test_a_misspelt_command_is_refused_with_the_right_one() -> None:
    for words, meant in ((("trian",), "train"), (("bag", "evalute"), "evaluate")):
        result = proto_mtl(*words)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        assert words[-1] in result.stderr and f"Did you mean '{meant}'" in result.stderr


def test_commands_and_options_stay_few_and_their_summaries_short() -> None:
    assert max(map(len, COMMANDS.values())) < 60
    commands = [typer.main.get_command(load_command(name)) for name in COMMANDS]
    leaves = [leaf for one in commands for leaf in getattr(one, "commands", {"": one}).values()]
    options = [p for leaf in leaves for p in leaf.params if p.param_type_name == "option"]
    assert len(leaves) <= 17 and len(options) <= 117


def test_advice_asks_for_the_versions_that_the_package_does() -> None:
    asked = re.findall(r"'([\w-]+[<>=][^']+)'", " ".join(REMEDIES.values()))
    required = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    assert len(asked) > 5
    assert [one for one in asked if f'"{one}"' not in required] == []


# --- exit statuses; the table stands in errors.py. The node's own: test_node_process.py (0, 2)
# and test_engine_faults.py (5).


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (0, ("--version",)),
        (USAGE, ("no-such-command",)),
        (USAGE, ("bag", "info", "--no-such-option")),
        (USAGE, ("train", "--out", "y")),  # no data
        (INPUT, ("bag", "info", "no_such_recording")),
        (INPUT, ("bag", "info", "x" * 300)),  # the system refuses the path
        (INPUT, ("demo", "--recording", "no_such_recording", "--out", "{out}")),
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
    done = proto_mtl(*(places.get(str(argument), argument) for argument in arguments))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr.strip()) == (status != 0)
    if status == INPUT:
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("typer", ("--version",)), ("rclpy", ("node",)), ("rosbags", ("bag", "info", ROOM))],
)
def test_a_missing_package_has_its_status(package: str, arguments: tuple[object, ...]) -> None:
    done = proto_mtl(*arguments, without=(package,))
    assert done.returncode == MISSING, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert package in line and ("pip install" in line or "source ROS 2" in line)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    program = (
        "from proto_mtl_ros.cli import main; main.load_command = lambda name: 1 / 0; main.main()"
    )
    done = python("-c", program, "bag")
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
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "evaluate", str(ROOM)]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell ignores Ctrl-C in what it runs in the background, this test among it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 60
    while not out.exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == "proto-mtl bag: stopped by Ctrl-C"


def test_help_and_docs_tell_every_status() -> None:
    shown = proto_mtl("--help").stdout
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


# --- `proto-mtl bench` on a real node and real engines


@pytest.mark.slow
@pytest.mark.ros
def test_engines_and_node_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    model = write_tiny_bundle(tmp_path, tasks=("segmentation", "depth"))
    done = proto_mtl("bench", "--model", model, "--seconds", 0.5, "--threads", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "tiny"
    assert found["node"]["results"] == ["segmentation/image", "depth/image"]
    assert 0 < found["node"]["ms_p50"] <= found["node"]["ms_p95"]
    engines = {(row["backend"], row["precision"]): row for row in found["engines"]}
    assert engines["onnxruntime", "fp32"]["ms_p50"] > 0
    assert "error" in engines["torch", "fp32"]  # the tiny model has no weights


# --- options with commas


def test_blanks_and_empty_parts_say_nothing() -> None:
    assert comma_list.parts(" depth, normals,") == ["depth", "normals"]
    assert comma_list.numbers("1, 4", "--batches") == [1, 4]


@pytest.mark.parametrize("text", ["", ",", "0,one", "1.5", "-1", "1;2", "²"])
def test_what_is_no_number_is_refused_and_not_left_out(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds.*give whole numbers"):
        comma_list.numbers(text, "--seeds")
