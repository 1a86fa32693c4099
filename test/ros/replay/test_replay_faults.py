# SPDX-License-Identifier: Apache-2.0
"""A replay that cannot be, or is ended: one line that says why, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import INPUT, PROCESS, USAGE
from recordings import picture, write_recording

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

pytestmark = pytest.mark.ros
PATIENCE = 90


def listen_to_ctrl_c() -> None:
    """Undo what a shell without job control does to its background jobs: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(pid: int) -> dict[int, str]:
    """Return the command lines of the processes that ``pid`` has started."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found[int(child)] = command
    return found


def error_line(replay: subprocess.Popen[str], status: int) -> str:
    """Wait for the end of a replay that fails and return what it says: one line on stderr."""
    _, errors = replay.communicate(timeout=PATIENCE)
    assert replay.returncode == status, errors
    assert "Traceback" not in errors
    # The middleware may complain of shared memory that a killed process of another test left.
    lines = [line for line in errors.strip().splitlines() if "RTPS_TRANSPORT_SHM" not in line]
    assert len(lines) == 1, errors
    return lines[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture
def playing(model: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[int, str]]]:
    """A replay of a minute that is being played, and its processes."""
    for index in range(120):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index))
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "replay", str(tmp_path)]
    command += ["--fps", "2", "--model", str(model), "--out", str(tmp_path / "out")]
    replay = subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},  # its messages must be one line anyway
        preexec_fn=listen_to_ctrl_c,
    )
    end = time.monotonic() + PATIENCE
    log = tmp_path / "out" / "node.log"
    while not log.exists() or ": processed" not in log.read_text():
        assert replay.poll() is None, replay.communicate()
        assert time.monotonic() < end, "it does not play"
        time.sleep(0.05)
    started = children(replay.pid)
    assert len(started) == 3
    yield replay, started
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_ctrl_c_ends_every_process(playing: tuple[subprocess.Popen[str], dict[int, str]]) -> None:
    replay, _ = playing
    replay.send_signal(signal.SIGINT)
    assert "stopped by Ctrl-C" in error_line(replay, 130)


def test_a_node_that_dies_is_told_in_one_line(
    playing: tuple[subprocess.Popen[str], dict[int, str]], tmp_path: Path
) -> None:
    replay, started = playing
    (node,) = [pid for pid, command in started.items() if " node " in command]
    os.kill(node, signal.SIGKILL)
    line = error_line(replay, PROCESS)
    assert "the node was ended by signal 9" in line
    assert str(tmp_path / "out" / "node.log") in line


@pytest.fixture
def environment() -> Iterator[None]:
    """Give back what a replay in this process takes for itself."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def status_of(*arguments: object) -> int:
    """Run `proto-mtl bag replay` in this process and return its status."""
    with pytest.raises(SystemExit) as end:
        run_command("bag", ["replay", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("parameters", "said", "status"),
    [
        (("backend:=onnxruntime", "precision:=fp16"), "ONNX Runtime runs in fp32 or int8", PROCESS),
        (("camras:=[a]",), "unknown parameter camras", USAGE),
    ],
)
def test_a_node_that_cannot_start_is_told_with_its_reason(
    parameters: tuple[str, ...], said: str, status: int, model: Path, tmp_path: Path,
    environment: None, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bag = write_recording(tmp_path / "bag", frames=4)
    storage = bag / "bag.mcap"
    os.truncate(storage, storage.stat().st_size * 9 // 10)
    given = [word for one in parameters for word in ("--param", one)]
    assert status_of(bag, "--model", model, "--out", tmp_path / "out", *given) == status
    shown = capfd.readouterr()
    assert "note: " in shown.out and "are whole and are used" in shown.out
    assert said in shown.err.splitlines()[-1]


def nothing(folder: Path) -> Path:
    return folder / "nothing"


def bag_without_images(folder: Path) -> Path:
    with BagWriter(folder / "bag") as writer:
        writer.add_topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    return folder / "bag"


def whole_bag(folder: Path) -> Path:
    return write_recording(folder / "bag", frames=4)


def truncated_bag(folder: Path) -> Path:
    file = whole_bag(folder) / "bag.mcap"
    os.truncate(file, file.stat().st_size // 10)
    return folder / "bag"


@pytest.mark.parametrize(
    ("recording", "options", "said", "status"),
    [
        (nothing, (), "check the path", INPUT),
        (bag_without_images, (), "no colour images", INPUT),
        (truncated_bag, (), "is cut off", INPUT),
        (truncated_bag, ("--model", "no-such-model"), "no-such-model", INPUT),
        (whole_bag, ("--param", "threads=1"), "is not name:=value", USAGE),
        (whole_bag, ("--param", "cameras:=[a]"), "cameras is set by the replay itself", USAGE),
        (whole_bag, ("--seconds", 0), "--seconds 0 plays nothing: give more than 0", USAGE),
        (whole_bag, ("--rate", 0), "a rate of 0 cannot be played: give --rate between", USAGE),
        (whole_bag, ("--domain-id", 233), "is not a ROS domain: give 0 to 232", USAGE),
        (whole_bag, ("--out", "{folder}/file"), "cannot write to {folder}/file", USAGE),
        (whole_bag, ("--out", "/proc/self"), "cannot write to /proc/self", USAGE),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_anything_starts(
    recording: Callable[[Path], Path], options: tuple[object, ...], said: str, status: int,
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    out = tmp_path / "out"
    given = [str(option).format(folder=tmp_path) for option in options]
    assert status_of(recording(tmp_path), "--model", model, "--out", out, *given) == status
    (line,) = capfd.readouterr().err.splitlines()
    assert said.format(folder=tmp_path) in line
    assert not out.exists()
