# SPDX-License-Identifier: Apache-2.0
"""One image goes through the node's code in one direction, and that code is not much."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")

from tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.ros

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "frame_walk.py"
ARITHMETIC = ("geometry/", "encodings/", "drawing/")
"""Packages of functions on arrays. They know nothing of nodes, engines and tasks, and call nobody
back; the files of all others are stations of a frame."""


MOST_LINES = 8_500
"""Of the package, in a node that has given all its results."""


def walked(model: Path, *topics: str) -> dict[str, Any]:
    command = [sys.executable, str(PROGRAM), str(model), *topics]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_a_frame_enters_no_file_twice(tmp_path: Path) -> None:
    report = walked(write_tiny_bundle(tmp_path), "segmentation/image")
    assert report["complete"]
    stations = [file for file in report["walk"] if not file.startswith(ARITHMETIC)]
    assert len(set(stations)) == len(stations) <= 12, stations
    helpers = Counter(file for file in report["walk"] if file.startswith(ARITHMETIC))
    again = {file for file, times in helpers.items() if times > 1}
    assert again <= {"geometry/letterbox.py"} and len(helpers) <= 3  # padding on, and off again


def test_with_all_outputs_no_file_of_the_node_or_the_engine_is_entered_twice(
    tmp_path: Path,
) -> None:
    report = walked(write_tiny_bundle(tmp_path))
    assert report["complete"]
    files = [file for file in report["walk"] if file.startswith(("ros/", "runtime/"))]
    assert len(set(files)) == len(files) <= 12, files
    loaded = report["loaded"]
    assert "torch" not in report["libraries"]
    assert sum(loaded.values()) <= MOST_LINES, sorted(loaded.items())
