# SPDX-License-Identifier: Apache-2.0
"""The figures of a replay add up, the frames shown are the right ones, the page stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.drawing.contact_sheet import SheetRow, far_limit
from proto_mtl_ros.evaluation.charts import histogram, time_series
from proto_mtl_ros.evaluation.depth_error import DepthComparison, depth_error
from proto_mtl_ros.evaluation.frame_album import EXTREMES, THROUGH, FrameAlbum
from proto_mtl_ros.evaluation.replay_report import (
    end_to_end,
    frame_account,
    rate,
    replay_figures,
    write_replay_report,
)
from recordings import picture

MS = 1_000_000
TOPICS = ("/camera/segmentation/image", "/camera/depth/image")
STATUS = {
    "proto_mtl: engine": {"backend": "onnxruntime", "device": "cpu"},
    "proto_mtl: camera": {
        "received": "9",
        "processed": "5",
        "drops.overwritten": "3",
        "bad.bad_jpeg": "1",
        "skipped.disabled": "0",
        "info.camera_info_size": "4",
        "info.bad_camera_info": "0",
        "latency_ms.infer.p50": "12.5",
        "latency_ms.infer.p95": "20.0",
    },
}
LIVE = {
    "sent": 10,
    "compared": 5,
    "equal": 4,
    "maps": {
        "segmentation/image": {"unit": "", "frames": 5, "equal": 5, "largest": 0.0},
        "depth/image": {"unit": "m", "frames": 5, "equal": 4, "largest": 0.25},
        "normals/color": {"unit": "", "frames": 5, "equal": 4, "largest": None},
    },
    "different_at_s": [0.3],
    "without_result": {"overwritten": 2, "bad_jpeg": 1},
    "without_result_at_s": [[0.5, "overwritten"], [0.6, "overwritten"], [0.7, "bad_jpeg"]],
}
CLASSES = ("wall", "<floor>")
PALETTE = np.array([[200, 30, 30], [30, 200, 30]], np.uint8)


def test_every_image_is_accounted_for() -> None:
    status = STATUS["proto_mtl: camera"]
    account = frame_account(10, status)
    assert account == {
        "published": 10, "received": 9, "processed": 5, "lost_in_transport": 1, "unaccounted": 0,
        "drops": {"overwritten": 3}, "bad": {"bad_jpeg": 1}, "skipped": {},
        "info": {"camera_info_size": 4},  # which cost no image
    }  # fmt: skip
    assert frame_account(10, {**status, "processed": "4"})["unaccounted"] == 1


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
    assert rate([0, 100 * MS, 200 * MS]) == pytest.approx(10)
    assert rate([5]) == rate([]) == 0


def row(place: int) -> SheetRow:
    ids = np.zeros((120, 160), np.uint8)
    ids[:40] = 1
    depth = (picture(place)[..., 2] / 25.5).astype(np.float32)
    normals = np.zeros((120, 160, 3), np.float32)
    normals[..., 2] = -1
    return SheetRow(f"{place}.00 s", picture(place), ids, depth, normals, depth)


def captions(rows: list[SheetRow]) -> list[int]:
    return [int(one.caption.partition(".")[0]) for one in rows]


def test_best_and_worst_frames_are_those_of_the_figures() -> None:
    album = FrameAlbum(8)
    errors = [0.3, None, 0.1, 0.9, 0.2, 0.5, 0.8, 0.4]
    for place, error in enumerate(errors):
        album.add(place, error, lambda place=place: row(place))
    chosen = {name: captions(rows) for name, rows in album.chosen().items()}
    assert chosen == {"through": list(range(8)), "best": [2, 4, 0], "worst": [3, 6, 5]}


@pytest.mark.parametrize("before", [0, 150, 400])
def test_a_few_of_many_frames_are_kept_and_none_is_lost_by_going_on(before: int) -> None:
    """Whatever was taken before a pass was stopped, the same frames are shown."""
    errors = np.random.default_rng(0).permutation(400)
    asked: set[int] = set()

    def again(place: int) -> SheetRow:
        asked.add(place)
        return row(place)

    album = FrameAlbum(400)
    for place, error in enumerate(errors):
        known = place < before
        album.add(place, float(error), None if known else lambda place=place: row(place))
    chosen = {name: captions(rows) for name, rows in album.chosen(again).items()}
    ranked = np.argsort(errors).tolist()
    for name, places in (("best", ranked), ("worst", ranked[::-1])):
        shown = chosen[name]
        assert shown[0] == places[0] and len(shown) == EXTREMES
        # neighbours show the same: those between are near one that is shown
        assert min(abs(a - b) for a in shown for b in shown if a != b) > 40
        for place in places[: places.index(shown[-1])]:
            assert min(abs(place - one) for one in shown) <= 40
    assert len(chosen["through"]) == THROUGH and sorted(chosen["through"]) == chosen["through"]
    assert asked >= {p for places in chosen.values() for p in places if p < before}


def test_a_chart_has_round_ticks_and_ends_at_one() -> None:
    chart = time_series([(0.0, 0.12), (2.5, None), (4.9, 0.884)], "m")
    assert chart is not None
    assert [text for _, text in chart.x_ticks] == ["0", "1", "2", "3", "4"]
    assert [text for _, text in chart.y_ticks] == ["0.0", "0.5", "1.0"]
    assert time_series([(0.0, 1.0), (1.0, None)], "m") is None
    bars = histogram([3, 0, 41], [10.0, 20.0, 30.0, 40.0], "images", "ms")
    assert bars is not None and len(bars.bars) == 3
    assert [text for _, text in bars.y_ticks] == ["0", "20", "40", "60"]
    assert [text for _, text in bars.x_ticks] == ["10", "15", "20", "25", "30", "35", "40"]
    assert histogram([], [], "images", "ms") is None


def test_the_far_end_of_the_depth_colours_is_round() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    depth = np.full((8, 8), 5.3, np.float32)
    assert far_limit([SheetRow("", rgb, depth=depth)]) == 6
    assert far_limit([SheetRow("", rgb)]) == 2


def replayed(
    kind: str, depth: dict[str, Any] | None = None, registration: str = ""
) -> dict[str, Any]:
    """Return the figures of a replay of ten images, of which five have results."""
    sent, received = StampLog(), StampLog()
    for number in range(10):
        sent.add("/image", number * 100 * MS, number * 100 * MS)
    for number in range(5):
        received.add(TOPICS[1], number * 100 * MS, (number * 100 + 40) * MS)
    return {
        "title": "tiny on <bag>",
        "recording": {
            "path": "bag", "kind": kind, "images": 10, "duration_s": 0.9, "image_topic": "/<image>",
            "depth_topic": "/depth" if registration else None,
        },
        "made_with": {"model": "tiny"},
        "live_and_offline": LIVE,
        "confidence_by_s": [[0.0, 0.5], [0.1, 0.7]],
        "depth": depth,
        "registration": registration,
        "notes": ["depth of /<infrared>"],
        **replay_figures(sent, received, STATUS, TOPICS),
    }  # fmt: skip


@pytest.mark.parametrize("registered", [False, True])
def test_the_page_stands_alone_and_says_what_happened(tmp_path: Path, registered: bool) -> None:
    comparison = DepthComparison()
    for place in range(5):
        measured = row(place).depth
        comparison.add(place * 100 * MS, depth_error(1.25 * measured, measured))
    figures = replayed("bag", comparison.figures(), "same camera" if registered else "none")
    json.dumps(figures, allow_nan=False)
    rows = [row(place) for place in range(3)]
    frames = {"moments": rows, "through": rows[:2], "best": rows[:1], "worst": rows[2:]}
    page = tmp_path / "report.html"
    write_replay_report(page, figures, frames, CLASSES, PALETTE)
    html = page.read_text(encoding="utf-8")
    assert {link[:5] for link in re.findall(r"""(?:src|href)\s*=\s*["']?(.+?)[ "']""", html)} <= {
        "data:",
        "frame",  # set by the slider's script, from what is in the page
    }
    assert "url(" not in html and "@import" not in html and not re.search("<script[^>]+src", html)
    assert html.count("data:image/jpeg;base64,") == 5 * (3 + 2 + 1 + 1)
    assert "tiny on &lt;bag&gt;" in html and "&lt;floor&gt;" in html and "/&lt;image&gt;" in html
    assert not re.search("<(bag|floor|image|infrared)>", html)
    assert "10.0 Hz" in html and "5 of 10" in html and "lost in transport" in html
    assert "4 of 5 live results equal" in html and "is of 0.30 s" in html
    assert "on segmentation/image, depth/image, normals/color" in html
    assert "0.25 m" in html and "another size" in html
    assert "0.50, 0.60" in html and "bad jpeg" in html
    assert "camera_info_size 4" in html and "not accounted for" not in html
    assert ("Measured depth is of another camera" in html) is not registered
    assert ("pixels of the measured depth are those of the image" in html) is registered
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_replay_without_results_still_gives_a_page(tmp_path: Path) -> None:
    figures = replayed("video")
    figures |= replay_figures(StampLog({"/image": [1]}, {"/image": [MS]}), StampLog(), {}, TOPICS)
    figures |= {"live_and_offline": None, "confidence_by_s": []}
    nothing = {"moments": [], "through": [], "best": [], "worst": []}
    write_replay_report(tmp_path / "report.html", figures, nothing, (), np.zeros((0, 3), np.uint8))
    html = (tmp_path / "report.html").read_text()
    assert "No result was recorded" in html
    assert "0 of 1" in html and "Not compared: the recording has no depth topic." in html


def test_class_names_cannot_end_the_script_of_the_slider(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    one = SheetRow(evil, picture(0), np.zeros((120, 160), np.uint8))
    figures = replayed("images") | {"title": evil}
    frames = {"moments": [one], "through": [one], "best": [], "worst": []}
    write_replay_report(tmp_path / "report.html", figures, frames, (evil, evil), PALETTE)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()
