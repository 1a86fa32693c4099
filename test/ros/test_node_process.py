# SPDX-License-Identifier: Apache-2.0
"""The node's process: how it starts, what it refuses to start with, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from faulty_node import fault_file
from faulty_robot import PROGRAM
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from robot import image, picture
from ros_harness import NodeProcess, driving, wait_for
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.ros.process import shared_memory_problem

pytestmark = pytest.mark.ros

CONFIGURE = Transition(id=Transition.TRANSITION_CONFIGURE)

UDP_ONLY = """<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <transport_descriptors><transport_descriptor>
    <transport_id>udp</transport_id><type>UDPv4</type>
  </transport_descriptor></transport_descriptors>
  <participant profile_name="p" is_default_profile="true"><rtps>
    <userTransports><transport_id>udp</transport_id></userTransports>
    <useBuiltinTransports>false</useBuiltinTransports>
  </rtps></participant>
</profiles>"""

LISTENER = """
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
rclpy.init()
node = rclpy.create_node("listener")
heard = []
node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
while not heard:
    rclpy.spin_once(node, timeout_sec=0.5)
print("heard", heard[0].status[0].name)
"""

STATES = {"unconfigured": [], "inactive": ["configure"], "active": ["configure", "activate"]}


@pytest.mark.slow
def test_clean_end_on_a_signal_in_every_lifecycle_state(tmp_path: Path) -> None:
    """Six nodes at once; the active ones end in the middle of inferring."""
    model = write_tiny_bundle(tmp_path, "slow", delay_loops=50)
    processes = {
        (state, number): NodeProcess(
            tmp_path / f"{state}_{number}.log",
            {"model": str(model), "force_inference": "true", "threads": "1"},
            ["-r", f"__node:={state}_{number}", "-r", "camera/image:=/driver/image"],
        )
        for number in (signal.SIGINT, signal.SIGTERM)
        for state in STATES
    }
    with driving(*processes.values()) as client:
        for (state, number), process in processes.items():
            client.target = f"/{state}_{number}"
            for transition in STATES[state]:
                assert client.change_state(transition), process.output
            assert client.state() == state
        publisher = client.publisher(Image, "/driver/image")
        wait_for(lambda: publisher.get_subscription_count() == 2, "both active nodes")
        for _ in range(10):
            publisher.publish(image(picture()))
            time.sleep(0.02)
        for (_, number), process in processes.items():
            process.process.send_signal(number)
        for (state, number), process in processes.items():
            assert process.process.wait(30) == 0, f"{state}, {number}\n{process.output}"
            bad = re.search("Traceback|rror|terminate|core dumped", process.output)
            assert not bad, f"{state}, {number}: {process.output}"


def test_shared_memory_profile_still_reaches_other_hosts(tmp_path: Path) -> None:
    """A listener that has UDP alone, as on another host, hears a node that has the profile."""
    profile = tmp_path / "udp.xml"
    profile.write_text(UDP_ONLY)
    node = NodeProcess(tmp_path / "log")
    try:
        environment = os.environ | {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}
        command = [sys.executable, "-c", LISTENER]
        listener = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60
        )
        assert "heard proto_mtl: engine" in listener.stdout, listener.stderr
        segments = [path.stat().st_size for path in Path("/dev/shm").glob("fastrtps_*")]
        assert max(segments) >= 48 << 20
    finally:
        assert node.end() == 0


def test_little_shared_memory_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    size = SimpleNamespace(f_blocks=16384, f_frsize=4096)  # 64 MiB, a container's default
    monkeypatch.setattr(os, "statvfs", lambda folder: size)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "fastdds_shm.xml")
    said = shared_memory_problem()
    assert said.startswith("/dev/shm has 64 MiB") and "--shm-size=1g" in said
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE")
    assert shared_memory_problem() == ""


def test_a_signal_while_a_model_is_loading(tmp_path: Path, record_fault: Callable) -> None:
    """The load is given up: in the middle of configuring, and of reloading while active."""
    quick = write_tiny_bundle(tmp_path, "quick")
    slow = write_tiny_bundle(tmp_path, "slow", delay_loops=20000)
    nodes = [
        NodeProcess(
            tmp_path / f"{i}.log", {"model": str(m), "threads": "1"}, ["-r", f"__node:=n{i}"]
        )
        for i, m in enumerate((slow, quick))
    ]
    with driving(*nodes) as client:
        client.target = "/n1"
        assert client.change_state("configure") and client.change_state("activate")
        assert client.set_parameters(model=str(slow))[0].successful
        client.send(Trigger, "reload_model", Trigger.Request())
        wait_for(lambda: client.values("engine")["loading"] == "true", "the reload")
        client.target = "/n0"
        client.send(ChangeState, "change_state", ChangeState.Request(transition=CONFIGURE))
        time.sleep(1.0)
        for node in nodes:
            begin = time.monotonic()
            assert node.end(signal.SIGTERM) == 0, node.output
            assert time.monotonic() - begin < 10
            assert "Traceback" not in node.output
    record_fault(
        "engine",
        "SIGTERM while a model is loading: in configure, and in ~/reload_model",
        tried=2,
        seen="the node ends with 0 within seconds",
    )


@pytest.mark.slow
def test_giving_up_can_end_the_process(tmp_path: Path, record_fault: Callable) -> None:
    """With status 5, and a thread that never returns; beside it one that a signal ends."""
    common = {"model": str(write_tiny_bundle(tmp_path, "tiny")), "force_inference": "true"}
    processes = {
        name: NodeProcess(
            tmp_path / f"{name}.log",
            common | parameters,
            ["-r", f"__node:={name}", "-r", "camera/image:=/driver/image"],
            program=(PROGRAM, tmp_path / name),
        )
        for name, parameters in {
            "exits": {"engine_timeout": "0.5", "load_timeout": "0.5", "on_engine_failure": "exit"},
            "stays": {"engine_timeout": "600.0"},
        }.items()
    }
    with driving(*processes.values()) as client:
        for name, process in processes.items():
            client.target = f"/{name}"
            for transition in ("configure", "activate"):
                assert client.change_state(transition), process.output
            fault_file(tmp_path / name, "hang" if name == "exits" else "stall")
        publisher = client.publisher(type(image(picture())), "/driver/image")
        wait_for(lambda: publisher.get_subscription_count() == 2, "both nodes")

        def stalled() -> bool:
            publisher.publish(image(picture()))  # a busy machine may lose one
            time.sleep(0.1)
            return not (tmp_path / "stays").exists()

        wait_for(stalled, "the stall")
        exits, stays = processes.values()
        assert exits.process.wait(30) == 5, exits.output
        assert "given up after 3 new engines" in exits.output
        begin = time.monotonic()
        assert stays.end(signal.SIGTERM) == 0, stays.output
        assert time.monotonic() - begin < 15
        assert "leaving it behind" in stays.output
        for process in processes.values():
            assert not re.search("Traceback|terminate|core dumped", process.output), process.output
    name = "inference never returns and the process shall end (on_engine_failure: exit; SIGTERM)"
    seen = "exit status 5; 0 after SIGTERM, within seconds"
    record_fault("engine", name, tried=2, seen=seen)


@pytest.mark.parametrize(
    ("parameters", "arguments", "said"),
    [
        ({"modle": "x"}, [], "unknown parameter modle; did you mean model?"),
        ({"confidence_threshold": "much"}, [], "must be of type int, not 'much'"),
        ({}, ["--params-file", "/no/such/file.yaml"], "/no/such/file.yaml"),
        ({}, ["model=x"], "unexpected argument 'model=x'; parameters are given as"),
        ({}, ["-r", "__ns:=/a b"], "ROS arguments: failed to initialize rcl: Couldn't parse"),
    ],
)
def test_what_cannot_be_used_at_start_ends_with_one_line(
    tmp_path: Path, parameters: dict[str, str], arguments: list[str], said: str
) -> None:
    process = NodeProcess(tmp_path / "log", parameters, arguments)
    try:
        status = process.process.wait(30)
    finally:
        process.end(signal.SIGKILL)
    # The middleware may log lines of its own.
    lines = [line for line in process.output.splitlines() if line.startswith("proto-mtl")]
    assert status == 2, process.output
    assert len(lines) == 1 and said in lines[0], process.output
    assert "Traceback" not in process.output
