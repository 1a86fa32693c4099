# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag learn` from a recording to figures: who is compared with whom, and on what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from proto_mtl_ros.cli import bag
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from recordings import without, write_recording

pytest.importorskip("onnx", reason="export needs onnx")

QUICK = """
name: quick
start_from: nyu13-lite0
start_share: 0.5
canonical_fx: 207.5431604
input_height: 192
input_width: 256
data: {kind: folder, label_set: nyu13}
loss: {normals: 3.0}
optimiser:
  {batch: 2, lr: 3.0e-4, freeze_norm: true,
   frozen_tasks: [segmentation]}
"""


def run(*arguments: object) -> str:
    """Run `bag learn` in this process; return what it prints."""
    done = CliRunner().invoke(bag.app, ["learn", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_learns_from_the_first_part_and_is_judged_by_the_last(
    room_recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "quick.yaml").write_text(QUICK)
    out = tmp_path / "out"
    arguments = [room_recording, "--out", out, "--config", tmp_path / "quick.yaml"]
    arguments += ["--learn", 0.4, "--judge", 0.2, "--motion", 0.03, "--steps", 10, "--seeds", "3"]
    printed = run(*arguments)
    found: dict[str, Any] = json.loads((out / "recordings.json").read_text())["fine_tune"]
    assert found["seeds"] == [3] and len(found["after"]) == 1
    assert found["before"]["frames"] == found["after"][0]["frames"] == 12  # a fifth of 5 s
    assert found["before"]["pixels"] == "all"

    # the rival with one scale is the model before, its depth times a number
    one_scale = found["before_with_one_scale"]
    assert one_scale["median_scale"] * one_scale["scale"] == pytest.approx(
        found["before"]["median_scale"], rel=1e-3
    )
    aligned = found["before"]["depth_abs_err_aligned"]
    assert one_scale["depth_abs_err_aligned"] == pytest.approx(aligned, rel=1e-3)
    before, after = found["before"]["depth_abs_err"], found["after"][0]["depth_abs_err"]
    less = 100 * (1 - after / before)
    assert f"depth, all: {before:.3f} m before, {after:.3f} after ({less:.1f} % less)" in printed

    # learnt from the first part alone, and the bundle runs
    splits = (out / "data" / "splits.csv").read_text().splitlines()[1:]
    assert {line.rpartition(",")[2] for line in splits} == {"train", "val"}
    assert "segmentation stays exactly as it is; " in printed and "; 10 steps, about" in printed
    assert "kept (against what it said before)" in printed and "verdict: " in printed
    assert printed.rstrip().endswith("seed3/report.html")
    assert "perception.launch.py model:=" in (out / "seed3" / "report.html").read_text()
    assert "50 % is kept" in (out / "models" / "seed3" / "README.md").read_text()

    # what the recording has no label for is exactly as it was, its confidence as well
    picture = np.random.default_rng(0).integers(0, 256, (1, 192, 256, 3), np.uint8)
    before, after = (
        create_engine(Bundle.load(name), "onnxruntime", "cpu", precision="fp32").infer(picture)
        for name in ("nyu13-lite0", str(out / "models" / "seed3"))
    )
    np.testing.assert_array_equal(before["segmentation"], after["segmentation"])
    confidences = (maps["confidence"].astype(int) for maps in (before, after))
    assert np.abs(np.subtract(*confidences)).max() <= 1
    assert np.abs(before["depth"] - after["depth"]).max() > 1e-3

    # what is finished is not done again
    weights = (out / "models" / "seed3" / "weights.safetensors").stat().st_mtime_ns
    run(*arguments)
    assert (out / "models" / "seed3" / "weights.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--learn", 0.8, "--judge", 0.5), "more than the whole recording"),
        pytest.param(
            ("--motion", 0.5), "take more with a smaller --motion", marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    options: tuple[object, ...], hint: str, room_recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=hint):
        run(room_recording, "--out", tmp_path, *options)


def test_a_recording_without_depth_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    bare = without(write_recording(tmp_path / "bag", frames=2), "depth", tmp_path / "bare")
    with pytest.raises(ConfigError, match="bare has no depth topic to learn from"):
        run(bare, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()
