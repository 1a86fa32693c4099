# SPDX-License-Identifier: Apache-2.0
"""The figures of a replay add up, depth errors are what they should be, the page stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from proto_mtl_ros.data.bags.recording import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.evaluation.depth_error import (
    DepthComparison,
    nearest_pairs,
)
from proto_mtl_ros.evaluation.replay_figures import (
    depth_figures,
    end_to_end,
    frame_account,
    rate,
    replay_figures,
)
from proto_mtl_ros.evaluation.replay_pictures import (
    complete_stamps,
    far_limit,
    replay_rows,
    spread,
)
from proto_mtl_ros.evaluation.report import (
    ReportFrames,
    write_report,
)
from proto_mtl_ros.evaluation.report_depth import depth_section
from recordings import DEPTH_FRAME, image_message, picture, write_recording

CAMERA = "camera"
MS = 1_000_000
STATUS = {
    "proto_mtl: engine": {"backend": "onnxruntime", "device": "cpu"},
    "proto_mtl: camera": {
        "received": "9",
        "processed": "5",
        "drops.overwritten": "3",
        "bad.bad_jpeg": "1",
        "skipped.disabled": "0",
        "info.camera_info_size": "4",
        "latency_ms.infer.p50": "12.5",
        "latency_ms.infer.p95": "20.0",
    },
}
LIVE = {
    "sent": 10,
    "compared": 5,
    "equal": 4,
    "maps": {"depth/image": {"frames": 5, "equal": 4, "largest": 0.25}},
    "different_at_s": [0.3],
    "confidence_by_s": [[0.0, 0.5], [0.1, 0.7]],
    "without_result": {"overwritten": 2, "bad_jpeg": 1},
    "without_result_at_s": [[0.5, "overwritten"], [0.6, "overwritten"], [0.7, "bad_jpeg"]],
}
CLASSES = ("wall", "<floor>")
PALETTE = np.array([[200, 30, 30], [30, 200, 30]], np.uint8)


@dataclass(frozen=True)
class Item:
    stamp: int


def write_results(path: Path, stamps: list[int], scale: float = 1.0) -> Path:
    """Write results as the node would publish them for ``write_recording``'s pictures."""
    names = ("segmentation/image", "depth/image", "normals/color")
    with BagWriter(path) as writer:
        for name in names:
            writer.add_topic(f"/{CAMERA}/{name}", "sensor_msgs/msg/Image")
        for index, stamp in enumerate(stamps):
            blue = picture(index)[..., 2]
            maps = (
                ((blue > 100).astype(np.uint8), "mono8"),
                ((blue / 25.5 * scale).astype(np.float32), "32FC1"),
                (np.full((*blue.shape, 3), (128, 128, 255), np.uint8), "rgb8"),
            )
            for name, (pixels, encoding) in zip(names, maps):
                writer.write(f"/{CAMERA}/{name}", stamp, image_message(pixels, encoding, stamp))
    return path


def test_every_image_is_accounted_for() -> None:
    account = frame_account(10, STATUS["proto_mtl: camera"])
    assert account["processed"] == 5
    assert account["drops"] == {"overwritten": 3}
    assert account["bad"] == {"bad_jpeg": 1}
    assert account["skipped"] == {}
    assert account["lost_in_transport"] == 1
    assert account["unaccounted"] == 0


def test_camera_info_that_was_not_used_is_no_image() -> None:
    status = {
        **STATUS["proto_mtl: camera"],
        "info.camera_info_size": "7",
        "info.bad_camera_info": "0",
    }
    account = frame_account(10, status)
    assert account["info"] == {"camera_info_size": 7}
    assert account["unaccounted"] == 0


def test_an_image_that_nobody_counted_shows() -> None:
    status = {**STATUS["proto_mtl: camera"], "processed": "4"}
    assert frame_account(10, status)["unaccounted"] == 1


