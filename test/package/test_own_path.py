# SPDX-License-Identifier: Apache-2.0
"""A folder from a stranger: nothing in it is run, and no setting is taken from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proto_mtl_ros.own_path import module_command

TRAPPED = ("typer", "numpy", "cv2", "rclpy", "rosbags", "yaml", "onnxruntime", "platform")
CLI = "proto_mtl_ros.cli"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder with modules that leave a file `EXECUTED` when they are imported."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for name in TRAPPED:
        code = f"open({str(tmp_path / 'EXECUTED')!r}, 'a').write(__name__)\nraise SystemExit(0)\n"
        (folder / f"{name}.py").write_text(code)
    return folder


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert not (folder.parent / "EXECUTED").exists(), (folder.parent / "EXECUTED").read_text()
    return done


COMMANDS = {
    "proto-mtl": [str(Path(sys.executable).with_name("proto-mtl"))],
    "python -m": [sys.executable, "-m", CLI],
    "a child": module_command(CLI),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_nothing_in_the_current_folder_is_run(trap: Path, command: list[str]) -> None:
    path = os.pathsep if "-m" in command and "-P" not in command else ""  # also the folder
    done = run([*command, "bag", "info", "."], trap, PYTHONPATH=path, PYTHONSAFEPATH="")
    assert done.returncode == 3 and "neither a rosbag2 nor images" in done.stderr


def test_a_child_of_python_3_10_either(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    command = module_command(CLI, "--version")
    assert "-P" not in command
    assert run(command, trap, PYTHONSAFEPATH="").stdout.startswith("proto-mtl ")


@pytest.mark.slow
def test_nor_by_the_processes_of_a_replay(trap: Path, room_recording: Path) -> None:
    shutil.copytree(room_recording, trap, dirs_exist_ok=True)
    words = ["bag", "replay", ".", "--out", str(trap.parent / "out"), "--seconds", "1"]
    done = run([*COMMANDS["proto-mtl"], *words], trap, PYTHONSAFEPATH="")
    assert done.returncode == 0, done.stderr


def test_what_a_user_has_on_the_path_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('mine')")
    code = "from proto_mtl_ros.own_path import leave_current_folder as l; l(); import mine"
    assert run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(tmp_path)).stdout == "mine\n"


PROFILE = """<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
<transport_descriptors><transport_descriptor><transport_id>t</transport_id><type>TCPv4</type>
<listening_ports><port>45123</port></listening_ports></transport_descriptor></transport_descriptors>
<participant profile_name="x" is_default_profile="true"><rtps><userTransports>
<transport_id>t</transport_id></userTransports></rtps></participant></profiles>"""
OPENED = """
from proto_mtl_ros.own_path import leave_current_folder
leave_current_folder()
import rclpy
rclpy.init()
node = rclpy.create_node("robot")
print(any(":B043 " in open("/proc/net/" + kind).read() for kind in ("tcp", "tcp6")))
"""


def test_a_dds_profile_in_the_current_folder_opens_no_port(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").write_text(PROFILE)
    assert run([sys.executable, "-c", OPENED], tmp_path).stdout == "False\n"
