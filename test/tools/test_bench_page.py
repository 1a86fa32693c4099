# SPDX-License-Identifier: Apache-2.0
"""The performance page says what the figures say; the commands that leave figures for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from performance_rows import MADE, engine_row, node_row
from tiny_bundle import write_tiny_bundle
from typer.testing import CliRunner

from proto_mtl_ros.cli.engine import app as engine_app
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.errors import ConfigError
from recordings import write_recording
from tools.performance.__main__ import app
from tools.performance.page import DATA, PAGE, PLOT, write_page
from tools.soak.__main__ import soak


def page_of(folder: Path, **parts: dict[str, Any]) -> str:
    for name, content in parts.items():
        (folder / f"{name}.json").write_text(json.dumps({**MADE, **content}))
    data = write_page(folder, folder)
    assert json.loads((folder / DATA).read_text()) == data
    return (folder / PAGE).read_text()


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    refused = {"asked": {"backend": "tensorrt", "precision": "fp16"}, "error": "there is no GPU"}
    # the cost of 1 ms per thousand pixels in the engine, of 2 ms in the node
    sizes = [node_row("input size", size, 500e3 / (size[0] * size[1])) for size in
             ((192, 256), (288, 384))]  # fmt: skip
    cameras = [
        node_row("cameras", (192, 256), rate, case={"cameras": number, "max_batch": batch})
        for number, batch, rate in ((1, 1, 20.0), (4, 1, 18.0), (2, 2, 21.0))
    ]
    thirty = [node_row("30 Hz", (96, 128), 29.4), node_row("30 Hz", (192, 256), 21.0)]
    again = node_row("30 Hz", (96, 128), 12.0)
    text = page_of(
        tmp_path,
        engine={"input_size": [192, 256], "rows": [engine_row(), refused]},
        node={"rows": [*sizes, *cameras, *thirty, again, node_row("rate", (192, 256), 0.0,
                       latency_ms={})]},
        compare={"frames_per_second": {"multi": 30.0, "single": 12.5},
                 "memory_mib": {"multi": 200.0, "single": 600.0}},
        accuracy={"data": "nyuv2 val", "frames": 7,
                  "rows": [{"size": [96, 128], "engine": "onnxruntime fp32", "miou": 0.3125,
                            "abs_err": 0.5}]},
    )  # fmt: skip
    for said in (
        "| openvino | int8 | 256x192 | 1 | 2 | 25.0 | 30.0 | 40.0 | 210 | 1.2 |",
        "| tensorrt | fp16 |  |  |  | there is no GPU |",
        f"![cost by input size and number of cameras]({PLOT})",
        "Ten thousand pixels more of network input cost 10.0 ms in the engine and 20.0 ms in the"
        " node.",
        "One at a time, 4 cameras together get 18.0 images a second, 1 gets 20.0.",
        "At the model's own input 30 % of the images go without the three results at best.",
        "The largest input measured that keeps up is 128x96.",
        "| depth | 128x96 | all | 1 | 29.4 | 2.0 | yes | 0.312 | 0.500 |  |",
        "| depth | 256x192 | all | 1 | 21.0 | 30.0 | no |  |  |  |",
        "| one node, all tasks | 30.0 | 200 |",
        "| three nodes, a task each | 12.5 | 600 |",
        "On 7 frames of nyuv2 val",
        "| 128x96 | onnxruntime fp32 | 0.312 | 0.500 |  |",
        "on a CPU, 2 CPUs, no GPU; Python 3.11, numpy 1.26.",
        "| 21.0 / 34.0 | 75 % | 123 | 1, 0 |",
        "| - | 75 % |",  # nothing was answered: no latency
    ):
        assert said in text, said
    assert "In batches" not in text  # one number of cameras tells no course
    assert "| 12.0 | 60.0 | no |" not in text.split("## The engine")[0]  # the same setting again
    assert (tmp_path / PLOT).read_bytes().startswith(b"\x89PNG")


def test_the_page_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    text = page_of(tmp_path, node={"rows": [node_row("30 Hz", (192, 256), 15.0)]})
    assert "| 15.0 | 50.0 | no |" in text
    assert "keeps up is" not in text and "the model's own input" not in text
    assert "![" not in text and not (tmp_path / PLOT).exists()
    slow = [node_row("resolution", (192, 256), 15.0), node_row("input size", (192, 256), 15.0)]
    text = page_of(tmp_path, node={"rows": slow})
    assert "## 30 Hz" not in text and "Ten thousand pixels" not in text and "![cost" in text


# --- the commands --------------------------------------------------------------------------------


def bench(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_engines_are_measured_by_a_command(tmp_path: Path) -> None:
    model, out = write_tiny_bundle(tmp_path), tmp_path / "figures"
    said = bench(
        "engine", "--model", model, "--backends", "onnxruntime", "--precisions", "fp32,fp16",
        "--threads", "1", "--sizes", "64x96", "--batches", "2", "--rounds", 1, "--frames", 2,
        "--out", out,
    )  # fmt: skip
    assert "onnxruntime fp32 (64, 96) x2, 1 threads: " in said and " images/s" in said
    assert "onnxruntime fp16 (64, 96) x2: ONNX Runtime runs in fp32 or int8" in said
    row, refused = json.loads((out / "engine.json").read_text())["rows"]
    assert (row["calls"], row["batch"], row["size"]) == (2, 2, [64, 96])
    assert 0 < row["ms_best"] <= row["ms_p50"] <= row["ms_p95"]
    assert row["images_per_second"] == pytest.approx(2e3 / row["ms_p50"])
    assert row["peak_memory_mib"] > 20
    assert 0 < row["load_seconds"] <= row["first_output_seconds"]
    assert "fp32 or int8" in refused["error"]


def test_accuracy_is_measured_by_input_size(tmp_path: Path) -> None:
    model, out = write_tiny_bundle(tmp_path / "models"), tmp_path / "figures"
    bag = write_recording(tmp_path / "bag", frames=4)
    said = bench(
        "accuracy", "--data", bag, "--kind", "bag", "--split", "train", "--model", model,
        "--backend", "onnxruntime", "--sizes", "64x96,96x128", "--out", out,
    )  # fmt: skip
    found = json.loads((out / "accuracy.json").read_text())
    assert [row["size"] for row in found["rows"]] == [[64, 96], [96, 128]]
    small, own = (row["abs_err"] for row in found["rows"])
    assert 0 < own < 0.15  # JPEG and two resizes lie between picture and depth
    # the tiny network does not see a focal length: 300 pixels at its own size, 225 here
    assert small == pytest.approx(4.7 * (300 / 225 - 1), rel=0.05)
    assert f"64x96: abs_err {small:.3f}" in said and f"96x128: abs_err {own:.3f}" in said


@pytest.mark.parametrize("text", ["192", "x256", "192x256,all", "192x256x3", "-1x4"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--sizes.*is not a size"):
        bench("engine", f"--sizes={text}")


def test_a_case_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no case 'rain': use 30 Hz, cameras, input size, rate"):
        bench("node", "--model", write_tiny_bundle(tmp_path), "--only", "rain")


@pytest.mark.parametrize(
    ("command", "app_of", "said"),
    [
        ([], "soak", "the shipped recording is not installed: give --recording"),
        (["check"], "engine", "the shipped recording is not installed: give --data"),
    ],
)
def test_an_installation_without_its_recording_says_so(
    command: list[str], app_of: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    monkeypatch.setattr("proto_mtl_ros.files.installation.shared_file", lambda name: None)
    soak_app = command_group("")
    soak_app.command()(soak)
    commands = {"soak": soak_app, "engine": engine_app}[app_of]
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(commands, command, catch_exceptions=False)
