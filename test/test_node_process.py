# SPDX-License-Identifier: Apache-2.0
"""The node's process: how it starts, what it refuses to start with, and how it ends."""

from __future__ import annotations

import array
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnx", reason="the tiny model is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")

from ros_harness import Client, NodeProcess, wait_for
from sensor_msgs.msg import Image
from tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.ros

STATES = {"unconfigured": [], "inactive": ["configure"], "active": ["configure", "activate"]}


def test_clean_end_on_a_signal_in_every_lifecycle_state(tmp_path: Path) -> None:
    """Six nodes at once; the active ones end in the middle of inferring."""
    model = write_tiny_bundle(tmp_path, "slow", delay_loops=50)
    client = Client()
    processes: dict[tuple[str, signal.Signals], NodeProcess] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            for state in STATES:
                name = f"{state}_{number.name.lower()}"
                processes[state, number] = NodeProcess(
                    tmp_path / f"{name}.log",
                    {"model": str(model), "force_inference": "true", "threads": "1"},
                    ["-r", f"__node:={name}"],
                )
        for (state, number), process in processes.items():
            client.target = f"/{state}_{number.name.lower()}"
            for transition in STATES[state]:
                assert client.change_state(transition), process.output
            assert client.state() == state
        publisher = client.publisher(Image, "/camera/image")
        wait_for(lambda: publisher.get_subscription_count() == 2, "both active nodes")
        message = Image(height=48, width=64, encoding="rgb8", step=192)
        message.data = array.array("B", bytes(48 * 192))
        for _ in range(10):
            publisher.publish(message)
            time.sleep(0.02)
        for (_, number), process in processes.items():
            process.process.send_signal(number)
        for (state, number), process in processes.items():
            status = process.process.wait(30)
            assert status == 0, f"{state}, {number.name}: {status}\n{process.output}"
            for word in ("Traceback", "rror", "terminate", "core dumped"):
                assert word not in process.output, f"{state}, {number.name}: {process.output}"
    finally:
        for process in processes.values():
            process.end(signal.SIGKILL)
        client.close()


@pytest.mark.parametrize(
    ("parameters", "arguments", "said"),
    [
        ({"modle": "x"}, [], "unknown parameter modle; did you mean model?"),
        ({"confidence_threshold": "1000"}, [], "confidence_threshold must be in 0..255"),
        ({}, ["--params-file", "/no/such/file.yaml"], "/no/such/file.yaml"),
        ({}, ["-r", "__ns:=not a namespace"], "not a namespace"),
    ],
)
def test_what_cannot_be_used_at_start_ends_with_one_line(
    tmp_path: Path, parameters: dict[str, str], arguments: list[str], said: str
) -> None:
    process = NodeProcess(tmp_path / "log", parameters, arguments)
    try:
        status = process.process.wait(30)
    except subprocess.TimeoutExpired:
        process.end(signal.SIGKILL)
        raise
    lines = [line for line in process.output.splitlines() if line.strip()]
    assert status == 2, process.output
    assert said in lines[-1]
    # rcl logs lines of its own about arguments that it cannot parse.
    assert [line for line in lines if "[rcl]" not in line] == lines[-1:]
