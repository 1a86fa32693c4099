# SPDX-License-Identifier: Apache-2.0
"""A recording played through the node: a player, a node and a recorder process over real DDS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from rclpy.node import Node

from proto_mtl_ros.data.bags.recording import Recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.data.bags.topics import COMPRESSED_IMAGE
from proto_mtl_ros.errors import ConfigError, ProtoMtlError
from proto_mtl_ros.ros.outcomes import read_outcomes
from proto_mtl_ros.ros.replay.player import check_rate
from proto_mtl_ros.ros.replay.processes import Child, LifecycleClient, adopt_environment, own_node
from proto_mtl_ros.ros.replay.recorder import DIAGNOSTICS
from proto_mtl_ros.ros.topics import result_topics

NODE_NAME = "proto_mtl"
CAMERA = "camera"
RESULT_IMAGES = tuple(
    f"/{CAMERA}/{topic.name}"
    for topic in result_topics()
    if topic.encoding and topic.name not in ("segmentation/overlay", "normals/image")
)
"""The overlay and the points can be made from these and the recording."""

RESULT_TOPICS = {
    **dict.fromkeys(RESULT_IMAGES, "sensor_msgs/msg/Image"),
    f"/{CAMERA}/segmentation/label_info": "vision_msgs/msg/LabelInfo",
    f"/{CAMERA}/depth/camera_info": "sensor_msgs/msg/CameraInfo",
    DIAGNOSTICS: "diagnostic_msgs/msg/DiagnosticArray",
}
"""What is recorded, where its type is installed (vision_msgs need not be)."""

_APPEAR_SECONDS = 30.0
_CONFIGURE_SECONDS = 180.0
_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 1.5
_SETTLE_LIMIT_SECONDS = 20.0

Progress = Callable[[str, int, int], None]
"""Called with what is going on, the images so far, and of how many."""


@dataclass(frozen=True)
class ReplayOptions:
    """What is replayed, and how.

    ``parameters`` of the node are by name, in YAML spelling; "model" must be among them. For rate,
    seconds, start and loops see ``Player.play``. ``fps`` is of a recording without times.
    ``command``: the words that started it. For camera see ``given_camera``.
    """

    recording: Path
    out: Path
    parameters: Mapping[str, str]
    rate: float = 1.0
    seconds: float | None = None
    start: float = 0.0
    loops: int = 1
    fps: float | None = None
    image_topic: str | None = None
    domain_id: int | None = None
    command: tuple[str, ...] = ()
    camera: Path | None = None
    no_camera: bool = False

    @property
    def results(self) -> Path:
        return self.out / "results"

    def check(self) -> None:
        check_rate(self.rate)
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigError(f"--seconds {self.seconds:g} plays nothing: give more than 0")
        if self.domain_id is not None and not 0 <= self.domain_id <= 232:
            raise ConfigError(f"--domain-id {self.domain_id} is not a ROS domain: give 0 to 232")
        for name in ("cameras", "image_transport", "use_sim_time"):
            if name in self.parameters:
                raise ConfigError(f"parameter {name} is set by the replay itself: leave it out")

    def images(self, recording: Recording) -> int:
        frames = recording.frames
        if recording.rate:
            frames = max(1, frames - round(self.start * recording.rate))
            if self.seconds is not None:
                frames = min(frames, round(self.seconds * recording.rate) + 1)
        return frames * self.loops


@dataclass(frozen=True)
class ReplayLogs:
    """What a replay leaves besides its recording.

    ``outcomes``: stamp (ns) of an image that reached the node -> "processed", or why it was not.
    ``status``: the node's last diagnostics, values by status name.
    """

    sent: StampLog
    received: StampLog
    outcomes: dict[int, str]
    status: dict[str, dict[str, str]]

    def status_of(self, part: str) -> dict[str, str]:
        """Return the diagnostics of the "engine" or of a camera, by its name."""
        return next((own for name, own in self.status.items() if name.endswith(f": {part}")), {})


@dataclass(frozen=True)
class ReplayState:
    """How far a replay is; what a process tells names some of these, with their new value.

    ``results`` are messages of the fullest result topic, ``waiting`` the topics that nobody
    publishes yet, None before that is known.
    """

    played: int = 0
    results: int = 0
    diagnostics: int = 0
    waiting: list[str] | None = None
    status: dict[str, dict[str, str]] = field(default_factory=dict)


class ReplaySession:
    def __init__(self, options: ReplayOptions, recording: Recording, progress: Progress) -> None:
        self._options, self._topics = options, recording.topics
        self._progress, self._images = progress, options.images(recording)
        self._children: list[Child] = []
        self._stage = ""
        self._state = ReplayState()

    def run(self) -> ReplayLogs:
        """Play the recording; raises ProtoMtlError when a process did not do its part in time."""
        self._environment = adopt_environment(self._options.domain_id)
        with own_node("proto_mtl_replay") as node, ExitStack() as self._stack:
            return self._run(node)

    def _run(self, own: Node) -> ReplayLogs:
        out = self._options.out
        self._tell("starting the node")
        node = self._start("node", self._node_arguments())
        recorder = self._start("recorder", self._recorder_arguments())
        client = LifecycleClient(own, f"/{NODE_NAME}", self._check)
        self._stack.callback(client.close)
        client.wait(_APPEAR_SECONDS)
        self._tell("loading the model")
        client.bring_up(node, _CONFIGURE_SECONDS)
        self._tell("connecting")
        end = time.monotonic() + _APPEAR_SECONDS
        while self._state.waiting != []:
            if time.monotonic() > end:
                missing = ", ".join(self._state.waiting or ()) or "its results"
                raise ProtoMtlError(f"the node does not publish {missing}: see {out / 'node.log'}")
            self._poll()
        self._tell("playing")
        player = self._start("player", self._player_arguments(), ends=True)
        while player.status is None:
            self._poll()
        self._poll()
        self._settle()
        self._tell("finishing")
        with suppress(ProtoMtlError):  # the results are there: an untidy end must not lose them
            for transition in ("deactivate", "cleanup", "shutdown"):
                client.change(transition, 10.0)
        recorder.stop()
        self._update()
        recorder.check()
        node.stop()
        return ReplayLogs(
            StampLog.read(out / "player.json"),
            StampLog.read(out / "recorder.json"),
            read_outcomes(out / "node.log", CAMERA),
            self._state.status,
        )

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
        compressed = self._topics.image.type == COMPRESSED_IMAGE
        image = f"/{CAMERA}/image/compressed" if compressed else f"/{CAMERA}/image"
        remappings = {image: self._topics.image.name}
        if self._topics.camera_info is not None:
            remappings[f"/{CAMERA}/camera_info"] = self._topics.camera_info.name
        parameters = {
            "cameras": f"[{CAMERA}]",
            "image_transport": "compressed" if compressed else "raw",
            "use_sim_time": "true",
            **{name: _yaml(name, value) for name, value in self._options.parameters.items()},
        }
        # debug: its log tells of every image
        arguments = ["proto_mtl_ros.cli", "node", "--ros-args"]
        arguments += ["--log-level", f"{NODE_NAME}:=debug"]
        renamed = [f"{source}:={name}" for source, name in remappings.items() if source != name]
        arguments += [word for one in renamed for word in ("-r", one)]
        return arguments + [w for k, v in parameters.items() for w in ("-p", f"{k}:={v}")]

    def _recorder_arguments(self) -> list[str]:
        topics = {k: v for k, v in RESULT_TOPICS.items() if find_spec(v.split("/")[0])}
        arguments = ["proto_mtl_ros.ros.replay.recorder", str(self._options.results)]
        arguments += [f"{name}={kind}" for name, kind in topics.items()]
        return [*arguments, f"--log={self._options.out / 'recorder.json'}", "--replace"]

    def _player_arguments(self) -> list[str]:
        options = self._options
        given = {
            "log": options.out / "player.json",
            "rate": options.rate,
            "start": options.start,
            "loops": options.loops,
            "image-topic": self._topics.image.name,
            "seconds": options.seconds,
            "fps": options.fps,
            "camera": options.camera,
        }
        arguments = ["proto_mtl_ros.ros.replay.player", str(options.recording), "--clock"]
        arguments += ["--no-camera"] if options.no_camera else []
        return arguments + [
            f"--{name}={value}" for name, value in given.items() if value is not None
        ]

    def _settle(self) -> None:
        """Wait for the last results, and then for diagnostics that count them."""
        self._tell("waiting for the last results")
        limit = time.monotonic() + _SETTLE_LIMIT_SECONDS
        last, quiet_since = self._state, time.monotonic()
        while time.monotonic() < limit:
            self._poll()
            if self._state.results != last.results:
                last, quiet_since = self._state, time.monotonic()
            quiet = time.monotonic() - quiet_since >= _SETTLE_SECONDS
            if quiet and self._state.diagnostics >= last.diagnostics + 2:
                return

    def _poll(self) -> None:
        self._check()
        self._update()
        time.sleep(_POLL_SECONDS)

    def _check(self) -> None:
        for child in self._children:
            child.check()

    def _update(self) -> None:
        for child in self._children:
            for event in child.events():
                self._state = replace(self._state, **event)
        self._tell(self._stage)

    def _tell(self, stage: str) -> None:
        self._stage = stage
        results = f", {self._state.results} results" if self._state.results else ""
        self._progress(f"{stage}{results}", self._state.played, self._images)


def _yaml(name: str, value: str) -> str:
    """Return a parameter as ROS parses it: a model named 2024 is text all the same."""
    return json.dumps(value) if name in ("model", "backend", "device") else value
