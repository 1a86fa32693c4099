# SPDX-License-Identifier: Apache-2.0
"""The launch files, loaded by ROS's launch and run by `ros2 launch`, where these are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("launch_ros", reason="launch_ros is not installed (it comes with ROS's apt)")

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("perception.launch.py", "replay.launch.py")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name.partition(".")[0] + "_launch", REPOSITORY / "launch" / name
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described(name: str) -> None:
    arguments = load(name).generate_launch_description().get_launch_arguments()
    assert len(arguments) > 10
    assert all(len(argument.description) > 3 for argument in arguments)


def test_both_files_mean_the_same_by_an_argument() -> None:
    described = [
        {a.name: a.choices for a in load(name).generate_launch_description().get_launch_arguments()}
        for name in FILES
    ]
    for name in load("replay.launch.py").PASSED_ON:
        assert described[0][name] == described[1][name]


def test_rosbag2_plays_the_inputs_alone() -> None:
    """Recorded results would mix with the node's."""
    play = load("replay.launch.py").play_command
    command = play(Path("bag"), True, 1.0, False, True, "/cam/image", "")
    assert command[command.index("ros2") :][:4] == ["ros2", "bag", "play", "bag"]
    assert command[command.index("--topics") + 1 :] == ["/cam/image", "/tf", "/tf_static"]


def test_topics_of_the_drivers_are_remapped() -> None:
    remappings = load("perception.launch.py").remappings
    assert remappings(["camera"], "image", "camera_info", False) == []
    assert remappings(["front", "/robot/rear"], "color/image_raw", "color/camera_info", False) == [
        ("front/image", "front/color/image_raw"),
        ("front/camera_info", "front/color/camera_info"),
        ("/robot/rear/image", "/robot/rear/color/image_raw"),
        ("/robot/rear/camera_info", "/robot/rear/color/camera_info"),
    ]
    assert remappings(["camera"], "/cam/rgb/compressed", "/cam/info", True) == [
        ("camera/image/compressed", "/cam/rgb/compressed"),
        ("camera/camera_info", "/cam/info"),
    ]


@pytest.mark.parametrize("text", ["front,rear", "front, rear", "[front, rear]", "['front','rear']"])
def test_camera_lists(text: str) -> None:
    assert load("perception.launch.py").camera_names(text) == ["front", "rear"]


def test_rviz_topics_are_those_of_its_config() -> None:
    module = load("perception.launch.py")
    config = yaml.safe_load((REPOSITORY / "config" / "perception.rviz").read_text(encoding="utf-8"))
    shown = config["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in shown if "Topic" in display}
    assert topics == {f"{module.RVIZ_CAMERA}/{topic}" for topic in module.RVIZ_TOPICS}


@pytest.fixture(scope="module")
def ros2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `ros2 launch` finds this checkout as an installed package."""
    if shutil.which("ros2") is None:
        pytest.skip("the ros2 command is not installed (it comes with ROS's apt)")
    prefix = tmp_path_factory.mktemp("prefix")
    marker = prefix / "share/ament_index/resource_index/packages/proto_mtl_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    share = prefix / "share" / "proto_mtl_ros"
    share.mkdir()
    for name in ("launch", "config"):  # copies: `ros2 launch` does not follow links
        shutil.copytree(REPOSITORY / name, share / name)
    (prefix / "lib").mkdir()
    (prefix / "lib" / "proto_mtl_ros").symlink_to(REPOSITORY / "scripts")
    return {
        **os.environ,
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}",
        "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}",
        "ROS_LOG_DIR": str(prefix / "log"),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose results are simple functions of the picture."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    from tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines of a process up to the one with `text`."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"{text!r} is not in:\n{''.join(lines)}")


@contextmanager
def launch(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    # stdout of a child is read by lines; stderr joins it.
    process = subprocess.Popen(
        ["ros2", "launch", "proto_mtl_ros", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def state_of_the_node(environment: dict[str, str]) -> str:
    """`ros2 lifecycle get`, asked until the node is there."""
    command = ["ros2", "lifecycle", "get", "--no-daemon", "--spin-time", "3", "/proto_mtl"]
    for _ in range(10):
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60
        )
        if result.stdout.startswith("active"):
            break
    return result.stdout


@pytest.mark.ros
def test_ros2_launch_brings_the_node_to_active_and_ends_it_cleanly(
    ros2: dict[str, str], bundle: Path
) -> None:
    words = ("perception.launch.py", "cameras:=front,rear", f"model:={bundle}")
    with launch(ros2, *words) as process:
        lines_until(process, "process started")
        assert state_of_the_node(ros2).startswith("active")
        process.send_signal(signal.SIGINT)
        lines_until(process, "process has finished cleanly")
        assert process.wait(timeout=30) == 0


@pytest.mark.ros
def test_what_launch_itself_opens_is_what_its_policy_allows(
    ros2: dict[str, str], bundle: Path
) -> None:
    from ros_harness import Client, wait_for

    from tools.sros2_policy import launch_profile, node_profile

    profile = launch_profile(node_profile())
    client = Client()
    arguments = (f"model:={bundle}", "read_only:=true", "enclave:=/proto_mtl")

    def nodes() -> dict[str, str]:
        """Enclaves by name."""
        return {n: e for n, _, e in client.node.get_node_names_and_namespaces_with_enclaves()}

    def opened(name: str) -> dict[str, set[str]]:
        node = client.node
        listed = {
            "publish": node.get_publisher_names_and_types_by_node(name, "/"),
            "subscribe": node.get_subscriber_names_and_types_by_node(name, "/"),
            "reply": node.get_service_names_and_types_by_node(name, "/"),
            "request": node.get_client_names_and_types_by_node(name, "/"),
        }
        return {rule: {name for name, _ in pairs} for rule, pairs in listed.items()}

    with launch(ros2, "perception.launch.py", *arguments) as process, closing(client):
        own = wait_for(lambda: [n for n in nodes() if n.startswith("launch_ros")], "launch")[0]
        allowed = {
            rule: {n.replace(profile.node, own) for n in profile.resolved(getattr(profile, rule))}
            for rule in ("publish", "subscribe", "reply", "request")
        }
        wait_for(lambda: client.state() == "active", "the node to be active")
        wait_for(lambda: opened(own) == allowed, f"{allowed}, not {opened(own)}")
        assert nodes()["proto_mtl"] == "/proto_mtl" and nodes()[own] == profile.enclave
        assert client.parameter("read_only") is True
        process.send_signal(signal.SIGINT)
        lines_until(process, "process has finished cleanly")
        assert process.wait(timeout=30) == 0


@pytest.mark.ros
def test_ros2_launch_replays_a_recording_and_ends(
    ros2: dict[str, str], bundle: Path, room_recording: Path
) -> None:
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    words = ("replay.launch.py", f"bag:={room_recording}", f"model:={bundle}", "rviz:=false")
    # the rate arrives in launch as an integer
    words = (*words, "rate:=4", "player:=own", "shutdown_at_end:=true")
    with launch(ros2, *words) as process:
        lines_until(process, "[player-2]: process has finished cleanly")
        lines_until(process, "[node-1]: process has finished cleanly")
        assert process.wait(timeout=60) == 0


@pytest.mark.ros
def test_a_recording_that_is_not_there_is_one_line(ros2: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    words = ("replay.launch.py", f"bag:={tmp_path / 'nowhere'}", "rviz:=false")
    with launch(ros2, *words) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "nowhere" in output
    assert "Traceback" not in output
