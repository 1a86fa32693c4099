# SPDX-License-Identifier: Apache-2.0
"""The node under load, end to end over DDS; cameras, nodes and listener are processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.ros.replay.processes import Child, LifecycleClient, adopt_environment
from tools.performance.cameras import Load
from tools.performance.node_figures import LoadFigures, load_figures
from tools.processes import cpu_seconds, process_use, to_word

REPOSITORY = Path(__file__).resolve().parents[2]

RESULTS = {
    "segmentation": ("segmentation/image", "sensor_msgs/msg/Image"),
    "confidence": ("segmentation/confidence", "sensor_msgs/msg/Image"),
    "overlay": ("segmentation/overlay", "sensor_msgs/msg/Image"),
    "depth": ("depth/image", "sensor_msgs/msg/Image"),
    "normals": ("normals/image", "sensor_msgs/msg/Image"),
    "points": ("points", "sensor_msgs/msg/PointCloud2"),
}
"""Name of a result -> its topic below the camera, and its type."""

_APPEAR_SECONDS = 60.0
_LOAD_SECONDS = 300.0


@dataclass(frozen=True)
class NodeSetting:
    """Nodes to be measured, and where they and their peers run.

    Attributes:
        results: names of ``RESULTS`` that are subscribed to.
        cameras: namespaces.
        parameters: of each node, one dictionary per node; several nodes see the same images.
        node_cores, peer_cores: CPUs of the nodes, and of cameras and listener; None for any.
        tell_fates: the nodes' logs, node0.log and so on in ``NodeBench.folder``, say what became of
            every image.
    """

    results: tuple[str, ...] = ("segmentation", "depth")
    cameras: tuple[str, ...] = ("camera",)
    parameters: tuple[Mapping[str, str], ...] = field(default_factory=lambda: ({},))
    node_cores: frozenset[int] | None = None
    peer_cores: frozenset[int] | None = None
    tell_fates: bool = False


class NodeBench:
    """Runs nodes and a listener; a context that ends them all on leaving.

    Several nodes, node0, node1, ..., see the same images and answer on the same topics, each with
    the results that its model can give.
    """

    def __init__(self, setting: NodeSetting) -> None:
        self.setting = setting
        self.start_seconds: list[float] = []
        self.children: dict[str, Child] = {}
        self.status: dict[str, dict[str, str]] = {}
        """What /diagnostics said last, as ``listen`` has it."""
        self._stack = ExitStack()
        self._rounds = 0
        self._loads = 0

    def __enter__(self) -> NodeBench:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.folder = self._stack.enter_context(ScratchFolder("bench"))
        self._environment = {
            **adopt_environment(),
            "OMP_WAIT_POLICY": "passive",
            "PYTHONPATH": str(REPOSITORY),  # these tools are not installed
        }
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._stack.callback(rclpy.try_shutdown)
        node = Node("bench")
        self._stack.callback(node.destroy_node)
        self.topics = {
            camera: [f"/{camera}/{RESULTS[name][0]}" for name in self.setting.results]
            for camera in self.setting.cameras
        }
        self.start("listener", self.listener_arguments("heard.json"), self.setting.peer_cores)
        born = time.monotonic()
        names = [f"node{number}" for number in range(len(self.setting.parameters))]
        cameras = f"[{', '.join(self.setting.cameras)}]"
        for name, parameters in zip(names, self.setting.parameters, strict=True):
            arguments = ["proto_mtl_ros.cli", "node", "--ros-args", "-r", f"__node:={name}"]
            for key, value in {"cameras": cameras, **parameters}.items():
                arguments += ["-p", f"{key}:={value}"]
            if self.setting.tell_fates:
                arguments += ["--log-level", f"{name}:=debug"]
            self.start(name, arguments, self.setting.node_cores)
        for name in names:
            client = LifecycleClient(node, f"/{name}", self.check)
            client.wait(_APPEAR_SECONDS)
            client.bring_up(self.children[name], _LOAD_SECONDS)
            client.close()
            self.start_seconds.append(time.monotonic() - born)
        self.wait(lambda: bool(self.status), "no node tells its diagnostics")

    def run(self, load: Load) -> LoadFigures:
        """Send a load and return its figures.

        Raises:
            ProtoMtlError: a process ended, or did not do its part.
        """
        self._loads += 1
        path = self.folder / f"sent{self._loads}.json"
        load = replace(load, cameras=self.setting.cameras, log=str(path))
        before = self.fresh_status()
        words = ["tools.performance.cameras", to_word(load)]
        cameras = self.start("cameras", words, self.setting.peer_cores, ends=True)
        clock, used = time.monotonic(), self._used()
        limit = clock + _APPEAR_SECONDS + 2 * load.seconds
        while cameras.status is None:
            events = {event["event"] for event in cameras.events()}
            if "started" in events:
                clock, used = time.monotonic(), self._used()
            if "sent" in events:
                break
            self.check()
            if time.monotonic() > limit:
                raise ProtoMtlError("the cameras did not send their images in time")
            time.sleep(0.02)
        seconds, now = time.monotonic() - clock, self._used()
        share = {name: (now[name] - used.get(name, 0.0)) / seconds for name in now}
        cameras.wait(10.0)
        self.check()
        cameras.stop()
        del self.children["cameras"]
        after = self.fresh_status()
        taken = {name: process_use(child.pid)["pss_mib"] for name, child in self.children.items()}
        heard = self.heard()
        return load_figures(
            StampLog.read(path), heard, self.topics, before, after, share=share, memory_mib=taken
        )

    def idle(self, seconds: float = 5.0) -> dict[str, float]:
        """Return the share of a core that each process takes while no image comes."""
        clock, used = time.monotonic(), self._used()
        time.sleep(seconds)
        now = self._used()
        return {name: (now[name] - used[name]) / (time.monotonic() - clock) for name in now}

    def listener_arguments(self, log: str) -> list[str]:
        """Return the command of a listener to all results, for ``start``."""
        topics = [
            f"{topic}={RESULTS[name][1]}"
            for of_camera in self.topics.values()
            for topic, name in zip(of_camera, self.setting.results, strict=True)
        ]
        return ["tools.performance.listener", str(self.folder / log), *topics]

    def check(self) -> None:
        """Raise ProtoMtlError when a process has failed."""
        for child in self.children.values():
            child.check()

    def start(
        self,
        name: str,
        arguments: list[str],
        cores: frozenset[int] | None = None,
        ends: bool = False,
    ) -> Child:
        """Start a Python process that ends with this context; its log is NAME.log."""
        log = self.folder / f"{name}.log"
        child = Child(name, arguments, self._environment, log, ends)
        self._stack.callback(child.stop)
        self.children[name] = child
        if cores is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(child.pid, cores)  # before it has other threads
        return child

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds(child.pid) for name, child in self.children.items()}

    def listen(self) -> None:
        """Take what the listener has told."""
        for event in self.children["listener"].events():
            if event["event"] == "heard":
                self.status, self._rounds = event["status"], event["rounds"]

    def fresh_status(self) -> dict[str, dict[str, str]]:
        """Return what /diagnostics says of each camera from now on, of all nodes together."""
        self.listen()
        nodes = len(self.setting.parameters)
        rounds = self._rounds
        # a second round is sure to have been counted after this call
        self.wait(lambda: self._rounds >= rounds + 2 * nodes, "no diagnostics come any more")
        found: dict[str, dict[str, str]] = {}
        for camera in self.setting.cameras:
            states = [v for k, v in self.status.items() if k.endswith(f": {camera}")]
            if len(states) != nodes:
                raise ProtoMtlError(f"{len(states)} of {nodes} nodes tell of {camera}")
            # a frame counts when the slowest of the nodes has it
            found[camera] = {
                key: str(min(int(state[key]) for state in states))
                for key in ("received", "processed")
            }
        return found

    def heard(self) -> StampLog:
        """Return what the listener has heard so far."""
        path = self.folder / "heard.json"
        os.kill(self.children["listener"].pid, signal.SIGUSR1)
        self.wait(path.exists, "the listener does not write its log")
        log = StampLog.read(path)
        path.unlink()
        return log

    def wait(self, done: Callable[[], bool], problem: str) -> None:
        """Wait for something; raises ProtoMtlError with the problem when it does not come."""
        end = time.monotonic() + _APPEAR_SECONDS
        while not done():
            self.check()
            self.listen()
            if time.monotonic() > end:
                raise ProtoMtlError(problem)
            time.sleep(0.02)
