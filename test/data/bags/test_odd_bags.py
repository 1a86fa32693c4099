# SPDX-License-Identifier: Apache-2.0
"""Recordings as robots make them: `bag evaluate` gives the right figures, or one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.camera_file import camera_json
from proto_mtl_ros.geometry import Camera
from recordings import (
    FX,
    START,
    image_message,
    info_message,
    jpeg_message,
    picture,
    write_messages,
)

FRAMES = 8
STEP = 100_000_000
IMAGE, INFO = "/camera/color/image_raw/compressed", "/camera/color/camera_info"
DEPTH = "/camera/depth/image_rect_raw"


def truth(rgb: np.ndarray) -> np.ndarray:
    """Return the depth that the tiny model predicts, in metres."""
    return rgb[..., 2].astype(np.float32) / np.float32(25.5)


def in_metres(rgb: np.ndarray, stamp: int) -> Any:
    return image_message(truth(rgb), "32FC1", stamp)


def in_metres_with_holes(rgb: np.ndarray, stamp: int) -> Any:
    """Depth as REP-117 has it: NaN unknown, inf too far or too near."""
    depth = truth(rgb)
    depth[:30] = np.nan
    depth[30:50] = np.inf
    depth[50:60] = -np.inf
    return image_message(depth, "32FC1", stamp)


def write(
    path: Path,
    stamps: Sequence[int] = tuple(START + number * STEP for number in range(FRAMES)),
    depth: Callable[[np.ndarray, int], Any] = in_metres,
    info: dict[str, Any] | None = {},  # noqa: B006 (fields of camera_info to replace)
    sizes: Callable[[int], tuple[int, int]] = lambda number: (160, 120),
    damaged: str = "",
    depth_topic: str = DEPTH,
) -> Path:
    """Write a recording; a message is received STEP after the one before, whatever its stamp.

    The third message of the topic ``damaged`` is half of one.
    """
    messages = []
    for number, stamp in enumerate(stamps):
        time = START + number * STEP
        rgb = picture(number, *sizes(number))
        both = {IMAGE: jpeg_message(rgb, stamp), depth_topic: depth(rgb, stamp)}
        if number == 2 and damaged:
            both[damaged].data = both[damaged].data[: len(both[damaged].data) // 2]
        messages += [(topic, time, message) for topic, message in both.items()]
        if info is not None:
            messages += [(INFO, time, replace(info_message(160, 120, FX, stamp), **info))]
    return write_messages(path, messages)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


def evaluated(
    bag: Path, model: Path, *arguments: object, out: Path | None = None
) -> dict[str, Any]:
    out = out or bag.parent / "out"
    options = ["--model", model, "--out", out, "--backend", "onnxruntime", *arguments]
    with pytest.raises(SystemExit) as end:
        run_command("bag", ["evaluate", str(bag), *map(str, options)])
    assert end.value.code == 0
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def assert_exact(figures: dict[str, Any], frames: int = FRAMES) -> None:
    """Every frame was compared with its own depth; JPEG and two resizes lie between."""
    assert figures["frames"] == figures["depth"]["frames"] == frames
    assert figures["depth"]["all"]["rel_err"] < 0.03
    assert figures["depth"]["median_scale"] == pytest.approx(1, abs=0.02)


def test_stamps_out_of_order(model: Path, tmp_path: Path) -> None:
    stamps = [START + number * STEP for number in (1, 0, 3, 2, 7, 6, 5, 4)]
    figures = evaluated(write(tmp_path / "bag", stamps), model)
    assert_exact(figures)
    assert len(set(figures["time_series"]["seconds"])) == FRAMES


def test_two_cameras(model: Path, tmp_path: Path) -> None:
    topics = {f"/{name}/image_raw": name for name in ("front", "rear")}
    messages = []
    for number in range(FRAMES):
        stamp = START + number * STEP
        for topic, name in topics.items():
            front = name == "front"
            rgb = picture(number) if front else np.ascontiguousarray(picture(number)[::-1])
            depth = truth(rgb) * (1 if front else 2)  # twice the focal length
            info = info_message(160, 120, FX if front else 2 * FX, stamp)
            messages += [
                (topic, stamp, image_message(rgb, "rgb8", stamp)),
                (f"/{name}/camera_info", stamp, info),
                (f"/{name}/depth/image_raw", stamp,
                 image_message(depth.astype(np.float32), "32FC1", stamp)),
            ]  # fmt: skip
    write_messages(tmp_path / "bag", messages)
    for topic, name in topics.items():
        figures = evaluated(tmp_path / "bag", model, "--image-topic", topic, out=tmp_path / name)
        assert_exact(figures)
        assert figures["recording"]["depth_topic"] == f"/{name}/depth/image_raw"


def test_the_resolution_changes(model: Path, tmp_path: Path) -> None:
    def sizes(number: int) -> tuple[int, int]:
        return (160, 120) if number < FRAMES // 2 else (80, 60)

    # camera_info goes on with the former size, of the same shape: it is scaled along
    assert_exact(evaluated(write(tmp_path / "bag", sizes=sizes), model))


@pytest.mark.parametrize("stamp", [0, START + 5])
def test_stamps_that_are_all_the_same(stamp: int, model: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [stamp] * FRAMES)
    figures = evaluated(bag, model)
    assert_exact(figures)
    assert "have one stamp: times of recording are used" in figures["recording"]["notes"][0]
    ids = [int(frame_id) for frame_id in BagFrames(bag).frame_ids]
    with BagRecording(bag) as recording:
        played = [message.stamp for message in recording.messages() if message.topic == IMAGE]
    assert ids == played == [START + number * STEP for number in range(FRAMES)]


@pytest.mark.parametrize("damaged", [IMAGE, DEPTH])
def test_one_broken_image_costs_itself(damaged: str, model: Path, tmp_path: Path) -> None:
    figures = evaluated(write(tmp_path / "bag", damaged=damaged), model)
    assert figures["frames"] == (FRAMES - 1 if damaged == IMAGE else FRAMES)
    assert figures["depth"]["frames"] == FRAMES - 1
    assert figures["recording"]["damaged_images"] == FRAMES - figures["frames"]
    assert f"1 messages of {damaged} cannot be decoded" in figures["recording"]["notes"][-1]


def png_of_millimetres(rgb: np.ndarray, stamp: int) -> Any:
    data = cv2.imencode(".png", np.round(1000 * truth(rgb)).astype(np.uint16))[1].reshape(-1)
    return replace(jpeg_message(rgb, stamp), format="png", data=data)


def saturated(rgb: np.ndarray, stamp: int) -> Any:
    depth = np.round(1000 * truth(rgb)).astype(np.uint16)
    depth[:20] = 65535
    return image_message(depth, "16UC1", stamp)


@pytest.mark.parametrize("depth", [png_of_millimetres, saturated])
def test_depth_as_drivers_and_bridges_write_it(
    depth: Callable[[np.ndarray, int], Any], model: Path, tmp_path: Path
) -> None:
    bag = write(tmp_path / "bag", depth=depth, depth_topic="/camera/depth/image/compressed")
    assert_exact(evaluated(bag, model))


@pytest.mark.parametrize(
    ("info", "fx", "said"),
    [
        ({"distortion_model": "magic", "d": np.ones(5)}, FX, "as a pinhole, distortion model"),
        ({"d": np.full(5, np.nan)}, FX, "as a pinhole, D has values that are not finite"),
        ({"width": 0, "height": 0}, FX, "at 160x120"),
        ({"height": 90}, None, "is for 160x90, images are 160x120: it is not used"),
        ({"k": np.full(9, np.nan)}, None, "cannot be used (K has values"),
    ],
)
def test_no_camera_info_refuses_a_recording(
    info: dict[str, Any], fx: float | None, said: str, model: Path, tmp_path: Path
) -> None:
    figures = evaluated(write(tmp_path / "bag", info=info), model)
    assert figures["frames"] == FRAMES and figures["metric"] == (fx is not None)
    assert said in figures["recording"]["notes"][0]


def test_a_camera_is_given_or_left_out(model: Path, tmp_path: Path) -> None:
    bag, file = write(tmp_path / "bag", info=None), tmp_path / "camera.json"
    file.write_text(
        camera_json(Camera(np.array([[FX, 0, 79.5], [0, FX, 59.5], [0, 0, 1]]), 160, 120))
    )
    assert_exact(evaluated(bag, model, "--camera", file))
    calibration = tmp_path / "camera.yaml"
    calibration.write_text(
        "image_width: 160\nimage_height: 120\ndistortion_model: plumb_bob\n"
        f"camera_matrix: {{rows: 3, cols: 3, data: [{FX}, 0, 79.5, 0, {FX}, 59.5, 0, 0, 1]}}\n"
        "distortion_coefficients: {data: [0, 0, 0, 0, 0]}\nprojection_matrix: {data: []}\n"
    )
    assert_exact(evaluated(bag, model, "--camera", calibration, out=tmp_path / "yaml"))
    bag = write(tmp_path / "calibrated")
    assert not evaluated(bag, model, "--no-camera", out=tmp_path / "none")["metric"]


@pytest.mark.parametrize(
    ("index", "topic", "compared"),
    [(1, "/labels", True), (200, "/labels", False), (1, "/label_confidence", False)],
)
def test_labels_beside_the_images_are_compared_with(
    index: int, topic: str, compared: bool, model: Path, tmp_path: Path
) -> None:
    def labels(rgb: np.ndarray, stamp: int) -> Any:
        return image_message(np.full(rgb.shape[:2], index, np.uint8), "mono8", stamp)

    figures = evaluated(write(tmp_path / "bag", depth=labels, depth_topic=topic), model)
    assert (figures["segmentation"] is not None) == compared


def test_no_camera_info(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    figures = evaluated(write(tmp_path / "bag", info=None), model)
    assert figures["frames"] == FRAMES and not figures["metric"]
    assert figures["consistency"] is None
    assert "its scale means nothing" in (tmp_path / "out" / "report.html").read_text()
    assert "depth has no metric scale" in capfd.readouterr().out


def test_depth_with_holes_counts_where_it_is_known(model: Path, tmp_path: Path) -> None:
    figures = evaluated(write(tmp_path / "bag", depth=in_metres_with_holes), model)
    assert_exact(figures)
    whole = evaluated(write(tmp_path / "whole" / "bag"), model)
    assert figures["depth"]["measured_pixels"] == whole["depth"]["measured_pixels"] // 2
