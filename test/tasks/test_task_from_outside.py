# SPDX-License-Identifier: Apache-2.0
"""A task that another package brings in one file is trained, exported, and published."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning", reason="training needs lightning")
pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from nyuv2_pack import write_pack
from robot import Robot, image, one_result, picture, pixels
from ros_harness import Client, NodeProcess
from small_training import config_file

PLUGIN = Path(__file__).resolve().parents[1] / "support" / "edges_plugin.py"
PREDICT = """
import sys, numpy as np, proto_mtl_ros
prediction = proto_mtl_ros.load(sys.argv[1], "onnxruntime", "cpu")(np.load(sys.argv[2]))
assert list(prediction) == ["depth", "depth_confidence", "edges"]
np.save(sys.argv[3], prediction["edges"])
"""

pytestmark = [pytest.mark.slow, pytest.mark.ros, pytest.mark.timeout(600)]


def run(*words: object) -> None:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_edges_go_all_the_way_from_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    info = installed / "edges-1.0.dist-info"
    info.mkdir(parents=True)
    (installed / PLUGIN.name).write_text(PLUGIN.read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[proto_mtl_ros.plugins]\nedges = edges_plugin\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), *sys.path]))

    pack = write_pack(tmp_path / "pack")
    data = {"kind": "nyuv2-edges", "manifest": None}
    config = config_file(tmp_path, tasks=["depth", "edges"], epochs=3, data=data)
    command = ("-m", "proto_mtl_ros.cli")
    run(*command, "train", "--config", config, "--data", pack, "--out", tmp_path / "run")
    bundle = tmp_path / "smallest"
    run(
        *command, "export", "--config", config, "--checkpoint", tmp_path / "run" / "last.ckpt",
        "--data", pack, "--out", bundle,
    )  # fmt: skip
    assert "edges" in (bundle / "README.md").read_text()

    rgb = picture()
    np.save(tmp_path / "rgb.npy", rgb)
    run("-c", PREDICT, bundle, tmp_path / "rgb.npy", tmp_path / "edges.npy")
    expected = np.load(tmp_path / "edges.npy")
    assert expected.shape == rgb.shape[:2] and 0 <= expected.min() < expected.max() <= 1

    client = Client()
    process = NodeProcess(tmp_path / "log", {"model": str(bundle)})
    try:
        robot = Robot(client, process, {"tiny": bundle})
        robot.start(backend="onnxruntime", device="cpu")
        edges = robot.collect("left/edges/image")
        robot.flow(lambda: image(picture(seed=1)), edges)
        result = one_result(robot, image(rgb), edges)
        assert result.encoding == "mono8"
        np.testing.assert_array_equal(pixels(result), np.rint(255 * expected))
    finally:
        status = process.end()
        client.close()
    assert status == 0, process.output
