# SPDX-License-Identifier: Apache-2.0
"""The command line, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import proto_mtl_ros
from proto_mtl_ros.cli.main import COMMANDS, REMEDIES, load_command
from proto_mtl_ros.errors import INPUT, MISSING

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "rclpy", "lightning", "onnxruntime", "cv2")


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with this repository importable; output is captured as text."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=cwd
    )


def proto_mtl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "proto_mtl_ros.cli", *arguments)


def without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`proto-mtl` on a machine where `modules` are not installed."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r})); "
        f"sys.argv[1:] = {list(arguments)!r}; "
        "from proto_mtl_ros.cli.main import main; main()"
    )
    return run(sys.executable, "-c", program)


def assert_refused(
    result: subprocess.CompletedProcess[str], *words: str, status: int = INPUT
) -> None:
    """One line on stderr that has `words`, the status, no traceback."""
    assert result.returncode == status, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_help_lists_every_command_without_importing_what_they_need() -> None:
    result = without(HEAVY, "--help")
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert f"  {name} " in result.stdout


def test_version_is_the_packages() -> None:
    assert proto_mtl("--version").stdout.strip() == f"proto-mtl {proto_mtl_ros.__version__}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_own_and_needs_no_heavy_library(name: str) -> None:
    result = without(HEAVY, name, "--help")
    assert result.returncode == 0, result.stderr
    assert f"Usage: proto-mtl {name}" in result.stdout
    assert len(result.stdout.splitlines()) > 5


def test_ros2_run_gives_the_same_command() -> None:
    script = run(sys.executable, str(REPOSITORY / "scripts" / "demo"), "--help")
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
    assert len(leaves) <= 16 and len(options) <= 110


def test_unknown_option_is_refused() -> None:
    result = proto_mtl("demo", "--no-such-option")
    assert result.returncode == 2
    assert "--no-such-option" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_ros_the_node_says_how_to_get_it() -> None:
    said = ("rclpy", "source ROS 2", "ros-wheels")
    assert_refused(without(("rclpy",), "node"), *said, status=MISSING)


def test_advice_asks_for_the_versions_that_the_package_does() -> None:
    asked = re.findall(r"'([\w-]+[<>=][^']+)'", " ".join(REMEDIES.values()))
    required = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    assert len(asked) > 5
    assert [one for one in asked if f'"{one}"' not in required] == []


def test_a_path_that_the_system_refuses_is_one_line() -> None:
    name = "x" * 300
    assert_refused(proto_mtl("bag", "info", name), name)


def test_missing_recording_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    result = proto_mtl("demo", "--recording", str(missing), "--out", str(tmp_path / "out"))
    assert_refused(result, str(missing))
    assert not (tmp_path / "out" / "report.html").exists()
