# SPDX-License-Identifier: Apache-2.0
"""A recording played through the node: a player, a node and a recorder process over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.data.bags.topics import (
    COMPRESSED_IMAGE,
    CameraTopics,
)
from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.ros.outcomes import read_outcomes
from proto_mtl_ros.ros.replay import lifecycle
from proto_mtl_ros.ros.replay.lifecycle import LifecycleClient
from proto_mtl_ros.ros.replay.processes import (
    Child,
    adopt_environment,
)
from proto_mtl_ros.ros.replay.recorder import DIAGNOSTICS

NODE_NAME = "proto_mtl"
CAMERA = "camera"
_IMAGE = "sensor_msgs/msg/Image"
RESULT_TOPICS = {
    f"/{CAMERA}/segmentation/image": _IMAGE,
    f"/{CAMERA}/segmentation/confidence": _IMAGE,
    f"/{CAMERA}/depth/image": _IMAGE,
    f"/{CAMERA}/normals/color": _IMAGE,
    f"/{CAMERA}/segmentation/label_info": "vision_msgs/msg/LabelInfo",
    f"/{CAMERA}/depth/camera_info": "sensor_msgs/msg/CameraInfo",
}
"""What is recorded, where its type is installed (vision_msgs need not be). The overlay and the
points can be made from these and the recording."""

_APPEAR_SECONDS = 30.0
_CONFIGURE_SECONDS = 180.0
_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 1.5
_SETTLE_LIMIT_SECONDS = 20.0


@dataclass(frozen=True)
class ReplayOptions:
    """How a recording is replayed.

    Attributes:
        recording: path of it.
        topics: the topics it is published on.
        out: existing folder of the results and the logs.
        parameters: of the node, by name, in YAML spelling.
        rate: playing speed, 1 = as recorded.
        seconds: play only so much of it, None for all.
        start: leave out so many seconds at the beginning.
        loops: how often it is played.
        sim_time: the node takes its time from the recording, over /clock.
        fps: images a second of a recording without times, None for its own or the default.
        domain_id: ROS domain, None for a free one.
        result_topics: ROS type by name of the topics to record.
    """

    recording: Path
    topics: CameraTopics
    out: Path
    parameters: dict[str, str] = field(default_factory=dict)
    rate: float = 1.0
    seconds: float | None = None
    start: float = 0.0
    loops: int = 1
    sim_time: bool = False
    fps: float | None = None
    domain_id: int | None = None
    result_topics: dict[str, str] = field(default_factory=lambda: dict(RESULT_TOPICS))

    @property
    def results(self) -> Path:
        """The rosbag2 of the results."""
        return self.out / "results"


@dataclass(frozen=True)
class ReplayLogs:
    """What a replay leaves besides its recording.

    Attributes:
        sent: the images, in the player's log.
        received: all result topics, in the recorder's log.
        fates: stamp (ns) of an image that reached the node -> "processed", or why it was not.
        status: the node's last diagnostics, values by status name.
        late_ms: the longest that an image left the player behind its time.
    """

    sent: StampLog
    received: StampLog
    fates: dict[int, str]
    status: dict[str, dict[str, str]]
    late_ms: float


Progress = Callable[[str, int, int], None]
"""Called with what is going on, images played so far, results recorded so far."""


class ReplaySession:
    """Runs the three processes of a replay; used as a context, it ends them all on leaving."""

    def __init__(self, options: ReplayOptions, progress: Progress | None = None) -> None:
        self._options = options
        self._progress = progress or (lambda stage, played, results: None)
        self._stack = ExitStack()
        self._children: list[Child] = []
        self._played = 0
        self._results = 0
        self._diagnostics = 0
        self._stage = ""
        self._ready = False
        self._waiting: list[str] = []
        self._status: dict[str, dict[str, str]] = {}

    def __enter__(self) -> ReplaySession:
        self._environment = adopt_environment(self._options.domain_id)
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._stack.callback(rclpy.try_shutdown)
        self._node = Node("proto_mtl_replay")
        self._stack.callback(self._node.destroy_node)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def run(self) -> ReplayLogs:
        """Play the recording and return the logs.

        Raises:
            ProtoMtlError: a process failed or did not do its part in time; one line says which.
        """
        options = self._options
        self._tell("starting the node")
        node = self._start("node", self._node_arguments())
        recorder = self._start("recorder", self._recorder_arguments())
        client = LifecycleClient(self._node, f"/{NODE_NAME}", self._check)
        self._stack.callback(client.close)
        client.wait(_APPEAR_SECONDS)
        self._tell("loading the model")
        self._change(client, node, lifecycle.CONFIGURE, _CONFIGURE_SECONDS)
        self._change(client, node, lifecycle.ACTIVATE, _APPEAR_SECONDS)
        self._tell("connecting")
        self._wait(lambda: self._ready, _APPEAR_SECONDS, self._not_ready)
        player = self._start("player", self._player_arguments(), ends=True)
        self._wait(lambda: player.status is not None, None)
        self._check()
        self._settle()
        self._tell("finishing")
        with suppress(ProtoMtlError):  # the results are there: an untidy end must not lose them
            for transition in (lifecycle.DEACTIVATE, lifecycle.CLEANUP, lifecycle.SHUTDOWN):
                client.change(transition, 10.0)
        recorder.stop()
        self._update()
        recorder.check()
        node.stop()
        sent = StampLog.read(options.out / "player.json")
        received = StampLog.read(options.out / "recorder.json")
        fates = read_outcomes(options.out / "node.log", CAMERA)
        return ReplayLogs(sent, received, fates, self._status, sent.notes.get("late_ms", 0.0))

    def _start(self, name: str, arguments: list[str], ends: bool = False) -> Child:
        environment = dict(self._environment)
        if name == "node":
            # An idle thread that spins for work takes the core that the transport needs.
            environment.setdefault("OMP_WAIT_POLICY", "passive")
        child = Child(name, arguments, environment, self._options.out / f"{name}.log", ends)
        self._children.append(child)
        self._stack.callback(child.stop)
        return child

    def _node_arguments(self) -> list[str]:
        topics = self._options.topics
        compressed = topics.image.type == COMPRESSED_IMAGE
        image = f"/{CAMERA}/image/compressed" if compressed else f"/{CAMERA}/image"
        remappings = {image: topics.image.name}
        if topics.camera_info is not None:
            remappings[f"/{CAMERA}/camera_info"] = topics.camera_info.name
        parameters = {
            "cameras": f"[{CAMERA}]",
            "image_transport": "compressed" if compressed else "raw",
            **({"use_sim_time": "true"} if self._options.sim_time else {}),
            **self._options.parameters,
        }
        arguments = ["-m", "proto_mtl_ros.cli", "node", "--ros-args"]
        arguments += ["--log-level", f"{NODE_NAME}:=debug"]  # tells of every image
        for source, target in remappings.items():
            if source != target:
                arguments += ["-r", f"{source}:={target}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        return arguments

    def _recorder_arguments(self) -> list[str]:
        options = self._options
        topics = {**options.result_topics, DIAGNOSTICS: "diagnostic_msgs/msg/DiagnosticArray"}
        topics = {k: v for k, v in topics.items() if find_spec(v.split("/")[0])}
        return [
            "-m",
            "proto_mtl_ros.ros.replay.recorder",
            str(options.results),
            *(f"{name}={kind}" for name, kind in topics.items()),
            f"--log={options.out / 'recorder.json'}",
            "--json",
        ]

    def _player_arguments(self) -> list[str]:
        options = self._options
        arguments = [
            "-m",
            "proto_mtl_ros.ros.replay.player",
            str(options.recording),
            f"--log={options.out / 'player.json'}",
            f"--rate={options.rate}",
            f"--start={options.start}",
            f"--loops={options.loops}",
            f"--image-topic={options.topics.image.name}",
            "--json",
        ]
        if options.topics.camera_info is not None:
            arguments.append(f"--info-topic={options.topics.camera_info.name}")
        if options.seconds is not None:
            arguments.append(f"--seconds={options.seconds}")
        if options.fps is not None:
            arguments.append(f"--fps={options.fps}")
        if options.sim_time:
            arguments.append("--clock")
        return arguments

    def _change(
        self, client: LifecycleClient, node: Child, transition: int, timeout: float
    ) -> None:
        if not client.change(transition, timeout):
            raise ProtoMtlError(f"the node could not start: {node.last_lines(1)}")

    def _settle(self) -> None:
        """Wait for the last results, and then for diagnostics that count them."""
        self._tell("waiting for the last results")
        limit = time.monotonic() + _SETTLE_LIMIT_SECONDS
        results, diagnostics = self._results, self._diagnostics
        quiet_since = time.monotonic()
        while time.monotonic() < limit:
            self._check()
            self._update()
            if self._results != results:
                results, diagnostics = self._results, self._diagnostics
                quiet_since = time.monotonic()
            quiet = time.monotonic() - quiet_since >= _SETTLE_SECONDS
            if quiet and self._diagnostics >= diagnostics + 2:
                return
            time.sleep(_POLL_SECONDS)

    def _wait(
        self,
        done: Callable[[], bool],
        timeout: float | None,
        problem: Callable[[], str] | None = None,
    ) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not done():
            self._check()
            self._update()
            if end is not None and time.monotonic() > end:
                raise ProtoMtlError(problem() if problem else "a process took too long")
            time.sleep(_POLL_SECONDS)
        self._update()

    def _not_ready(self) -> str:
        return (
            f"the node does not publish {', '.join(self._waiting) or 'its results'}: "
            f"see {self._options.out / 'node.log'}"
        )

    def _check(self) -> None:
        for child in self._children:
            child.check()

    def _update(self) -> None:
        """Take in what the processes have told."""
        for child in self._children:
            for event in child.events():
                if event["event"] == "image":
                    self._played = event["count"]
                    self._stage = "playing"
                elif event["event"] == "ready":
                    self._ready = True
                elif event["event"] == "recorded":
                    self._results = event["count"]
                    self._diagnostics = event["diagnostics"]
                    self._waiting = event["waiting"]
                    self._status = event["status"] or self._status
        self._progress(self._stage, self._played, self._results)

    def _tell(self, stage: str) -> None:
        self._stage = stage
        self._progress(stage, self._played, self._results)
