# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: three processes over DDS, a report, an orderly end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import (
    INPUT,
    USAGE,
)
from recordings import COLOUR_FRAME, picture, write_recording

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

pytestmark = pytest.mark.ros
FRAMES = 25
PATIENCE = 90


def listen_to_ctrl_c() -> None:
    """Undo what a shell without job control does to its background jobs: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start `proto-mtl` with a narrow output, as its messages must be one line anyway."""
    return subprocess.Popen(
        [sys.executable, "-m", "proto_mtl_ros.cli", *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
        preexec_fn=listen_to_ctrl_c,
    )


def children(pid: int) -> dict[int, str]:
    """Return the command lines of the processes that ``pid`` has started."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found[int(child)] = command
    return found


def wait_for_child(demo: subprocess.Popen[str], word: str) -> int:
    """Return the pid of the child whose command line holds ``word``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert demo.poll() is None, demo.communicate()
        for pid, command in children(demo.pid).items():
            if word in command:
                return pid
        time.sleep(0.05)
    raise AssertionError(f"no child process with {word}")


def error_line(demo: subprocess.Popen[str], status: int) -> str:
    """Wait for the end of a demo that fails and return what it says: one line on stderr."""
    _, errors = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == status, errors
    assert "Traceback" not in errors
    # The middleware may complain of shared memory that a killed process of another test left.
    lines = [line for line in errors.strip().splitlines() if "RTPS_TRANSPORT_SHM" not in line]
    assert len(lines) == 1, errors
    return lines[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for a minute at two a second."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(120):
        cv2.imwrite(str(folder / f"{index}.png"), picture(index))
    return folder


@dataclass(frozen=True)
class Finished:
    out: Path
    stdout: str
    figures: dict


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Finished]:
    """One demo on a recording whose true depth is what the tiny model predicts."""
    folder = tmp_path_factory.mktemp("demo")
    bag = write_recording(folder / "bag", frames=FRAMES)
    out = folder / "out"
    demo = start("demo", "--recording", bag, "--out", out, "--model", model)
    stdout, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    yield Finished(out, stdout, json.loads((out / "results.json").read_text()))


def test_it_names_its_report(finished: Finished) -> None:
    report = re.search(r"Report: (.+report\.html)", finished.stdout)
    assert report is not None
    assert Path(report[1]) == finished.out / "report.html"
    assert "25/25" in finished.stdout
    assert "25 live results equal the offline pass" in finished.stdout
    topics = "segmentation/image, segmentation/confidence, depth/image, normals/color"
    assert f"value by value, on {topics}." in " ".join(finished.stdout.split())


def test_every_published_image_is_accounted_for(finished: Finished) -> None:
    frames = finished.figures["frames"]
    others = sum(sum(frames[group].values()) for group in ("drops", "bad", "skipped"))
    assert frames["published"] == FRAMES
    assert frames["processed"] + others + frames["lost_in_transport"] == FRAMES
    assert frames["unaccounted"] == 0
    assert frames["processed"] == frames["recorded"] > 0
    assert not frames["bad"]


def test_results_carry_the_stamps_and_frames_of_the_images(finished: Finished) -> None:
    latency = finished.figures["latency_ms"]["end_to_end"]
    assert latency["results_with_unknown_stamp"] == 0
    assert latency["results_with_doubled_stamp"] == 0
    assert 0 < latency["p50"] <= latency["p95"] <= latency["max"]
    with Bag(finished.out / "results") as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
        headers = [m.decode().header.frame_id for m in bag.messages(["/camera/depth/image"])]
    assert counts["/camera/segmentation/image"] == counts["/camera/depth/image"] == len(headers)
    assert set(headers) == {COLOUR_FRAME}
    assert counts["/diagnostics"] > 0


def test_depth_agrees_with_the_recording(finished: Finished) -> None:
    depth = finished.figures["depth"]
    assert finished.figures["registration"] == "same camera"
    assert depth["frames"] == finished.figures["frames"]["recorded"]
    # JPEG and two resizes are between the two.
    assert depth["all"]["abs_err"] < 0.15
    assert depth["all"]["delta1"] > 0.98
    assert depth["median_scale"] == pytest.approx(1, abs=0.03)


def test_rates_and_stages_are_measured(finished: Finished) -> None:
    figures = finished.figures
    assert 8 < figures["rate_in_hz"] < 10.5  # recorded at 10 Hz; never faster than that
    assert 0 < figures["rate_out_hz"] < 12  # a few results only: jitter of the first and last
    assert {"infer", "publish", "total"} <= set(figures["latency_ms"]["stages"])


def test_the_pictures_show_what_the_model_predicts(finished: Finished) -> None:
    sheet = cv2.imread(str(finished.out / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 1000
    assert float(np.std(sheet)) > 30
    html = (finished.out / "report.html").read_text(encoding="utf-8")
    assert "measured depth" in html


def test_nothing_unfinished_is_left(finished: Finished) -> None:
    names = {path.name for path in finished.out.iterdir()}
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    assert {"report.html", "results.json", "contact_sheet.png", "results"} <= names


@pytest.mark.data
def test_a_careless_recording_is_reported_as_such(
    kitchen_bag: Path, model: Path, tmp_path: Path
) -> None:
    demo = start("bag", "replay", kitchen_bag, "--out", tmp_path, "--model", model, "--seconds", 2)
    _, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["frames"]["published"] == pytest.approx(61, abs=1)
    assert figures["frames"]["unaccounted"] == 0
    assert figures["registration"] == "none"
    assert figures["depth"]["compared_pixels"]["tolerant"] > 1000
    assert "Measured depth is of another camera" in (tmp_path / "report.html").read_text()


def test_ctrl_c_ends_every_process(slow_folder: Path, model: Path, tmp_path: Path) -> None:
    demo = start("bag", "replay", slow_folder, "--fps", 2, "--out", tmp_path, "--model", model)
    wait_for_child(demo, "replay.player")
    started = children(demo.pid)
    assert len(started) == 3
    time.sleep(1)
    demo.send_signal(signal.SIGINT)
    assert "stopped by Ctrl-C" in error_line(demo, 130)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_node_that_dies_is_told_in_one_line(
    slow_folder: Path, model: Path, tmp_path: Path
) -> None:
    demo = start("bag", "replay", slow_folder, "--fps", 2, "--out", tmp_path, "--model", model)
    wait_for_child(demo, "replay.player")
    started = children(demo.pid)
    os.kill(wait_for_child(demo, " node "), signal.SIGKILL)
    line = error_line(demo, 7)
    assert "the node was ended by signal 9" in line
    assert "model tiny" in line  # the end of its log
    assert str(tmp_path / "node.log") in line
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_parameter_that_the_node_refuses_is_told(
    slow_folder: Path, model: Path, tmp_path: Path
) -> None:
    given = ("--out", tmp_path, "--model", model, "--param", "camras:=[a]")
    demo = start("bag", "replay", slow_folder, *given)
    line = error_line(demo, 2)
    assert "unknown parameter camras" in line
    assert "did you mean cameras?" in line


def bag_without_images(folder: Path) -> Path:
    with BagWriter(folder / "bag") as writer:
        writer.add_topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    return folder / "bag"


def truncated_bag(folder: Path) -> Path:
    file = write_recording(folder / "bag", frames=4) / "bag.mcap"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 10])
    return folder / "bag"


@pytest.mark.parametrize(
    ("recording", "options", "hint", "status"),
    [
        (lambda folder: folder / "nothing", [], "check the path", INPUT),
        (bag_without_images, [], "no colour images", INPUT),
        (truncated_bag, [], "is cut off", INPUT),
        (truncated_bag, ["--model", "no-such-model"], "no-such-model", INPUT),
        (truncated_bag, ["--param", "threads=1"], "is not name:=value", USAGE),
    ],
)
def test_bad_input_is_told_before_anything_starts(
    recording,
    options: list[str],
    hint: str,
    status: int,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = ["replay", recording(tmp_path), "--out", out, "--model", model, *options]
    with pytest.raises(SystemExit) as end:
        run_command("bag", list(map(str, arguments)))
    assert end.value.code == status
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert hint in lines[0]
    assert not out.exists()
