# SPDX-License-Identifier: Apache-2.0
"""A recording through the running node: its results equal the offline pass, losses are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros import load
from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.recording import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import (
    PROCESS,
    USAGE,
)
from recordings import START, image_message, picture, write_recording

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from proto_mtl_ros.ros.outcomes import read_outcomes
from proto_mtl_ros.ros.replay.comparison import MapComparison, ResultReader
from proto_mtl_ros.ros.replay.session import ReplayLogs

pytestmark = pytest.mark.ros
FRAMES = 15
PATIENCE = 120


def replay(*arguments: object) -> dict:
    """Run `proto-mtl bag replay` and return its figures."""
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "replay", *map(str, arguments)]
    done = subprocess.run(
        command, text=True, capture_output=True, timeout=PATIENCE, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "live results equal the offline pass" in done.stdout
    out = Path(str(arguments[arguments.index("--out") + 1]))
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def compared(
    played: Path, out: Path, model: Path, logs: ReplayLogs | None = None, **settings: float
) -> dict:
    """Hold the results of a replay against what these settings would have given."""
    predictor = load(str(model), "onnxruntime", "cpu")
    with open_recording(played) as recording:
        reader = ResultReader(recording, logs or logs_of(out), predictor, settings)
        reader.read(out / "results")
    return reader.live.figures()


def logs_of(out: Path) -> ReplayLogs:
    """Return what a replay has left in its folder."""
    return ReplayLogs(
        StampLog.read(out / "player.json"),
        StampLog.read(out / "recorder.json"),
        read_outcomes(out / "node.log", "camera"),
        {},
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("bags") / "bag", frames=FRAMES)


@pytest.mark.slow
def test_live_results_equal_the_offline_pass_and_time_never_jumps_back(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    figures = replay(bag, "--out", tmp_path, "--model", model, "--start", 0.45, "--loops", 2)
    live = figures["live_and_offline"]
    assert live["sent"] == 2 * (FRAMES - 5)  # at 10 Hz, without those of the first 0.45 s
    assert live["compared"] > FRAMES - 5  # of the second round as well
    assert live["equal"] == live["compared"]
    assert live["maps"].keys() >= {"segmentation/image", "depth/image", "normals/color"}
    assert live["compared"] + sum(live["without_result"].values()) == live["sent"]
    sent = StampLog.read(tmp_path / "player.json")
    (stamps,) = sent.stamps.values()
    gaps = [later - earlier for earlier, later in zip(stamps, stamps[1:])]
    assert all(gap == pytest.approx(1e8, abs=1e6) for gap in gaps)
    with Bag(tmp_path / "results") as results:
        got = [m.stamp for m in results.messages(["/camera/depth/image"])]
    assert got == sorted(set(got)) and set(got) <= set(stamps)
    assert "equal the offline pass" in (tmp_path / "report.html").read_text(encoding="utf-8")
    command = figures["made_with"]["command"]
    assert command.startswith(f"proto-mtl bag replay {bag} --out")


@pytest.mark.slow
def test_images_that_are_left_out_are_named_with_their_cause(model: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"  # on the topic that the node listens to by itself
    with BagWriter(bag) as writer:
        writer.add_topic("/camera/image", "sensor_msgs/msg/Image")
        for number in range(FRAMES):
            stamp = START + number * 10**8
            message = image_message(picture(number), "rgb8", stamp)
            writer.write("/camera/image", stamp, message)
    limit = "max_rate:=[5.0]"
    figures = replay(bag, "--out", tmp_path, "--model", model, "--param", limit)
    live = figures["live_and_offline"]
    assert live["without_result"]["max_rate"] >= FRAMES // 3
    assert live["without_result"]["max_rate"] == figures["frames"]["skipped"]["max_rate"]
    assert live["compared"] + len(live["without_result_at_s"]) == FRAMES

    # Held against what another parameter would have given, the same results are not equal.
    found = compared(bag, tmp_path, model, max_depth=0.001)
    assert found["equal"] == 0 and len(found["different_at_s"]) == found["compared"] > 0
    assert found["maps"]["depth/image"]["equal"] == 0
    assert found["maps"]["normals/color"]["equal"] == found["compared"]

    # Of other images nothing is compared: a result counts for the image whose stamp it bears.
    logs = logs_of(tmp_path)
    logs.sent.stamps.update({name: [1, 2] for name in logs.sent.stamps})
    others = compared(bag, tmp_path, model, logs)
    assert others["compared"] == 0 and others["without_result"] == {"lost_in_transport": 2}


def test_maps_are_compared_value_by_value() -> None:
    same = np.array([[1.0, np.nan, np.inf]], np.float32)
    found = MapComparison()
    assert found.add(same, same.copy(), ids=False) and found.largest == 0
    assert not found.add(same + 0.5, same, ids=False) and found.largest == 0.5
    assert not found.add(same, same[:, :2], ids=False) and found.largest is None
    ids = MapComparison()
    assert not ids.add(np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 9]]), ids=True)
    assert ids.largest == 0.25  # of the pixels
    assert (found.frames, found.equal) == (3, 1)


@pytest.fixture
def environment() -> Iterator[None]:
    """Give back what a replay in this process takes for itself."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def replay_here(*arguments: object) -> int:
    """Run `proto-mtl bag replay` in this process and return its status."""
    with pytest.raises(SystemExit) as end:
        run_command("bag", ["replay", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seconds", 0), "--seconds 0 plays nothing: give more than 0"),
        (("--param", "cameras:=[a]"), "parameter cameras is set by the replay itself"),
        (("--rate", 0), "a rate of 0 cannot be played: give --rate between"),
        (("--domain-id", 233), "--domain-id 233 is not a ROS domain: give 0 to 232"),
        (("--out", "{folder}/file"), "cannot write to {folder}/file"),
        (("--out", "/proc/self"), "cannot write to /proc/self"),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_anything_starts(
    options: tuple[str, object],
    said: str,
    bag: Path,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    name, value = options
    value = str(value).format(folder=tmp_path)
    arguments = ["--model", model, "--out", tmp_path / "out", name, value]
    assert replay_here(bag, *arguments) == USAGE
    (line,) = capfd.readouterr().err.splitlines()
    assert said.format(folder=tmp_path) in line


@pytest.mark.slow
def test_one_picture_and_a_slow_model_of_one_task_are_replayed(
    tmp_path: Path, environment: None, capfd: pytest.CaptureFixture[str]
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), picture(0))
    model = write_tiny_bundle(tmp_path, delay_loops=600, tasks=("depth",))
    status = replay_here(pictures, "--model", model, "--no-compare", "--out", out)
    said = capfd.readouterr()
    assert status == 0, said.err
    assert "no camera_info: depth is for the model's own camera" in said.out
    assert "equal the offline pass" not in said.out
    figures = json.loads((out / "results.json").read_text())
    assert figures["live_and_offline"] is None and figures["frames"]["recorded"] == 1
    found = compared(pictures, out, model)
    assert found["equal"] == found["compared"] == 1 and list(found["maps"]) == ["depth/image"]


def test_a_node_that_cannot_start_is_told_with_its_reason(
    model: Path, tmp_path: Path, environment: None, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = write_recording(tmp_path / "bag", frames=4)
    storage = bag / "bag.mcap"
    os.truncate(storage, storage.stat().st_size * 9 // 10)
    arguments = ["--model", model, "--out", tmp_path / "out", "--param", "backend:=onnxruntime"]
    assert replay_here(bag, *arguments, "--param", "precision:=fp16") == PROCESS
    said = capfd.readouterr()
    assert "note: " in said.out and "are whole and are used" in said.out
    line = said.err.splitlines()[-1]
    assert "the node could not start: " in line and "ONNX Runtime runs in fp32 or int8" in line


def test_a_player_can_be_paused(bag: Path) -> None:
    import rclpy
    from std_srvs.srv import SetBool

    from proto_mtl_ros.ros.replay.player import (
        Player,
        pausable,
    )

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("proto_mtl_player", context=context)
    asking = rclpy.create_node("asking", context=context)
    seen: list[float] = []
    try:
        with open_recording(bag) as recording, pausable(node, player := Player(node, recording)):
            client = asking.create_client(SetBool, "/proto_mtl_player/pause")
            assert client.wait_for_service(20.0)
            thread = threading.Thread(
                target=player.play, kwargs={"on_image": lambda _: seen.append(time.monotonic())}
            )
            thread.start()
            while len(seen) < 3:
                time.sleep(0.01)
            for paused in (True, False):
                answer = client.call_async(SetBool.Request(data=paused))
                executor = rclpy.executors.SingleThreadedExecutor(context=context)
                executor.add_node(asking)
                executor.spin_until_future_complete(answer, 20.0)
                assert answer.result().success
                if paused:
                    time.sleep(0.3)  # an image on its way may still pass
                    count = len(seen)
                    time.sleep(1.0)
                    assert len(seen) == count < FRAMES
            thread.join(20.0)
            assert len(seen) == FRAMES
            assert player.log.notes["late_ms"] < 900
    finally:
        node.destroy_node()
        asking.destroy_node()
        context.try_shutdown()
