# SPDX-License-Identifier: Apache-2.0
"""Benches: figures from logs by hand, real engines and nodes measured for a moment, the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from performance_rows import engine_row, node_row
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import ConfigError, EngineError, ProtoMtlError
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.machine import machine
from recordings import write_recording
from tools.performance.engine import EngineProcess, EngineSetting
from tools.performance.node_figures import load_figures
from tools.performance.page import PAGE, write_page
from tools.performance.plot import camera_series, cost_plot, size_series, slope
from tools.performance.ratios import ratio_rows, ratios
from tools.performance.recording import repeated
from tools.processes import cpu_seconds, process_use

MS = 1_000_000
TOPICS = {"front": ["/front/depth", "/front/normals"], "rear": ["/rear/depth", "/rear/normals"]}


def logs() -> tuple[StampLog, StampLog]:
    """Ten images of each of two cameras, 100 ms apart; what came of them is stated below."""
    sent, heard = StampLog(), StampLog()
    for number in range(10):
        for camera, shift in (("front", 0), ("rear", 50)):
            stamp = 1000 * number + shift
            time = (100 * number + shift) * MS
            sent.add(camera, stamp, time)
            if number == 3:  # overwritten
                continue
            heard.add(f"/{camera}/depth", stamp, time + 20 * MS)
            if camera == "rear" and number == 5:  # one of its results got lost
                continue
            heard.add(f"/{camera}/normals", stamp, time + (30 + number) * MS)
    heard.add("/front/depth", 77, 0)  # of an earlier load
    return sent, heard


def test_a_load_is_judged_by_what_came_back_and_when() -> None:
    before = {camera: {"received": "100", "processed": "90"} for camera in TOPICS}
    after = {
        "front": {"received": "110", "processed": "99"},
        "rear": {"received": "109", "processed": "99"},
    }
    sent, heard = logs()
    figures = load_figures(sent, heard, TOPICS, before, after, share={}, memory_mib={})
    assert (figures.sent, figures.answered, figures.processed) == (20, 17, 18)
    assert (figures.lost_in, figures.lost_out) == (1, 1)
    assert figures.loss == pytest.approx(3 / 20)
    late = [30 + n for n in range(10) if n != 3] + [30 + n for n in range(10) if n not in (3, 5)]
    for p in (50, 95, 99):
        assert figures.latency_ms[f"p{p}"] == pytest.approx(np.percentile(late, p))
    # twenty images in ten periods of 100 ms
    assert figures.rate == pytest.approx(17 / 1.0, rel=0.06)


def test_a_load_without_any_answer_has_no_latency() -> None:
    sent, _ = logs()
    same = {camera: {"received": "10", "processed": "0"} for camera in TOPICS}
    none = {camera: {"received": "0", "processed": "0"} for camera in TOPICS}
    figures = load_figures(sent, StampLog(), TOPICS, none, same, share={}, memory_mib={})
    assert (figures.answered, figures.loss, figures.latency_ms) == (0, 1.0, {})


def test_an_engine_process_that_dies_is_one_clear_line(tmp_path: Path) -> None:
    setting = EngineSetting(str(write_tiny_bundle(tmp_path)), "onnxruntime")
    own = frozenset(sorted(os.sched_getaffinity(0))[:1])
    process = EngineProcess(setting, own)
    try:
        assert os.sched_getaffinity(process._child.pid) == own
        process._child.kill()
        with pytest.raises(EngineError, match="ended"):
            process.run(1)
    finally:
        process.close()


def test_processes_are_measured_as_the_system_counts() -> None:
    code = "x = bytearray(64 << 20)\nimport time\nt = time.process_time()\n"
    code += "while time.process_time() - t < 0.5: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        assert 0.45 < cpu_seconds(child.pid) < 1.5
        assert 64 < process_use(child.pid)["pss_mib"] < 120
        child.stdin.write("\n")
    facts = machine()
    assert facts["cores"] >= 1 and facts["processor"] and "numpy" in facts["versions"]


def proto_mtl_bench(*arguments: object) -> str:
    command = [sys.executable, "-m", "tools.performance", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.ros
def test_the_node_is_measured_end_to_end_and_the_page_says_so(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    model, out = write_tiny_bundle(tmp_path), tmp_path / "figures"
    out.mkdir()
    earlier = [node_row("rate", (96, 128), 30.0), node_row("30 Hz", (96, 128), 1.0)]
    (out / "node.json").write_text(json.dumps({"rows": earlier}))
    proto_mtl_bench(
        "node", "--model", model, "--only", "30 Hz", "--input-sizes", "", "--seconds", 1,
        "--backend", "onnxruntime", "--out", out,
    )  # fmt: skip
    other, *rows = json.loads((out / "node.json").read_text())["rows"]
    assert other == earlier[0]  # measured before, and not asked for now
    assert [row["case"]["threads"] for row in rows] == [1, 2]
    for row in rows:
        assert row["sent"] == 30 >= row["processed"] >= row["answered"]
        # a network that does nothing: the machine may be busy, but most is answered
        assert row["answered"] >= 10
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
        assert row["memory_mib"]["node0"] > 50
    said = proto_mtl_bench("page", "--out", out, "--docs", tmp_path / "docs")
    assert "lost_frames: {'640x480': " in said
    text = (tmp_path / "docs" / PAGE).read_text()
    assert "## The node" in text and "640x480" in text and "not measured" in text
    assert "## 30 Hz" in text and "keep" in text.split("## 30 Hz")[1]


@pytest.mark.ros
def test_a_node_that_cannot_be_measured_is_told_and_nothing_stays(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from tools.performance.node import NodeBench, NodeSetting

    parameters = {"model": str(write_tiny_bundle(tmp_path)), "backend": "onnxruntime",
                  "precision": "fp16"}  # fmt: skip
    own = frozenset(sorted(os.sched_getaffinity(0))[:1])
    bench = NodeBench(NodeSetting(parameters=(parameters,), node_cores=own, peer_cores=own))
    kept = dict(os.environ)
    try:
        with pytest.raises(ProtoMtlError, match="could not start: .*fp32 or int8"):
            bench.__enter__()
    finally:
        os.environ.clear()
        os.environ.update(kept)
    assert sorted(bench.children) == ["listener", "node0"]
    assert all(child.status is not None for child in bench.children.values())


COMPARE = """
import sys
from tools.performance import comparison
from proto_mtl_ros.cli.main import run_tool
from tools.performance.__main__ import app
from proto_mtl_ros.runtime.bundle import Bundle
multi, out, *singles = sys.argv[1:]
# the tiny network has no weights to make others from
comparison.single_task_bundle = lambda bundle, task, folder: Bundle.load(singles.pop(0))
sys.argv = ["performance", "compare", "--model", multi, "--backend", "onnxruntime",
            "--rounds", "1", "--seconds", "2", "--out", out]