def test_latency_is_from_sending_to_the_last_result() -> None:
    sent, received = StampLog(), StampLog()
    for number in range(10):
        sent.add("/image", number, number * 100 * MS)
        received.add("/a", number, (number * 100 + 20) * MS)
        received.add("/b", number, (number * 100 + 30) * MS)
    received.add("/a", 77, 5 * MS)
    received.add("/b", 3, 400 * MS)
    figures = end_to_end(sent, received, ["/a", "/b"])
    assert figures["count"] == 10
    assert figures["p50"] == pytest.approx(30)
    assert figures["max"] == pytest.approx(100)
    assert figures["results_with_unknown_stamp"] == 1
    assert figures["results_with_doubled_stamp"] == 1
    assert sum(figures["histogram"]["counts"]) == 10


def test_rate_is_of_the_intervals() -> None:
    assert rate([0, 100 * MS, 200 * MS]) == pytest.approx(10)
    assert rate([5]) == rate([]) == 0


def test_each_image_is_paired_with_the_nearest_in_time() -> None:
    first = [Item(s) for s in (0, 33, 66, 100, 500)]
    second = [Item(s) for s in (4, 30, 39, 70, 200)]
    pairs = [(a.stamp, b.stamp) for a, b in nearest_pairs(first, second, tolerance=20)]
    assert pairs == [(0, 4), (33, 30), (66, 70)]
    assert list(nearest_pairs(first, [], tolerance=20)) == []


def test_depth_error_of_a_known_difference() -> None:
    measured = np.full((60, 80), 2.0, np.float32)
    measured[:10] = np.nan
    comparison = DepthComparison()
    comparison.add(0, np.full((60, 80), 3.0, np.float32), measured)
    figures = comparison.figures()
    assert figures["all"]["abs_err"] == pytest.approx(1)
    assert figures["all"]["rel_err"] == pytest.approx(0.5)
    assert figures["all"]["delta1"] == 0
    assert figures["all_aligned"]["abs_err"] == pytest.approx(0, abs=1e-6)
    assert figures["median_scale"] == pytest.approx(2 / 3)
    assert figures["compared_pixels"]["all"] == 50 * 80


def test_a_shift_between_the_cameras_hardly_touches_the_tolerant_comparison() -> None:
    scene = np.full((240, 320), 4.0, np.float32)
    scene[:, 100:180] = 1.5  # a near object with two edges
    comparison = DepthComparison()
    comparison.add(0, np.roll(scene, 10, axis=1), scene)
    figures = comparison.figures()
    assert figures["all"]["abs_err"] > 0.1
    assert figures["tolerant"]["abs_err"] == 0
    assert 0.5 < figures["compared_pixels"]["tolerant"] / figures["compared_pixels"]["all"] < 1


def test_depth_of_another_size_is_not_shifted() -> None:
    measured = np.tile(np.arange(1, 7, dtype=np.float32), (3, 1))
    comparison = DepthComparison()
    # The pixels whose centres are nearest: as far from the left border as from the right.
    comparison.add(0, np.tile(np.array([1, 3, 4, 6], np.float32), (2, 1)), measured)
    assert comparison.figures()["all"]["abs_err"] == 0


def test_a_frame_without_measured_depth_changes_nothing() -> None:
    comparison = DepthComparison()
    comparison.add(0, np.ones((4, 4), np.float32), np.full((4, 4), np.nan, np.float32))
    figures = comparison.figures()
    assert figures["all"]["abs_err"] is None
    json.dumps(figures, allow_nan=False)


def test_depth_of_a_recording_is_compared(tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=4, depth_frame=DEPTH_FRAME)
    with open_recording(bag) as recording:
        stamps = [m.stamp for m in recording.messages() if "image" in m.topic]
        results = write_results(tmp_path / "results", stamps, scale=1.25)
        figures = depth_figures(recording, results, f"/{CAMERA}/depth/image")
        late = depth_figures(recording, results, f"/{CAMERA}/depth/image", tolerance=MS)
    assert figures["frames"] == 4
    assert figures["registered"] is False
    assert figures["median_gap_ms"] == pytest.approx(4)
    assert figures["all"]["rel_err"] == pytest.approx(0.25, abs=0.01)
    assert figures["all_aligned"]["rel_err"] == pytest.approx(0, abs=0.01)
    assert late == {"available": False, "reason": "no depth image within 1 ms of a predicted one"}


