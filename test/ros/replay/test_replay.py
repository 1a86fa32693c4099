# SPDX-License-Identifier: Apache-2.0
"""A recording through the running node: a report, and results equal to the offline pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

import proto_mtl_ros
from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from recordings import (
    COLOUR_FRAME,
    START,
    image_message,
    picture,
    write_messages,
    write_recording,
)

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from proto_mtl_ros.ros.outcomes import read_outcomes
from proto_mtl_ros.ros.replay.comparison import MapComparison, ResultReader
from proto_mtl_ros.ros.replay.session import ReplayLogs

pytestmark = pytest.mark.ros
FRAMES = 15
PATIENCE = 120
TOPICS = ["segmentation/image", "segmentation/confidence", "depth/image", "normals/color"]


def run(*arguments: object, out: Path) -> tuple[dict[str, Any], str]:
    """Run `proto-mtl` as users do; return the figures and what is printed, in one line."""
    command = [sys.executable, "-m", "proto_mtl_ros.cli", *map(str, arguments), "--out", str(out)]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        command, text=True, capture_output=True, timeout=PATIENCE, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((out / "results.json").read_text()), " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("bags") / "bag", frames=FRAMES)


def test_the_demo_reports_on_a_recording_whose_depth_is_what_the_model_predicts(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    figures, printed = run("demo", "--recording", bag, "--model", model, out=out)
    assert f"Report: {out / 'report.html'}" in printed
    assert f"{FRAMES}/{FRAMES}" in printed
    compared = figures["live_and_offline"]["compared"]
    assert f"All {compared} live results equal the offline pass over the same images," in printed
    assert f"value by value, on {', '.join(TOPICS)}." in printed

    frames = figures["frames"]
    others = sum(sum(frames[group].values()) for group in ("drops", "bad", "skipped"))
    assert frames["published"] == FRAMES
    assert frames["processed"] + others + frames["lost_in_transport"] == FRAMES
    assert frames["unaccounted"] == 0 and not frames["bad"]
    assert frames["processed"] == frames["recorded"] > 0

    assert 8 < figures["rate_in_hz"] < 10.5  # recorded at 10 Hz; never faster than that
    assert 0 < figures["rate_out_hz"] < 12  # a few results only: jitter of the first and last
    assert {"infer", "publish", "total"} <= set(figures["latency_ms"]["stages"])
    latency = figures["latency_ms"]["end_to_end"]
    assert latency["results_with_unknown_stamp"] == latency["results_with_doubled_stamp"] == 0
    assert 0 < latency["p50"] <= latency["p95"] <= latency["max"]
    with Bag(out / "results") as results:
        counts = {topic.name: topic.count for topic in results.topics}
        headers = [m.decode().header.frame_id for m in results.messages(["/camera/depth/image"])]
    assert counts["/camera/segmentation/image"] == counts["/camera/depth/image"] == len(headers)
    assert set(headers) == {COLOUR_FRAME} and counts["/diagnostics"] > 0

    depth = figures["depth"]
    assert figures["registration"] == "same camera" and depth["frames"] == frames["recorded"]
    # JPEG and two resizes are between the two.
    assert depth["all"]["abs_err"] < 0.15 and depth["all"]["delta1"] > 0.98
    assert depth["median_scale"] == pytest.approx(1, abs=0.03)

    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape[1] > 1000 and float(np.std(sheet)) > 30
    assert "measured depth" in (out / "report.html").read_text(encoding="utf-8")
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.data
@pytest.mark.slow
def test_a_careless_recording_is_reported_as_such(
    kitchen_bag: Path, model: Path, tmp_path: Path
) -> None:
    arguments = (kitchen_bag, "--model", model, "--seconds", 2)
    figures, _ = run("bag", "replay", *arguments, out=tmp_path)
    assert figures["frames"]["published"] == pytest.approx(61, abs=1)
    assert figures["frames"]["unaccounted"] == 0
    assert figures["registration"] == "none"
    assert figures["depth"]["compared_pixels"]["tolerant"] > 1000
    assert "Measured depth is of another camera" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_of_several_rounds_results_equal_the_offline_pass_and_time_never_jumps_back(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    arguments = (bag, "--model", model, "--start", 0.45, "--loops", 2)
    figures, _ = run("bag", "replay", *arguments, out=tmp_path)
    live = figures["live_and_offline"]
    assert live["sent"] == 2 * (FRAMES - 5)  # at 10 Hz, without those of the first 0.45 s
    assert live["compared"] > FRAMES - 5  # of the second round as well
    assert live["equal"] == live["compared"] and list(live["maps"]) == TOPICS
    assert live["compared"] + sum(live["without_result"].values()) == live["sent"]
    (stamps,) = StampLog.read(tmp_path / "player.json").stamps.values()
    gaps = [later - earlier for earlier, later in zip(stamps, stamps[1:])]
    assert all(gap == pytest.approx(1e8, abs=1e6) for gap in gaps)
    with Bag(tmp_path / "results") as results:
        got = [m.stamp for m in results.messages(["/camera/depth/image"])]
    assert got == sorted(set(got)) and set(got) <= set(stamps)
    assert figures["made_with"]["command"].startswith(f"proto-mtl bag replay {bag} --model")


def compared(
    played: Path, out: Path, model: Path, sent: list[int] | None = None, **settings: float
) -> dict[str, Any]:
    """Hold the results of a replay against what these settings would have given."""
    log = StampLog.read(out / "player.json")
    if sent is not None:
        log.stamps.update(dict.fromkeys(log.stamps, sent))
    outcomes = read_outcomes(out / "node.log", "camera")
    logs = ReplayLogs(log, StampLog.read(out / "recorder.json"), outcomes, {})
    predictor = proto_mtl_ros.load(str(model), "onnxruntime", "cpu")
    with open_recording(played) as recording:
        reader = ResultReader(recording, logs, predictor, settings)
        reader.read(out / "results")
    return reader.figures()["live_and_offline"]


@pytest.mark.slow
def test_images_that_are_left_out_are_named_with_their_cause(model: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"  # on the topic that the node listens to by itself
    stamps = [START + number * 10**8 for number in range(FRAMES)]
    images = [image_message(picture(n), "rgb8", stamp) for n, stamp in enumerate(stamps)]
    write_messages(bag, zip(["/camera/image"] * FRAMES, stamps, images))
    limit = ("--param", "max_rate:=[5.0]")
    figures, _ = run("bag", "replay", bag, "--model", model, *limit, out=tmp_path)
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
    others = compared(bag, tmp_path, model, sent=[1, 2])
    assert others["compared"] == 0 and others["without_result"] == {"lost_in_transport": 2}


@pytest.mark.slow
def test_one_picture_and_a_slow_model_of_one_task_are_replayed(tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), picture(0))
    model = write_tiny_bundle(tmp_path, delay_loops=600, tasks=("depth",))
    figures, printed = run("bag", "replay", pictures, "--model", model, out=out)
    assert "no camera_info: depth is for the model's own camera" in printed
    found = figures["live_and_offline"]
    assert figures["frames"]["recorded"] == found["equal"] == found["compared"] == 1
    assert list(found["maps"]) == ["depth/image"]


def test_maps_are_compared_value_by_value() -> None:
    same = np.array([[1.0, np.nan, np.inf]], np.float32)
    found = MapComparison()
    assert found.add(same, same.copy(), ids=False) and found.largest == 0
    assert not found.add(same + 0.5, same, ids=False) and found.largest == 0.5
    assert not found.add(np.nan_to_num(same), same, ids=False) and found.largest is None
    assert not found.add(same, same[:, :2], ids=False) and found.largest is None
    ids = MapComparison()
    assert not ids.add(np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 9]]), ids=True)
    assert ids.largest == 0.25  # of the pixels
    assert (found.frames, found.equal) == (4, 1)