run_tool("tools.performance", app)
"""


@pytest.mark.slow
@pytest.mark.ros
def test_one_node_is_compared_with_one_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    tasks = ("segmentation", "depth", "normals")
    models = [write_tiny_bundle(tmp_path / "all"), tmp_path / "figures"]
    models += [write_tiny_bundle(tmp_path / task, tasks=(task,)) for task in tasks]
    command = [sys.executable, "-c", COMPARE, *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures" / "compare.json").read_text())
    fps, used = found["frames_per_second"], found["memory_mib"]
    assert fps["multi"] > 0 and fps["single"] > 0
    assert found["multi_over_three_single_fps"] == pytest.approx(fps["multi"] / fps["single"])
    assert f"one node {fps['multi']:.1f} frames/s, {used['multi']:.0f} MiB; three" in done.stdout
    # three interpreters, and what each library keeps for itself
    assert found["multi_over_three_single_memory"] == used["multi"] / used["single"] < 0.7


def test_ratios_are_those_of_the_rows() -> None:
    alone = {"images_per_second": 20.0, "ms_p95": 55.0}
    parts = {
        "engine": {
            "input_size": [192, 256],
            "int8_metric_loss_percent": {"depth": 0.5},
            "rows": [
                engine_row(backend="torch", precision="fp32", ms_p50=90.0),
                engine_row(backend="onnxruntime", precision="fp32", ms_p50=30.0),
                engine_row(backend="openvino", precision="fp32", ms_p50=36.0),
                engine_row(ms_p50=20.0),
                engine_row(ms_p50=1.0, threads=1),
                engine_row(precision="fp32", ms_p50=1.0, batch=4),
                {"error": "there is no GPU", "asked": {}},
            ],
        },
        "node": {
            "rows": [
                node_row("rate", (192, 256), 19.0, engine=alone, latency_ms={"p95": 90.0}),
                node_row("rate", (192, 256), 10.0, engine=alone, latency_ms={"p95": 61.0},
                         loss=0.0, rate_offered=10.0, lost_out=2),
            ]
        },
    }  # fmt: skip
    found = ratios(parts)
    assert found["best_fp32_over_eager"] == pytest.approx(3.0)
    assert found["int8_over_best_fp32"] == pytest.approx(1.5)
    assert found["int8_metric_loss_percent"] == {"depth": 0.5}
    assert found["node_over_engine_throughput"] == pytest.approx(0.95)
    assert found["p95_overhead_ms"] == pytest.approx(6.0)
    assert found["lost_frames"] == {"640x480": 2}
    assert found["multi_over_three_single_fps"] is None
    reached = {row[1].strip("`"): (row[3], row[4]) for row in ratio_rows(found)}
    assert reached["best_fp32_over_eager"] == ("at least 2.5", "yes")
    assert reached["int8_metric_loss_percent"] == ("at most 1", "yes")
    assert reached["p95_overhead_ms"] == ("at most 8", "yes")
    assert reached["lost_frames"] == ("at most 0", "no")
    assert reached["multi_over_three_single_fps"] == ("at least 2.3", "")


def test_cost_is_drawn_and_said() -> None:
    # an engine of 1 ms per thousand pixels, a node that takes 5 ms more; cameras share it
    rows = [
        node_row("input size", size, 1e3 / (size[0] * size[1] / 1e3 + 5), loss=0.3)
        for size in ((96, 128), (192, 256), (288, 384))
    ]
    for number, batch, rate, loss in (
        (1, 1, 20.0, 0.3), (2, 1, 19.0, 0.3), (4, 1, 18.0, 0.3), (2, 2, 21.0, 0.3), (1, 1, 5.0, 0.0)
    ):  # fmt: skip
        case = {"cameras": number, "max_batch": batch}
        rows.append(node_row("cameras", (192, 256), rate, case=case, loss=loss))
    assert slope(size_series(rows)["node"]) == pytest.approx(1.0)
    assert camera_series(rows) == {
        "one at a time": [(1, 20.0), (2, 19.0), (4, 18.0)],
        "in batches": [(2, 21.0)],
    }
    both, one = (
        cv2.imdecode(np.frombuffer(cost_plot(some) or b"", np.uint8), cv2.IMREAD_COLOR)
        for some in (rows, rows[:3])
    )
    assert both.shape[1] == 2 * one.shape[1] and one.std() > 10
    assert cost_plot([]) is None


def test_a_folder_without_figures_or_with_damaged_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no figures"):
        write_page(tmp_path, tmp_path)
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        write_page(tmp_path, tmp_path)


@pytest.mark.slow
def test_a_single_task_network_gives_its_own_maps_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from proto_mtl_ros.runtime.engine import create_engine
    from tools.performance.comparison import single_task_bundle

    single = single_task_bundle(Bundle.load("nyu13-lite0"), "depth", tmp_path)
    image = np.zeros((1, 64, 96, 3), np.uint8)
    assert list(create_engine(single, "onnxruntime", "cpu").infer(image)) == ["depth"]


# --- recordings ----------------------------------------------------------------------------------


def test_the_offline_pass_is_measured_beside_its_engine(tmp_path: Path) -> None:
    model = write_tiny_bundle(tmp_path / "models")
    bag = write_recording(tmp_path / "bag", frames=8)
    proto_mtl_bench(
        "recording", bag, "--model", model, "--backend", "onnxruntime", "--times", 3,
        "--docs", tmp_path,
    )  # fmt: skip
    found = json.loads((tmp_path / "recordings.json").read_text())["offline_pass"]
    assert found["pass_over_engine"] == pytest.approx(found["pass_fps"] / found["engine_fps"])
    assert 50 < found["peak_mib"] < 2000 and 50 < found["peak_mib_longer"] < 2000


def test_a_repeated_recording_goes_on_in_time(tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=4)
    with Bag(repeated(bag, tmp_path / "long", 3)) as long:
        (images,) = (t for t in long.topics if "color/image" in t.name)
        stamps = [message.stamp for message in long.messages([images.name])]
    assert len(stamps) == 12
    gaps = np.diff(stamps) / 1e9
    assert gaps.min() > 0 and gaps.max() < 0.25
