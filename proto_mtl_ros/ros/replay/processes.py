# SPDX-License-Identifier: Apache-2.0
"""The processes of a replay: their environment, their output, their end; and asking a node."""

from __future__ import annotations

import importlib
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from proto_mtl_ros.errors import (
    EXIT_STATUSES,
    INPUT,
    INTERRUPTED,
    ConfigError,
    ProtoMtlError,
    file_trouble,
)
from proto_mtl_ros.files.installation import shared_file
from proto_mtl_ros.own_path import module_command
from proto_mtl_ros.ros.environment import use_writable_log_folder
from proto_mtl_ros.runtime.orphans import end_with_parent

DDS_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Fast DDS 2 (Humble, Jazzy) reads the first, Fast DDS 3 the second."""

_DOMAINS = range(1, 102)
"""Domains whose ports lie below the range that Linux gives to outgoing connections."""

_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "shutdown": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
}


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process as sys.exit does, so that files are finished."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def say_json(**fields: object) -> None:
    """Tell a parent process: one JSON object on a line of stdout; see ``Child.events``."""
    print(json.dumps(fields), flush=True)


@contextmanager
def own_node(name: str) -> Iterator[Node]:
    """Give a node, with ROS started for it; signals are left to the process."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node(name)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def run_process(name: str, work: Callable[[Node], None]) -> int:
    """Give ``work`` a node of its own; return an exit status, after an error of one line."""
    try:
        with own_node(f"proto_mtl_{name}") as node:
            work(node)
    except ProtoMtlError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"{name}: {file_trouble(error)}", file=sys.stderr)
        return INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def message_class(type_name: str) -> Any:
    """Return the class of ``package/msg/Type``; raises ConfigError when it is not installed."""
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"messages of type {type_name} are not installed") from None


def free_domain_id() -> int:
    """Return a ROS domain that no participant of this machine uses now."""
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        if all(_is_free(7400 + 250 * domain + offset) for offset in (0, 10, 11)):
            return domain
    raise ProtoMtlError("every ROS domain of this machine is in use: give one with --domain-id")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def adopt_environment(domain_id: int | None = None) -> dict[str, str]:
    """Set the environment of all processes of a replay and return it; before rclpy starts.

    This machine only, and large images: a Fast DDS profile that the user has set comes first. The
    ROS domain is a free one where none is given.
    """
    own = os.environ
    use_writable_log_folder()
    own["ROS_DOMAIN_ID"] = str(free_domain_id() if domain_id is None else domain_id)
    if own.get("ROS_DISTRO") == "humble":
        own["ROS_LOCALHOST_ONLY"] = "1"
    else:
        own["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        own.pop("ROS_LOCALHOST_ONLY", None)  # it would outrank the range
    if not own.get("AMENT_PREFIX_PATH"):
        own["AMENT_PREFIX_PATH"] = sys.prefix  # ROS from wheels: nothing was sourced
    profile = shared_file("config/fastdds_shm.xml")
    if profile is not None and not any(own.get(name) for name in DDS_PROFILE_VARIABLES):
        own.update(dict.fromkeys(DDS_PROFILE_VARIABLES, str(profile)))
    return {**own, "PYTHONUNBUFFERED": "1"}


_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[^\]]*\]: ")
"""What a ROS logger writes before its text: level, time, name."""


class Child:
    """A Python process that tells what it does by JSON objects on stdout.

    ``arguments`` begin with a module. The file ``log`` takes what it writes on stderr, and on
    stdout besides. One that ``ends`` does so by itself when its work is done; otherwise only
    :meth:`stop` may end it.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        ends: bool = False,
    ) -> None:
        self.name = name
        self._may_end = ends
        self._log_path = log
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._log = log.open("w", encoding="utf-8")
        # A session of its own: Ctrl-C reaches this process alone, which then ends its children in
        # order. Should it be killed, the kernel ends them.
        self._process = subprocess.Popen(
            module_command(*arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._events.put(json.loads(line))
            else:
                self._log.write(line)
                self._log.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def events(self) -> list[dict[str, Any]]:
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def last_lines(self, count: int = 4) -> str:
        text = self._log_path.read_text(encoding="utf-8", errors="replace")
        lines = [_LOG_PREFIX.sub("", line.strip()) for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-count:]) or "it left no log"

    def check(self) -> None:
        """Raise ProtoMtlError, with the end of its log, when it has failed or ended too early."""
        status = self.status
        if status is not None and (status or not self._may_end):
            self._reader.join(timeout=1)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            error = ProtoMtlError(
                f"the {self.name} {how}: {self.last_lines()} (all of it: {self._log_path})"
            )
            if status > 1 and status in EXIT_STATUSES:  # it knows best what is wrong
                error.exit_status = status
            raise error

    def stop(self, timeout: float = 10.0) -> None:
        """End it: SIGINT, then SIGTERM, then SIGKILL, each after waiting for its end."""
        self._may_end = self._may_end or self.status is None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.status is not None:
                break
            self._process.send_signal(number)
            self.wait(timeout if number is signal.SIGINT else 3.0)
        self._reader.join(timeout=2)
        self._log.close()

    def wait(self, timeout: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.status is not None


class LifecycleClient:
    """Calls the lifecycle services of a node, ``target`` such as ``/proto_mtl``, for another one.

    ``check`` is called while waiting; it may raise, for example because the process ended.
    """

    def __init__(self, node: Node, target: str, check: Callable[[], None]) -> None:
        self._target = target
        self._check = check
        self._change = node.create_client(ChangeState, f"{target}/change_state")
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def wait(self, timeout: float) -> None:
        """Return once the node's services are there; raises ProtoMtlError after ``timeout`` s."""
        self._until(
            self._change.service_is_ready,
            time.monotonic() + timeout,
            f"the node {self._target} did not appear within {timeout:g} s: "
            "is the machine overloaded, or multicast on the loopback blocked?",
        )

    def bring_up(self, child: Child, timeout: float) -> None:
        """Configure and activate; raises ProtoMtlError with the reason that its process gives."""
        for transition in ("configure", "activate"):
            if not self.change(transition, timeout):
                raise ProtoMtlError(f"the node could not start: {child.last_lines(1)}")

    def change(self, transition: str, timeout: float) -> bool:
        """Ask for a transition, such as "configure", and return whether it was made."""
        request = ChangeState.Request()
        request.transition.id = _TRANSITIONS[transition]
        return bool(self.call(self._change, request, timeout, transition).success)

    def call(self, client: Any, request: Any, timeout: float, what: str) -> Any:
        """Call a service of the node; raises ProtoMtlError, "did not <what>", after the timeout."""
        end, text = time.monotonic() + timeout, f"the node did not {what} within {timeout:g} s"
        self._until(client.service_is_ready, end, f"{text}: see its log")  # else it would get lost
        future = client.call_async(request)
        self._until(future.done, end, f"{text}: see its log")
        return future.result()

    def close(self) -> None:
        self._executor.shutdown()

    def _until(self, done: Callable[[], bool], end: float, problem: str) -> None:
        while not done():
            self._check()
            if time.monotonic() > end:
                raise ProtoMtlError(problem)
            self._executor.spin_once(timeout_sec=0.05)
