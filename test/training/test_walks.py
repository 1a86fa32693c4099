# SPDX-License-Identifier: Apache-2.0
"""From what a person has to a model, in the commands that a user types.

A few steps each; `make walks` takes as many as are planned, and asks for what they are to reach.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_photos import CLASSES, write_frames

import proto_mtl_ros
from proto_mtl_ros.cli.train import own_robot_config
from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.data.nyuv2 import NYUv2
from proto_mtl_ros.evaluation.before_after import BeforeAfter, compare_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
OUT = os.environ.get("PROTO_MTL_WALKS")  # the folder that the results of whole walks stay in
START = "nyu13-lite0"


@pytest.fixture
def out(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(OUT, request.node.name) if OUT else tmp_path / "out"


def walk(*words: object) -> str:
    """Run a command; return what it prints. Nothing that frightens is among it."""
    short = [] if OUT or words[0] == "dataset" else ["--config", os.environ["SHORT"]]
    command = [sys.executable, "-m", "proto_mtl_ros.cli", *map(str, words), *short]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3500)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and "lightning" not in done.stderr, done.stderr
    print(done.stdout)
    return done.stdout


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = own_robot_config().read_text() + "  warmup_steps: 2\nsteps: 12\nepochs: 2\n"
    (tmp_path / "short.yaml").write_text(config.replace("batch: 4", "batch: 2"))
    monkeypatch.setenv("SHORT", str(tmp_path / "short.yaml"))


def judged(model: Path, frames: Folder | NYUv2) -> BeforeAfter:
    """Compare with the shipped model on frames that were not learnt from."""
    before, after = (proto_mtl_ros.load(name, "onnxruntime", "cpu") for name in (START, str(model)))
    return compare_models(before, after, frames, f"{len(frames)} frames")


def test_photos_and_ten_masks_become_a_model(room_recording, tmp_path, out):
    photos = range(0, 60, 2)
    masks, others = photos[::3], [frame for frame in photos if frame not in photos[::3]]
    drawn = write_frames(room_recording, tmp_path / "photos", photos, segmentation=masks)
    (drawn / "classes.txt").rename(drawn / "segmentation" / "classes.txt")
    started, data = time.monotonic(), tmp_path / "data"
    walk("dataset", "import", drawn / "images", drawn / "segmentation", "--out", data,
         "--camera", drawn / "camera.json")  # fmt: skip
    printed = walk("train", data, "--out", out)
    assert "9 masks to learn from, 1 to judge by; nyu13-lite0 teaches depth and normals" in printed
    model = re.search(r"run it: ros2 launch .* model:=(.*)", printed)[1]
    assert proto_mtl_ros.load(model).bundle.manifest.classes == CLASSES
    assert (out / "report.html").is_file()
    truth = write_frames(
        room_recording, tmp_path / "truth", others,
        segmentation=others, depth=others, normals=others,
    )  # fmt: skip
    found = judged(Path(model), Folder(truth, "val"))
    print(*found.lines(), sep="\n")
    if OUT:
        assert time.monotonic() - started < 20 * 60
        assert found.after.metrics["segmentation"]["miou"] >= 0.70
        for task, figure in (("depth", "abs_err"), ("normals", "mean_deg")):
            assert found.after.metrics[task][figure] <= 1.03 * found.before.metrics[task][figure]


def test_a_kitchen_teaches_depth_and_the_classes_are_kept(kitchen_bag, nyuv2, out):
    printed = walk("bag", "learn", kitchen_bag, "--out", out, *([] if OUT else ["--steps", 12]))
    assert "depth maps to learn from" in printed and "verdict: " in printed
    if OUT:
        assert "\nverdict: better: use it" in printed
        found = judged(out / "models" / "seed0", NYUv2(nyuv2, "val"))
        print(*found.lines(), sep="\n")
        miou = [one.metrics["segmentation"]["miou"] for one in (found.before, found.after)]
        assert miou[1] >= 0.97 * miou[0]


def test_a_folder_in_which_everything_is_partial(room_recording, tmp_path, out):
    frames = range(60)
    data = write_frames(
        room_recording, tmp_path / "partial", frames, segmentation=frames[::3], depth=frames[1::3]
    )
    printed = walk("train", data, "--out", out)
    assert "17 masks to learn from, 3 to judge by; 17 depth maps to learn from, 3 to" in printed
    assert "nyu13-lite0 teaches normals" in printed and "verdict: " in printed
    if OUT:
        assert "worse" not in re.search("verdict: .*", printed)[0]
