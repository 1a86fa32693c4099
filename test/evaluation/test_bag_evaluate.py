# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag evaluate` on recordings whose figures are known, whole and stopped half way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from tiny_bundle import expected, write_tiny_bundle
from typer.testing import CliRunner

from proto_mtl_ros.cli.bag_evaluate import evaluate
from proto_mtl_ros.cli.engine_options import open_predictor
from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.bags.bag import (
    Bag,
    typestore,
)
from proto_mtl_ros.data.bags.recording import (
    BagRecording,
    decode_picture,
)
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import (
    BagError,
    DataError,
)
from proto_mtl_ros.evaluation.bag_pass import (
    BagPass,
    PassOptions,
)
from proto_mtl_ros.evaluation.bag_report import frames_to_show
from recordings import DEPTH_FRAME, START, image_message, picture, write_recording

FRAMES = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


def bag_evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "evaluate"]
    command += [*map(str, arguments), "--backend", "onnxruntime", "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def results(out: Path, *arguments: object) -> dict[str, Any]:
    done = bag_evaluate(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "results.json").read_text())


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    course = {name: values for name, values in figures["course"].items() if name != "ms"}
    return {**figures, "ms": None, "course": course}


def test_depth_is_judged_as_it_is_and_aligned(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=FRAMES, depth_scale=0.8)
    figures = results(tmp_path / "out", bag, "--model", model)
    assert figures["frames"] == FRAMES and figures["metric"]
    assert figures["recording"]["registration"] == "same camera"
    assert figures["recording"]["matched"] == {"/camera/depth/image_rect_raw": FRAMES}
    depth = figures["depth"]
    assert depth["median_scale"] == pytest.approx(0.8, rel=0.03)
    assert depth["all"]["rel_err"] == pytest.approx(0.25, abs=0.03)
    assert depth["all_aligned"]["rel_err"] < 0.03
    assert len(figures["course"]["abs_err"]) == FRAMES
    assert figures["course"]["seconds"][-1] == pytest.approx(0.1 * (FRAMES - 1))
    assert figures["confidence"] == pytest.approx(200 / 255, abs=0.01)


def test_the_last_frame_counts_whatever_its_nanoseconds(model: Path, tmp_path: Path) -> None:
    # as a float, the last stamp would be 96 ns earlier
    bag = write_recording(tmp_path / "bag", frames=4, period=0.03333328)
    assert results(tmp_path / "out", bag, "--model", model)["frames"] == 4


def test_a_stopped_pass_goes_on_and_ends_with_the_same_figures(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=FRAMES)
    whole = results(tmp_path / "whole", bag, "--model", model)
    records = tmp_path / "whole" / "frames.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    for kept, half in ((1, 0), (2, 30), (7, 100), (len(lines), 0)):
        out = tmp_path / f"stopped{kept}"
        out.mkdir()
        begun = b"".join(lines[:kept]) + (lines[kept][:half] if half else b"")
        (out / "frames.jsonl").write_bytes(begun)
        assert without_times(results(out, bag, "--model", model)) == without_times(whole)
        # what was there was not done again
        again = (out / "frames.jsonl").read_bytes().splitlines(keepends=True)
        assert again[:kept] == lines[:kept] and len(again) == len(lines)


