# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag evaluate` on recordings whose figures are known, whole and stopped half way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from evaluations import without_times
from tiny_bundle import expected, write_tiny_bundle
from typer.testing import CliRunner

from proto_mtl_ros import load
from proto_mtl_ros.cli.bag import evaluate
from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recording import BagRecording, decode_picture
from proto_mtl_ros.errors import BagError, ConfigError, DataError
from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions
from recordings import (
    DEPTH_FRAME,
    changed,
    image_message,
    picture,
    without,
    write_recording,
)

FRAMES = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("bags") / "bag", FRAMES, depth_scale=0.8)


def run(*arguments: object) -> str:
    """Evaluate in this process; return what is printed."""
    app = typer.Typer()
    app.command()(evaluate)
    done = CliRunner().invoke(app, [*map(str, arguments), "--backend", "onnxruntime"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def evaluated(out: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Evaluate in this process; return the figures and the page."""
    run(*arguments, "--out", out)
    return json.loads((out / "results.json").read_text()), (out / "report.html").read_text()


def heads(page: str) -> list[str]:
    """Return the columns of the report's frames."""
    return re.findall(r"<div>([a-z ]+)</div>", page.split('id="panels"')[1].split("<figure>")[0])


def test_depth_is_judged_as_it_is_and_aligned(bag: Path, model: Path, tmp_path: Path) -> None:
    figures, page = evaluated(tmp_path, bag, "--model", model)
    assert figures["frames"] == FRAMES and figures["metric"]
    assert figures["recording"]["registration"] == "same camera"
    assert figures["recording"]["matched"] == {"/camera/depth/image_rect_raw": FRAMES}
    depth = figures["depth"]
    assert depth["median_scale"] == pytest.approx(0.8, rel=0.03)
    assert depth["all"]["rel_err"] == pytest.approx(0.25, abs=0.03)
    assert depth["all_aligned"]["rel_err"] < 0.03
    assert len(figures["time_series"]["abs_err"]) == FRAMES
    assert figures["time_series"]["seconds"][-1] == pytest.approx(0.1 * (FRAMES - 1))
    assert figures["confidence"] == pytest.approx(200 / 255, abs=0.01)
    assert heads(page) == ["input", "classes over input", "depth", "measured depth", "normals"]
    assert "Best by depth error" in page and "Worst by depth error" in page


def test_the_last_frame_counts_whatever_its_nanoseconds(model: Path, tmp_path: Path) -> None:
    # as a float, the last stamp would be 96 ns earlier
    bag = write_recording(tmp_path / "bag", frames=4, period=0.03333328)
    assert evaluated(tmp_path / "out", bag, "--model", model)[0]["frames"] == 4


def test_a_stopped_pass_goes_on_and_ends_with_the_same_figures(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    whole, page = evaluated(tmp_path / "whole", bag, "--model", model)
    lines = (tmp_path / "whole" / "frames.jsonl").read_bytes().splitlines(keepends=True)
    for kept, half in ((1, 0), (2, 30), (7, 100), (len(lines), 0)):
        out = tmp_path / f"stopped{kept}"
        out.mkdir()
        begun = b"".join(lines[:kept]) + (lines[kept][:half] if half else b"")
        (out / "frames.jsonl").write_bytes(begun)
        figures, page_again = evaluated(out, bag, "--model", model)
        assert without_times(figures) == without_times(whole)
        assert re.findall('data:image[^"]+', page_again) == re.findall('data:image[^"]+', page)
        # what was there was not done again
        again = (out / "frames.jsonl").read_bytes().splitlines(keepends=True)
        assert again[:kept] == lines[:kept] and len(again) == len(lines)
    with pytest.raises(DataError, match="another model, recording or setting"):
        run(bag, "--model", model, "--every", 2, "--out", tmp_path / "whole")


def test_depth_of_another_camera_is_said_and_registered_where_that_is_known(
    model: Path, tmp_path: Path
) -> None:
    bag = write_recording(tmp_path / "bag", frames=3, depth_frame=DEPTH_FRAME)
    figures, _ = evaluated(tmp_path / "apart", bag, "--model", model)
    assert figures["recording"]["registration"] == "none"
    away_from_edges = figures["normals"]["pixels"]
    extrinsics = tmp_path / "e.yaml"
    extrinsics.write_text("translation: [0, 0, 0]\nrotation: [0, 0, 0, 1]\n")
    given = ("--extrinsics", extrinsics)
    figures, _ = evaluated(tmp_path / "given", bag, "--model", model, *given)
    assert figures["recording"]["registration"] == "extrinsics"
    assert figures["depth"]["all"]["rel_err"] < 0.03
    assert figures["normals"]["pixels"] > away_from_edges
    figures, _ = evaluated(tmp_path / "said", bag, "--model", model, "--registered")
    assert figures["recording"]["registration"] == "same camera"

    extrinsics.write_text("rotation: [0, 0, 0, 1]\n")
    with pytest.raises(ConfigError, match=r"give translation: \[x, y, z\]"):
        run(bag, "--model", model, *given, "--out", tmp_path / "none")


def test_label_images_are_judged(model: Path, tmp_path: Path) -> None:
    def labels(message: BagMessage) -> Iterable[tuple[str, int, Any]]:
        if "color/image" in message.topic:
            ids = expected(decode_picture(message)[None])["segmentation"][0]
            odd = image_message(np.zeros((4, 4), np.uint8), "mono8", message.stamp)
            odd.encoding = "yuv_of_nobody"
            yield "/labels", message.time + 1, image_message(ids, "mono8", message.stamp)
            yield "/odd", message.time + 2, odd
            wide = image_message(ids.astype(np.uint16), "16UC1", message.stamp)
            yield "/wide", message.time + 3, wide

    first = write_recording(tmp_path / "a", 3)
    bag = changed(first, tmp_path / "b", lambda message, content: content, labels)
    figures, page = evaluated(tmp_path / "out", bag, "--model", model, "--labels-topic", "/labels")
    # the network sees a smaller picture, so classes differ by a pixel where they meet
    assert figures["segmentation"]["pixel_accuracy"] > 0.95
    assert np.array(figures["segmentation"]["confusion"]).sum() == 3 * picture(0)[..., 0].size
    assert "<h2>Classes</h2>" in page
    figures, page = evaluated(tmp_path / "odd", bag, "--model", model, "--labels-topic", "/odd")
    assert figures["segmentation"] is None and "3 messages of /odd cannot be decoded" in page
    for topic, said in (
        ("/wide", "has no class ids: they are mono8 or 8UC1"),
        ("/nothing", "has no images of class ids in /nothing"),
        ("/camera/color/image_raw/compressed", "has no images of class ids in"),
    ):
        with pytest.raises(DataError, match=said):
            run(bag, "--model", model, "--labels-topic", topic, "--out", tmp_path / "none")


def test_a_recording_without_depth_is_judged_by_itself(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    bare = without(bag, "depth", tmp_path / "bare")
    figures, page = evaluated(tmp_path / "out", bare, "--model", model)
    assert figures["depth"] is None and figures["normals"] is None
    assert figures["recording"]["depth_topic"] is None and figures["metric"]
    assert figures["consistency"]["pixels"] > 0
    assert {"flicker", "jitter"} <= set(figures["stability"])
    assert "Not compared: the recording has no depth topic." in page
    assert heads(page) == ["input", "classes over input", "depth", "normals"]
    assert "Best by confidence" in page

    one = without(write_recording(tmp_path / "bag", 1), "depth", tmp_path / "one")
    shown = run(one, "--model", model, "--out", tmp_path / "out1")
    assert "1 frames, engine p50" in shown
    assert "normals against those of predicted depth" in shown
    # neither measured depth, nor a second frame to compare with
    for text in ("abs", "median scale", "measured", "along the flow", "mIoU"):
        assert text not in shown


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_model_of_one_task_is_judged_by_that_alone(task: str, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    model = write_tiny_bundle(tmp_path / "models", tasks=(task,))
    figures, page = evaluated(tmp_path / "out", bag, "--model", model)
    of = {name for name in ("depth", "normals", "confidence") if figures[name] is not None}
    assert of == {task if task != "segmentation" else "confidence"}
    assert ("flicker" in figures["stability"]) == (task == "segmentation")
    assert ("jitter" in figures["stability"]) == (task == "depth")
    column = "classes over input" if task == "segmentation" else task
    assert set(heads(page)) == {"input", column, "measured depth"}
    assert ("Not compared: the model predicts no depth." in page) == (task != "depth")


def test_frames_without_depth_are_judged_by_the_rest(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    some = without(bag, "depth/image", tmp_path / "some", after=2)
    figures, _ = evaluated(tmp_path / "out", some, "--model", model)
    series = figures["time_series"]
    assert figures["frames"] == FRAMES and figures["depth"]["frames"] == 2
    assert [error is None for error in series["abs_err"]] == [False] * 2 + [True] * (FRAMES - 2)
    assert series["normals_deg"][2:] == [None] * (FRAMES - 2)
    assert None not in series["consistency_deg"]

    late = write_recording(tmp_path / "late", frames=3, depth_delay=0.05)
    figures, page = evaluated(tmp_path / "out2", late, "--model", model)
    assert figures["depth"] is None
    assert "Not compared: no frame has depth in common." in page


def test_a_stretch_without_an_image_is_refused(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2)
    predictor = load(str(model), "onnxruntime", "cpu")
    with BagRecording(bag) as opened:
        calibration = Calibration.of(opened)
        run = BagPass(opened, predictor, calibration, PassOptions(part=(0.4, 0.6)))
        with pytest.raises(BagError, match="bag has no image that can be used"):
            run.figures(tmp_path / "records.jsonl")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_works_in_a_browser_that_is_offline(
    bag: Path, model: Path, tmp_path: Path
) -> None:
    figures, page = evaluated(tmp_path / "out", bag, "--model", model)
    assert "http://" not in page and "https://" not in page
    moved = (
        "<script>const first=pictures[0].src;slider.value=slider.max;"
        "slider.dispatchEvent(new Event('input'));"
        "document.title=[pictures[0].src!==first,time.textContent,frames.length].join(' ');"
        "</script>"
    )
    (tmp_path / "moved.html").write_text(page.replace("</body>", moved + "</body>"))
    browser = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    browser += [f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr"]
    done = subprocess.run(
        [*browser, "--dump-dom", f"file://{tmp_path}/moved.html"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    last = figures["time_series"]["seconds"][-1]
    assert f"<title>true {last:.2f} s {FRAMES}</title>" in done.stdout
    shot = tmp_path / "shot.png"
    shown = ["--window-size=1200,1600", f"--screenshot={shot}"]
    shown += [f"file://{tmp_path}/out/report.html"]
    subprocess.run([*browser, *shown], capture_output=True, timeout=100, check=True)
    seen = cv2.imread(str(shot))
    assert seen.shape[:2] == (1600, 1200)
    # the panels of the first frame: pictures, not empty cards
    assert seen[300:600].std() > 20
