# SPDX-License-Identifier: Apache-2.0
"""A recording through the running node: its results equal the offline pass, losses are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.data.bag import Bag
from proto_mtl_ros.data.recording import open_recording
from proto_mtl_ros.data.stamp_log import StampLog
from proto_mtl_ros.runtime.bundle import Bundle
from recordings import write_recording

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from proto_mtl_ros.replay.live_comparison import compare_live
from proto_mtl_ros.replay.session import ReplayLogs
from proto_mtl_ros.ros.frame_fate import read_fates

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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("bags") / "bag", frames=FRAMES)


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


def test_images_that_are_left_out_are_named_with_their_cause(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    limit = "max_rate:=[5.0]"
    figures = replay(bag, "--out", tmp_path, "--model", model, "--param", limit, "--no-sim-time")
    live = figures["live_and_offline"]
    assert live["without_result"]["max_rate"] >= FRAMES // 3
    assert live["without_result"]["max_rate"] == figures["frames"]["skipped"]["max_rate"]
    assert live["compared"] + len(live["without_result_at_s"]) == FRAMES

    # Held against what another parameter would have given, the same results are not equal.
    logs = ReplayLogs(
        StampLog.read(tmp_path / "player.json"),
        StampLog.read(tmp_path / "recorder.json"),
        read_fates(tmp_path / "node.log", "camera"),
        figures["diagnostics"],
        0.0,
    )
    with open_recording(bag) as recording:
        found = compare_live(
            recording, tmp_path / "results", logs, Bundle.load(str(model)), {"max_depth": "0.001"}
        ).figures()
    assert found["equal"] == 0 and len(found["different_at_s"]) == found["compared"] > 0
    assert found["maps"]["depth/image"]["equal"] == 0
    assert found["maps"]["normals/color"]["equal"] == found["compared"]


def test_a_player_can_be_paused(bag: Path) -> None:
    import rclpy
    from std_srvs.srv import SetBool

    from proto_mtl_ros.replay.player import Player, _pausable

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("proto_mtl_player", context=context)
    asking = rclpy.create_node("asking", context=context)
    seen: list[float] = []
    try:
        with open_recording(bag) as recording, _pausable(node, player := Player(node, recording)):
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
