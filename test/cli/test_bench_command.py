# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bench` on a real node and real engines: JSON that says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle


@pytest.mark.slow
@pytest.mark.ros
def test_engines_and_node_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    model = write_tiny_bundle(tmp_path, tasks=("segmentation", "depth"))
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bench", "--model", str(model)]
    done = subprocess.run(
        [*command, "--seconds", "0.5", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "tiny"
    assert found["node"]["results"] == ["segmentation/image", "depth/image"]
    assert 0 < found["node"]["ms_p50"] <= found["node"]["ms_p95"]
    engines = {(row["backend"], row["precision"]): row for row in found["engines"]}
    assert engines["onnxruntime", "fp32"]["ms_p50"] > 0
    assert "error" in engines["torch", "fp32"]  # the tiny model has no weights