def test_records_of_another_setting_are_not_taken(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    results(tmp_path / "out", bag, "--model", model)
    done = bag_evaluate(bag, "--model", model, "--every", 2, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "another model, recording or setting" in done.stderr


def test_depth_of_another_camera_is_said_and_registered_where_that_is_known(
    model: Path, tmp_path: Path
) -> None:
    bag = write_recording(tmp_path / "bag", frames=3, depth_frame=DEPTH_FRAME)
    figures = results(tmp_path / "apart", bag, "--model", model)
    assert figures["recording"]["registration"] == "none"
    away_from_edges = figures["normals"]["pixels"]
    (tmp_path / "e.yaml").write_text("translation: [0, 0, 0]\nrotation: [0, 0, 0, 1]\n")
    figures = results(
        tmp_path / "given", bag, "--model", model, "--extrinsics", tmp_path / "e.yaml"
    )
    assert figures["recording"]["registration"] == "extrinsics"
    assert figures["depth"]["all"]["rel_err"] < 0.03
    assert figures["normals"]["pixels"] > away_from_edges
    figures = results(tmp_path / "said", bag, "--model", model, "--registered")
    assert figures["recording"]["registration"] == "same camera"


def test_extrinsics_that_are_none_are_refused(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2, depth_frame=DEPTH_FRAME)
    (tmp_path / "e.yaml").write_text("rotation: [0, 0, 0, 1]\n")
    done = bag_evaluate(
        bag, "--model", model, "--extrinsics", tmp_path / "e.yaml", "--out", tmp_path / "out"
    )
    assert done.returncode == 2 and "give translation: [x, y, z]" in done.stderr


def test_the_recording_s_own_transforms_are_found(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2, depth_frame=DEPTH_FRAME)
    types = typestore().types
    kind = "tf2_msgs/msg/TFMessage"
    vector, turn = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]

    def stated(parent: str, child: str, x: float, w: float = 1.0) -> Any:
        time = types["builtin_interfaces/msg/Time"](0, 0)
        return types["geometry_msgs/msg/TransformStamped"](
            types["std_msgs/msg/Header"](time, parent),
            child,
            types["geometry_msgs/msg/Transform"](vector(x, 0.0, 0.0), turn(0.0, 0.0, 0.0, w)),
        )

    # a tree: both cameras hang on the base, one centimetre apart
    tree = [
        stated("base", "camera_color_optical_frame", 0.02),
        stated("base", DEPTH_FRAME, 0.03),
        stated("base", DEPTH_FRAME, 9.0, w=0.0),  # no rotation at all, so it is passed over
    ]
    with Bag(bag) as source, BagWriter(tmp_path / "with_tf") as writer:
        for topic in source.topics:
            writer.add_topic(topic.name, topic.type)
        writer.add_topic("/tf_static", kind)
        message = types[kind](tree)
        writer.write("/tf_static", START, bytes(typestore().serialize_cdr(message, kind)))
        for one in source.messages():
            writer.write(one.topic, one.time, one.cdr)
    figures = results(tmp_path / "out", tmp_path / "with_tf", "--model", model)
    assert figures["recording"]["registration"] == "extrinsics"
    assert figures["depth"]["frames"] == 2
    assert figures["depth"]["all"]["rel_err"] < 0.05


def test_label_images_are_judged(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    kind = "sensor_msgs/msg/Image"
    with Bag(bag) as source, BagWriter(tmp_path / "labelled") as writer:
        for topic in source.topics:
            writer.add_topic(topic.name, topic.type)
        writer.add_topic("/labels", kind)
        for one in source.messages():
            writer.write(one.topic, one.time, one.cdr)
            if "color/image" in one.topic:
                ids = expected(decode_picture(one)[None])["segmentation"][0]
                message = image_message(ids, "mono8", one.stamp)
                data = bytes(typestore().serialize_cdr(message, kind))
                writer.write("/labels", one.time + 1, data)
    figures = results(
        tmp_path / "out", tmp_path / "labelled", "--model", model, "--labels-topic", "/labels"
    )
    # the network sees a smaller picture, so classes differ by a pixel where they meet
    assert figures["segmentation"]["pixel_accuracy"] > 0.95
    assert np.array(figures["segmentation"]["confusion"]).sum() == 3 * picture(0)[..., 0].size


def test_without_camera_info_nothing_is_metric(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2)
    with Bag(bag) as source, BagWriter(tmp_path / "bare") as writer:
        for topic in source.topics:
            if "info" not in topic.name:
                writer.add_topic(topic.name, topic.type)
        for one in source.messages([t.name for t in source.topics if "info" not in t.name]):
            writer.write(one.topic, one.time, one.cdr)
    figures = results(tmp_path / "out", tmp_path / "bare", "--model", model)
    assert not figures["metric"] and figures["consistency"] is None


def test_without_depth_there_is_less_to_tell(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Bag(write_recording(tmp_path / "bag", 1)) as source,
        BagWriter(tmp_path / "bare") as writer,
    ):
        for one in source.messages():
            if "depth" not in one.topic:
                writer.add_topic(one.topic, one.type)
                writer.write(one.topic, one.time, one.cdr)
    arguments = [str(tmp_path / "bare"), "--model", str(model), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        run_command("bag", ["evaluate", *arguments, "--backend", "onnxruntime"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "1 frames, engine p50" in shown
    assert "normals against those of predicted depth" in shown
    # neither measured depth, nor a second frame to compare with
    for text in ("abs", "median scale", "measured", "along the flow", "mIoU"):
        assert text not in shown
    figures = json.loads((tmp_path / "out" / "results.json").read_text())
    assert figures["depth"] is None and figures["normals"] is None


def evaluated(out: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Evaluate in this process; return the figures and the page."""
    app = typer.Typer()
    app.command()(evaluate)
    given = [*arguments, "--backend", "onnxruntime", "--device", "cpu", "--out", out]
    done = CliRunner().invoke(app, [str(one) for one in given])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads((out / "results.json").read_text()), (out / "report.html").read_text()


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
    heads = set(re.search(r'<p class="soft">(input[^<]*)</p><img', page)[1].split(" | "))
    assert heads == {"input", column, "measured depth"}
    assert ("Not compared: the model predicts no depth." in page) == (task != "depth")


def without(bag: Path, part: str, out: Path, after: int = 0) -> Path:
    """Copy a recording without the messages whose topic has this part, from the ``after``-th."""
    with Bag(bag) as source, BagWriter(out) as writer:
        kept = [topic for topic in source.topics if after or part not in topic.name]
        for topic in kept:
            writer.add_topic(topic.name, topic.type)
        seen = 0
        for one in source.messages([topic.name for topic in kept]):
            seen += part in one.topic
            if part not in one.topic or seen <= after:
                writer.write(one.topic, one.time, one.cdr)
    return out


def test_a_recording_without_depth_is_judged_by_itself(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    bare = without(bag, "depth", tmp_path / "bare")
    figures, page = evaluated(tmp_path / "out", bare, "--model", model)
    assert figures["depth"] is None and figures["normals"] is None
    assert figures["recording"]["depth_topic"] is None and figures["metric"]
    assert figures["consistency"]["pixels"] > 0
    assert {"flicker", "jitter"} <= set(figures["stability"])
    assert "Not compared: the recording has no depth topic." in page
    assert '<p class="soft">input | classes over input | depth | normals</p>' in page


def test_depth_that_is_never_near_an_image_is_said_not_to_be_compared(
    model: Path, tmp_path: Path
) -> None:
    bag = write_recording(tmp_path / "bag", frames=3, depth_delay=0.05)
    figures, page = evaluated(tmp_path / "out", bag, "--model", model)
    assert figures["depth"] is None
    assert "Not compared: no frame has depth in common." in page


def test_frames_without_depth_are_judged_by_the_rest(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    some = without(bag, "depth/image", tmp_path / "some", after=2)
    figures, _ = evaluated(tmp_path / "out", some, "--model", model)
    assert figures["frames"] == 3 and figures["depth"]["frames"] == 2
    assert [error is None for error in figures["course"]["abs_err"]] == [False, False, True]
    assert [angle is None for angle in figures["course"]["normals_deg"]] == [False, False, True]
    assert None not in figures["course"]["consistency_deg"]


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("/camera/depth/image_rect_raw", "has no class ids: they are mono8 or 8UC1"),
        ("/odd", "/odd cannot be decoded: .*yuv"),
    ],
)
def test_labels_that_are_none_are_refused(
    topic: str, said: str, model: Path, tmp_path: Path
) -> None:
    kind = "sensor_msgs/msg/Image"
    bag = write_recording(tmp_path / "bag", frames=2)
    with Bag(bag) as source, BagWriter(tmp_path / "more") as writer:
        for one in source.topics:
            writer.add_topic(one.name, one.type)
        writer.add_topic("/odd", kind)
        for message in source.messages():
            writer.write(message.topic, message.time, message.cdr)
            if "color/image" in message.topic:
                odd = image_message(np.zeros((4, 4), np.uint8), "mono8", message.stamp)
                odd.encoding = "yuv_of_nobody"
                data = bytes(typestore().serialize_cdr(odd, kind))
                writer.write("/odd", message.time + 1, data)
    with pytest.raises(BagError, match=said):
        evaluated(tmp_path / "out", tmp_path / "more", "--model", model, "--labels-topic", topic)


def test_extrinsics_without_both_cameras_are_refused(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2, depth_frame=DEPTH_FRAME)
    bare = without(bag, "depth/camera_info", tmp_path / "bare")
    (tmp_path / "lies.yaml").write_text("translation: [0.05, 0, 0]\n")
    with pytest.raises(DataError, match="need the camera_info of the images and of the depth"):
        evaluated(tmp_path / "out", bare, "--model", model, "--extrinsics", tmp_path / "lies.yaml")


def test_a_stretch_without_an_image_is_refused(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2)
    predictor = open_predictor(str(model), "onnxruntime", "cpu")
    with BagRecording(bag) as opened:
        run = BagPass(opened, predictor, None, None, PassOptions(part=(0.4, 0.6)))
        with pytest.raises(BagError, match="bag has no image that can be used"):
            run.figures(tmp_path / "records.jsonl")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_works_in_a_browser_that_is_offline(model: Path, tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=FRAMES)
    figures = results(tmp_path / "out", bag, "--model", model)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "http://" not in page and "https://" not in page
    moved = (
        "<script>const first=picture.src;slider.value=slider.max;"
        "slider.dispatchEvent(new Event('input'));"
        "document.title=[picture.src!==first,time.textContent,frames.length].join(' ');</script>"
    )
    (tmp_path / "moved.html").write_text(page.replace("</body>", moved + "</body>"))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"file://{tmp_path}/moved.html",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "CONSOLE" not in done.stderr, done.stderr
    last = figures["course"]["seconds"][-1]
    assert f"<title>true {last:.2f} s {FRAMES}</title>" in done.stdout
    shot = tmp_path / "shot.png"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1200,1600",
        f"--screenshot={shot}", f"file://{tmp_path}/out/report.html",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=100, check=True)
    seen = cv2.imread(str(shot))
    assert seen.shape[:2] == (1600, 1200)
    # the strip of the first frame: pictures, not an empty card
    assert seen[200:500].std() > 20


def test_best_and_worst_frames_are_those_of_the_figures() -> None:
    errors = [0.3, None, 0.1, 0.9, 0.2, 0.5, 0.8, 0.4]
    course = {"abs_err": errors, "confidence": [0.5] * 8}
    slider, best, worst = frames_to_show({"frames": 8, "course": course})
    assert slider == list(range(8))
    assert (best, worst) == ([2, 4, 0], [3, 6, 5])
    course = {"abs_err": [None] * 4, "confidence": [0.9, 0.1, 0.5, 0.4]}
    _, best, worst = frames_to_show({"frames": 4, "course": course})
    assert (best, worst) == ([0, 2], [1, 3])
    slider, *_ = frames_to_show({"frames": 1000, "course": {"abs_err": [], "confidence": []}})
    assert slider[0] == 0 and slider[-1] == 999 and len(slider) <= 40
