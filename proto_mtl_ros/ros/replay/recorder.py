# SPDX-License-Identifier: Apache-2.0
"""Records topics over ROS into a rosbag2 (mcap).

``python -m proto_mtl_ros.ros.replay.recorder OUT NAME=TYPE ...`` is the recorder process of a
replay: it prints one JSON object a line on stdout and finishes its recording at SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from proto_mtl_ros.data.bags.message_types import decode, typestore
from proto_mtl_ros.data.bags.stamp_log import StampLog, header_stamp
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import BagError, ConfigError, ProtoMtlError, file_trouble
from proto_mtl_ros.ros.replay.processes import message_class, run_process, say_json

DIAGNOSTICS = "/diagnostics"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
_HISTORY = 20
_WAITING_MESSAGES = 100
_REPORT_SECONDS = 0.2


class Recorder:
    """Subscribes to topics, ROS type by name, and writes what arrives; messages stay serialised.

    A thread of its own compresses and writes, so that times of arrival, of which a ``log`` is kept,
    are not late by it. LabelInfo topics are subscribed as latched ones. ``diagnostics``: what
    /diagnostics said last, values by status name. Raises ConfigError when a type is not installed.
    """

    def __init__(self, node: Node, writer: BagWriter, topics: Mapping[str, str]) -> None:
        self._node = node
        self._writer = writer
        self._topics = dict(topics)
        self._has_header: dict[str, bool] = {}
        self.log = StampLog()
        self.diagnostics: dict[str, dict[str, str]] = {}
        self._queue: queue.Queue[tuple[str, int, bytes] | None] = queue.Queue(_WAITING_MESSAGES)
        self._error: BagError | None = None
        self._thread = threading.Thread(target=self._write)
        for name, kind in topics.items():
            received, qos = message_class(kind), QoSProfile(depth=_HISTORY)
            if kind == LABEL_INFO:
                qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
            writer.add_topic(name, kind, latched=kind == LABEL_INFO)
            fields = typestore().get_msgdef(kind).fields
            self._has_header[name] = bool(fields) and fields[0][0] == "header"
            node.create_subscription(received, name, partial(self._receive, name), qos, raw=True)
        self._thread.start()

    def _receive(self, name: str, data: bytes) -> None:
        now = time.monotonic_ns()
        data = bytes(data)
        self._queue.put((name, time.time_ns(), data))
        self.log.add(name, header_stamp(data) if self._has_header[name] else 0, now)
        if name == DIAGNOSTICS:
            for status in decode(self._topics[name], data).status:
                self.diagnostics[status.name] = {item.key: item.value for item in status.values}

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._writer.write(*item)
            except BagError as error:  # a full disk, for example
                self._error = error

    def close(self) -> None:
        """Write what is waiting; raises BagError when not everything could be written."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def record(self, stop: threading.Event) -> None:
        """Record until ``stop`` is set or the disk refuses; stdout is told how far it is."""
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)
        waiting = list(self._topics)
        next_report = 0.0
        while not stop.is_set() and self._error is None:
            executor.spin_once(timeout_sec=_REPORT_SECONDS)
            if time.monotonic() < next_report:
                continue
            next_report = time.monotonic() + _REPORT_SECONDS
            waiting = [name for name in waiting if not self._node.count_publishers(name)]
            counts = {name: len(stamps) for name, stamps in self.log.stamps.items()}
            diagnostics = counts.pop(DIAGNOSTICS, 0)
            results = max(counts.values(), default=0)
            say_json(
                results=results, diagnostics=diagnostics, waiting=waiting, status=self.diagnostics
            )


def _topics(items: Iterable[str]) -> dict[str, str]:
    pairs = {item: item.partition("=") for item in items}
    for item, (name, _, kind) in pairs.items():
        if not name or not kind:
            raise ConfigError(f"{item} is not NAME=TYPE: for example /tf=tf2_msgs/msg/TFMessage")
    return {name: kind for name, _, kind in pairs.values()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recorder", description="Record topics into a rosbag2.")
    parser.add_argument("out", type=Path, help="folder of the new recording")
    parser.add_argument("topics", nargs="+", metavar="NAME=TYPE")
    parser.add_argument("--log", type=Path, help="JSON of stamps and times of arrival")
    parser.add_argument(
        "--replace", action="store_true", help="a recording that was cut off before is not kept"
    )
    given = parser.parse_args(argv)
    stop = threading.Event()  # a signal must not cut a message that is being written

    def record(node: Node) -> None:
        topics = _topics(given.topics)
        # what a replay gives can be replayed; what a robot has seen is not seen again
        writer = BagWriter(given.out, keep_cut=not given.replace)
        for kept in writer.kept:
            print(f"recorder: a recording that was cut off is now {kept}", file=sys.stderr)
        writer.kept.clear()
        try:
            with writer, closing(Recorder(node, writer, topics)) as recorder:
                recorder.record(stop)
            if given.log is not None:
                recorder.log.write(given.log)
        except (ProtoMtlError, OSError) as error:
            if not writer.kept:
                raise
            text = file_trouble(error) if isinstance(error, OSError) else str(error)
            raise BagError(f"{text}; what was recorded before is in {writer.kept[0]}") from None

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return run_process("recorder", record)


if __name__ == "__main__":
    raise SystemExit(main())
