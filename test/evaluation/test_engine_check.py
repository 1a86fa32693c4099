# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl engine check` runs what a machine has and finds the engine that gives other maps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_bundle import tiny_graph, tiny_manifest
from typer.testing import CliRunner, Result

from proto_mtl_ros.cli import engine
from proto_mtl_ros.evaluation.engine_check import TOLERANCES, Parity
from proto_mtl_ros.runtime.bundle import Bundle


def engine_check(model: Path, *arguments: object) -> Result:
    given = ["check", "--model", model, "--device", "cpu", *arguments]
    return CliRunner().invoke(engine.app, list(map(str, given)))


def bundle_with(folder: Path, int8: bytes) -> Path:
    files = {"model.onnx": tiny_graph().SerializeToString(), "model.int8.onnx": int8}
    return Bundle.write(folder / "tiny", tiny_manifest(), files).path


def test_every_engine_is_run_and_timed(room_recording: Path, tmp_path: Path) -> None:
    model = bundle_with(tmp_path, tiny_graph().SerializeToString())
    out = tmp_path / "engines.json"
    done = engine_check(model, "--data", room_recording, "--out", out)
    assert done.exit_code == 0, done.output
    rows = {
        (r["backend"], r["precision"], r["batch"]): r
        for r in json.loads(out.read_text())["engines"]
    }
    for batch in (1, 4):
        row = rows["onnxruntime", "fp32", batch]
        assert row["ran"] and row["problem"] is None and row["milliseconds"] > 0
        assert set(row["errors"].values()) == {0.0}
        assert not rows["onnxruntime", "fp16", batch]["ran"]
    assert "onnxruntime fp16 x1: not run: ONNX Runtime runs in fp32 or int8" in done.stdout


def test_an_engine_that_gives_other_maps_is_named(room_recording: Path, tmp_path: Path) -> None:
    model = bundle_with(tmp_path, tiny_graph(direction=(0.0, -1.0, 0.0)).SerializeToString())
    done = engine_check(model, "--data", room_recording, "--backends", "onnxruntime")
    assert done.exit_code == 1
    wrong = [line for line in done.stdout.splitlines() if "WRONG" in line]
    assert wrong and all(" int8 " in line and "normals differs" in line for line in wrong)


@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_what_is_allowed_depends_on_the_precision(precision: str) -> None:
    for output, allowed in TOLERANCES[precision].items():
        assert Parity({output: allowed}, precision).problem() is None
        assert output in str(Parity({output: 1.01 * allowed}, precision).problem())
        assert output in str(Parity({output: float("nan")}, precision).problem())
    for output, allowed in TOLERANCES["fp32"].items():
        assert allowed <= TOLERANCES[precision][output]
