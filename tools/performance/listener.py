# SPDX-License-Identifier: Apache-2.0
"""A subscriber that takes results and looks at nothing but their stamps.

    python -m tools.performance.listener <log> <topic>=<type>...

It says what /diagnostics says, and at SIGUSR1 writes its log and begins another.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from proto_mtl_ros.data.bags.stamp_log import StampLog, header_stamp
from proto_mtl_ros.ros.replay.processes import message_class, say_json

_REPORT_SECONDS = 0.25

_HISTORY = 100
"""Messages that may wait for this process: what is lost shall be what the transport loses."""


class Listener:
    """Subscribes to topics; messages stay serialised."""

    def __init__(self, node: Node, topics: dict[str, str]) -> None:
        self.log = StampLog()
        self.status: dict[str, dict[str, str]] = {}
        self.rounds = 0
        self._subscriptions: list[Any] = [
            node.create_subscription(
                message_class(kind), name, partial(self._receive, name), QoSProfile(depth=_HISTORY),
                raw=True,
            )
            for name, kind in topics.items()
        ]  # fmt: skip
        self._subscriptions.append(
            node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        )

    def _receive(self, name: str, data: bytes) -> None:
        self.log.add(name, header_stamp(data), time.monotonic_ns())

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status[status.name] = {item.key: item.value for item in status.values}
            level = int.from_bytes(status.level, "little")
            self.status[status.name] |= {"level": str(level), "message": status.message}
        self.rounds += 1


def main(arguments: list[str]) -> int:
    """Listen until SIGINT or SIGTERM."""
    stop, write = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: write.set())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    path, *topics = arguments
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("bench_listener")
    listener = Listener(node, dict(topic.split("=") for topic in topics))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    said = 0.0
    while not stop.is_set():
        executor.spin_once(timeout_sec=_REPORT_SECONDS)
        if write.is_set():
            write.clear()
            listener.log.write(Path(path))
            listener.log = StampLog()
        if time.monotonic() - said >= _REPORT_SECONDS:
            said = time.monotonic()
            say_json(event="heard", status=listener.status, rounds=listener.rounds)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
