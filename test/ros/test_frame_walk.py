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
"""Packages of functions on arrays, which know nothing of nodes and engines."""


def walked(model: Path, *topics: str) -> dict[str, Any]:
    command = [sys.executable, str(PROGRAM), str(model), *topics]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_a_frame_enters_no_file_twice(tmp_path: Path) -> None:
    report = walked(write_tiny_bundle(tmp_path), "segmentation/image")
    assert report["complete"]
    files = report["walk"]
    again = {file: n for file, n in Counter(files).items() if n > 1}
    assert not again and len(files) <= 12, files
