# SPDX-License-Identifier: Apache-2.0
"""What player, recorder and their parent say and do when something is not as it should be."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from lifecycle_msgs.srv import ChangeState
from ros_harness import Client, plain_node, wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import INPUT, USAGE, BagError, ProtoMtlError
from proto_mtl_ros.ros.replay import player, processes, recorder, rosbag2_play
from proto_mtl_ros.ros.replay.processes import (
    DDS_PROFILE_VARIABLES,
    Child,
    adopt_environment,
    free_domain_id,
)
from recordings import write_recording

pytestmark = pytest.mark.ros
IMAGES = "/camera/color/image_raw/compressed"


@pytest.fixture(autouse=True)
def signals_and_environment() -> Iterator[None]:
    """Give back what a process's main takes for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, environment = [signal.getsignal(number) for number in numbers], dict(os.environ)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def node() -> Iterator[Any]:
    with plain_node("asking") as node:
        yield node


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


@pytest.mark.parametrize(
    ("process", "options", "said", "status"),
    [
        (player, ["--wait", "0.1"], f"nobody subscribed to {IMAGES} within 0.1 s", INPUT),
        (player, ["--rate", "0"], "a rate of 0 cannot be played: give --rate between 0.01", USAGE),
        (player, ["--image-topic", "/nothing"], "/nothing", INPUT),
        (recorder, ["/tf"], "/tf is not NAME=TYPE: for example /tf=tf2_msgs/msg/TFMessage", USAGE),
    ],
)
def test_a_process_that_cannot_begin_says_why(
    process: Any, options: list[str], said: str, status: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bag = write_recording(tmp_path / "bag", frames=2)
    assert process.main([str(bag), *options]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{process.__name__.rpartition('.')[2]}: ") and said in line


def test_a_player_tells_how_it_went(
    tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(player, "_INFO_PATIENCE_SECONDS", 0.2)
    bag, log = write_recording(tmp_path / "bag", frames=4, period=0.05), tmp_path / "log.json"
    heard = client.collect(CompressedImage, IMAGES)
    assert player.main([str(bag)]) == 0  # nobody subscribes to its camera_info
    assert capsys.readouterr().out.splitlines()[-1] == '{"played": 4}'
    wait_for(lambda: len(heard.stamps()) == 4, "the images")

    infos = client.collect(CameraInfo, "/camera/color/camera_info")
    assert player.main([str(bag), "--start", "9", "--log", str(log)]) == INPUT
    assert "nothing is recorded after 9 s: give a smaller --start" in capsys.readouterr().err

    def interrupt() -> None:
        wait_for(lambda: len(heard.stamps()) > 6, "images of the next time")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert player.main([str(bag), "--loops", "0", "--log", str(log)]) == 0  # Ctrl-C is no error
    thread.join()
    (stamps,) = StampLog.read(log).stamps.values()
    assert len(stamps) > 2 and infos.stamps()


@pytest.mark.parametrize(("ended", "status"), [(True, 0), (False, 3)])
def test_rosbag2_may_be_interrupted(ended: bool, status: int) -> None:
    """As its player does, this one ends with a status of its own."""
    waits = "import sys, time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(2)"
    program = waits if ended else "raise SystemExit(3)"
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    if ended:
        timer.start()
    assert rosbag2_play.main([sys.executable, "-c", program]) == status


def test_a_player_that_was_held_up_goes_on_at_its_rate(tmp_path: Path, node: Any) -> None:
    with open_recording(write_recording(tmp_path / "bag", frames=8, period=0.05)) as recording:
        held = player.Player(node, recording)
        assert held.play(on_image=lambda count: time.sleep(0.4 if count == 3 else 0)) == 8
        (times,) = held.log.times.values()
    gaps = [(later - early) / 1e9 for early, later in zip(times, times[1:])]
    assert gaps[2] >= 0.4 and min(gaps[3:]) > 0.02  # no burst of those that are late
    assert held.log.notes["late_ms"] > 300


def test_a_player_can_be_paused(tmp_path: Path, node: Any) -> None:
    asking = rclpy.create_node("asker", context=node.context)
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(asking)
    seen: list[int] = []
    bag = write_recording(tmp_path / "bag", frames=12)
    with (
        open_recording(bag) as recording,
        player.pausable(node, one := player.Player(node, recording)),
    ):
        client = asking.create_client(SetBool, f"/{node.get_name()}/pause")
        assert client.wait_for_service(20.0)
        thread = threading.Thread(target=one.play, kwargs={"on_image": seen.append})
        thread.start()
        wait_for(lambda: len(seen) >= 3, "the first images")
        for paused in (True, False):
            answer = client.call_async(SetBool.Request(data=paused))
            executor.spin_until_future_complete(answer, 20.0)
            assert answer.result().success
            if paused:
                time.sleep(0.3)  # an image on its way may still pass
                count = len(seen)
                time.sleep(0.7)
                assert len(seen) == count < 12
        thread.join(20.0)
    assert len(seen) == 12 and one.log.notes["late_ms"] < 700
    asking.destroy_node()


@pytest.fixture
def noise() -> Iterator[None]:
    """Publishes pictures of a megabyte that cannot be compressed, on /camera/image."""
    done = threading.Event()
    message = Image(height=1000, width=1000, step=1000, encoding="mono8")
    message.data = array("B", random.Random(0).randbytes(10**6))
    with plain_node("noise") as node:
        publisher = node.create_publisher(Image, "/camera/image", 5)

        def publish() -> None:
            while not done.wait(0.02):
                publisher.publish(message)

        thread = threading.Thread(target=publish)
        thread.start()
        yield
        done.set()
        thread.join()


@pytest.fixture
def full_after_five(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the disk refuse the sixth message of a recording; return what was tried to be written."""
    write, tried = BagWriter.write, []

    def refuse(self: BagWriter, name: str, stamp: int, message: Any) -> None:
        tried.append(name)
        if len(tried) > 5:
            raise BagError(f"cannot write {self.path}: No space left on device")
        write(self, name, stamp, message)

    monkeypatch.setattr(BagWriter, "write", refuse)
    return tried


def test_a_recorder_keeps_what_fitted_on_the_disk(
    tmp_path: Path, noise: None, full_after_five: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert recorder.main([str(out), "/camera/image=sensor_msgs/msg/Image"]) == INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"recorder: cannot write {out}: No space left on device; what was")
    assert line.endswith(f"recorded before is in {out}-cut-1") and not out.exists()
    with Bag(f"{out}-cut-1") as bag:
        assert 1 <= len(list(bag.messages(["/camera/image"]))) <= 5
    assert len(full_after_five) == 6  # nothing is written after a write has failed


def test_a_domain_that_somebody_uses_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_DOMAINS", range(100, 102))
    with ExitStack() as stack:
        for domain in (100, 101):
            taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taken.bind(("", 7400 + 250 * domain + 10))
            if domain == 100:
                assert {free_domain_id() for _ in range(20)} == {101}
        with pytest.raises(ProtoMtlError, match="is in use: give one with --domain-id"):
            free_domain_id()


def test_processes_stay_on_this_machine_in_every_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.delenv("ROS_LOCALHOST_ONLY", raising=False)
    given = adopt_environment(5)
    assert given["ROS_LOCALHOST_ONLY"] == os.environ["ROS_LOCALHOST_ONLY"] == "1"
    assert given["AMENT_PREFIX_PATH"] == sys.prefix
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    given = adopt_environment(5)
    assert given["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "ROS_LOCALHOST_ONLY" not in given and "ROS_LOCALHOST_ONLY" not in os.environ


def test_both_generations_of_fast_dds_get_the_profile_unless_the_user_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "shared_file", lambda name: Path("/ours.xml"))
    for name in DDS_PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    given = adopt_environment(5)
    assert {given[name] for name in DDS_PROFILE_VARIABLES} == {"/ours.xml"}
    first, second = DDS_PROFILE_VARIABLES
    monkeypatch.delenv(first)
    monkeypatch.setenv(second, "/theirs.xml")
    kept = adopt_environment(5)
    assert kept[second] == "/theirs.xml" and first not in kept


STUBBORN = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print('{"ready": true}', flush=True)
print("what else it says", flush=True)
time.sleep(60)
"""


def test_a_process_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    child = Child("worker", ["stubborn"], environment, tmp_path / "log")
    events: list[dict[str, Any]] = []
    wait_for(lambda: events.extend(child.events()) or events, "its first line")
    wait_for(lambda: "else" in child.last_lines(), "its second line")
    assert events == [{"ready": True}] and child.last_lines() == "what else it says"
    child.stop(timeout=0.2)
    assert child.status == -signal.SIGKILL


def test_a_node_that_is_not_there_or_does_not_answer_is_named(node: Any) -> None:
    own = rclpy.create_node("another", context=node.context)
    # a service that nobody serves: its node is not spun
    own.create_service(ChangeState, "/stuck/change_state", lambda request, response: response)
    absent = processes.LifecycleClient(node, "/absent", lambda: None)
    with pytest.raises(ProtoMtlError, match="/absent did not appear within 0.2 s"):
        absent.wait(0.2)
    stuck = processes.LifecycleClient(node, "/stuck", lambda: None)
    stuck.wait(20.0)
    with pytest.raises(ProtoMtlError, match="did not configure within 0.2 s: see its log"):
        stuck.change("configure", 0.2)
    own.destroy_node()