def test_measured_depth_without_a_valid_pixel_is_said(tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=2, depth_scale=0)
    with open_recording(bag) as recording:
        stamps = [m.stamp for m in recording.messages() if "image" in m.topic]
        results = write_results(tmp_path / "results", stamps)
        figures = depth_figures(recording, results, f"/{CAMERA}/depth/image")
    assert figures["available"] is False
    assert f"Not compared: {figures['reason']}" in depth_section(figures)
    assert "no pixel" in figures["reason"]


@pytest.mark.parametrize("depth_frame", ["camera_color_optical_frame", DEPTH_FRAME])
def test_the_page_stands_alone_and_says_what_happened(tmp_path: Path, depth_frame: str) -> None:
    bag = write_recording(tmp_path / "bag", frames=10, depth_frame=depth_frame)
    sent, received = StampLog(), StampLog()
    with open_recording(bag) as recording:
        stamps = [m.stamp for m in recording.messages() if "image" in m.topic]
        results = write_results(tmp_path / "results", stamps[:5])
        for number, stamp in enumerate(stamps):
            sent.add("/image", stamp, number * 100 * MS)
        for number, stamp in enumerate(stamps[:5]):
            received.add(f"/{CAMERA}/depth/image", stamp, (number * 100 + 40) * MS)
        figures = replay_figures(recording, sent, received, STATUS, results, CAMERA)
        assert complete_stamps(results, CAMERA) == stamps[:5]
        chosen = spread(stamps[:5], 3)
        rows = list(replay_rows(recording, results, CAMERA, stamps[0], chosen).values())
    figures["title"] = "tiny on <bag>"
    figures["recording"] = {
        "path": "bag",
        "kind": "bag",
        "images": 10,
        "duration_s": 0.9,
        "image_topic": "/image",
    }
    figures["made_with"] = {"model": "tiny"}
    figures["live_and_offline"] = LIVE
    json.dumps(figures, allow_nan=False)
    assert [row.caption for row in rows] == ["0.00 s", "0.20 s", "0.40 s"]
    page = tmp_path / "report.html"
    frames = ReportFrames(rows, rows[:2], rows[:1], rows[2:], far_limit(rows))
    write_report(page, figures, frames, CLASSES, PALETTE)
    html = page.read_text(encoding="utf-8")
    assert {link[:5] for link in re.findall(r"""(?:src|href)\s*=\s*["']?(.+?)[ "']""", html)} == {
        "data:"
    }
    assert "url(" not in html and "@import" not in html and not re.search("<script[^>]+src", html)
    assert html.count("data:image/jpeg;base64,") == 3 * 5 + 1 + 2  # the slider's script, extremes
    assert "tiny on &lt;bag&gt;" in html and "&lt;floor&gt;" in html
    assert "10.0 Hz" in html
    assert "5 of 10" in html
    assert "lost in transport" in html
    assert "4 of 5 live results equal" in html and "is of 0.30 s" in html
    assert "0.50, 0.60" in html and "bad jpeg" in html
    assert "camera_info_size 4" in html and "not accounted for" not in html
    assert ("is not in the frame of the images" in html) is (depth_frame == DEPTH_FRAME)
    assert ("is registered to colour" in html) is (depth_frame != DEPTH_FRAME)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "report.html", "results"]


def test_a_replay_without_results_still_gives_a_page(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with BagWriter(results) as writer:
        writer.add_topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    with open_recording(write_recording(tmp_path / "bag", frames=2)) as recording:
        sent = StampLog({"/image": [1, 2]}, {"/image": [MS, 2 * MS]})
        figures = replay_figures(recording, sent, StampLog(), {}, results, CAMERA)
        assert complete_stamps(results, CAMERA) == []
    figures |= {"title": "t", "made_with": {}, "live_and_offline": None}
    figures["recording"] = {
        "path": "b",
        "kind": "video",
        "images": 2,
        "duration_s": 0.1,
        "image_topic": "/image",
    }
    write_report(tmp_path / "report.html", figures, ReportFrames(), (), np.zeros((0, 3), np.uint8))
    html = (tmp_path / "report.html").read_text()
    assert "No result was recorded" in html
    assert "0 of 2" in html


def test_the_far_end_of_the_depth_colours_is_round() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    depth = np.full((8, 8), 5.3, np.float32)
    assert far_limit([SheetRow("", rgb, depth=depth)]) == 6
    assert far_limit([SheetRow("", rgb)]) == 2
