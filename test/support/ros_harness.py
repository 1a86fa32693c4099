# SPDX-License-Identifier: Apache-2.0
"""Real ROS for tests: the node in a process of its own, and a client that drives it over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ros_domain import claim_domain

REPOSITORY = Path(__file__).resolve().parents[2]
DOMAIN = claim_domain()
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(DOMAIN),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_LOCALHOST_ONLY": "1",
    "ROS_PYTHON_CHECK_FIELDS": "1",
    "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(REPOSITORY / "config" / "fastdds_shm.xml"),
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
}
os.environ.update(ENVIRONMENT)
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
if os.environ.get("ROS_DISTRO", "jazzy") != "humble":
    del os.environ["ROS_LOCALHOST_ONLY"]  # deprecated by the discovery range, and noisy

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402

PATIENCE = 30.0
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The first true value of `condition`; fails with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout:g} s for {what}")
        time.sleep(0.01)


@contextmanager
def plain_node(name: str) -> Iterator[Any]:
    """A node in a context of its own, on the domain of the tests; it is not spun."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    node = rclpy.create_node(name, context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


class NodeProcess:
    """`proto-mtl node` with parameters, its output in a file."""

    def __init__(
        self,
        log: Path,
        parameters: dict[str, str] | None = None,
        arguments: list[str] | None = None,
        program: Sequence[str | Path] = ("-m", "proto_mtl_ros.cli", "node"),
    ) -> None:
        command = [sys.executable, *map(str, program), "--ros-args"]
        for name, value in (parameters or {}).items():
            command += ["-p", f"{name}:={value}"]
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command + (arguments or []),
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
            )

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def end(self, number: int = signal.SIGINT, timeout: float = PATIENCE) -> int:
        """Send a signal and return the exit status; kills what does not end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the node did not end on signal {number}; it wrote:\n{self.output}")


class Collector:
    """Keeps all messages of a topic."""

    def __init__(
        self, client: Client, message_type: Any, topic: str, qos: QoSProfile | None = None
    ) -> None:
        self.messages: list[Any] = []
        self._client = client
        self.subscription = client.node.create_subscription(
            message_type, topic, self.messages.append, qos or QoSProfile(depth=50)
        )

    def close(self) -> None:
        """Unsubscribe."""
        self._client.run(lambda: self._client.node.destroy_subscription(self.subscription))

    def stamps(self) -> list[tuple[int, int]]:
        """Stamps of the messages in order of arrival."""
        return [(m.header.stamp.sec, m.header.stamp.nanosec) for m in list(self.messages)]


class Client:
    """The tests' side of the node's services and topics."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node(f"client_{os.getpid()}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.target = "/proto_mtl"
        self._clients: dict[str, Any] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.diagnostics = self.collect(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))

    def _spin(self) -> None:
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def run(self, action: Callable[[], Any]) -> None:
        """Run in the thread that spins, which must not hold what is being destroyed."""
        wait_for(self._executor.create_task(action).done, "the client's thread")

    def close(self) -> None:
        """End the client."""
        self._ended.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def call(self, service_type: Any, name: str, request: Any, timeout: float = PATIENCE) -> Any:
        """Call a service of the node; `name` is relative to it."""
        future = self.send(service_type, name, request, timeout)
        wait_for(future.done, f"an answer of {self.target}/{name}", timeout)
        return future.result()

    def send(self, service_type: Any, name: str, request: Any, timeout: float = PATIENCE) -> Any:
        """Call a service without waiting for the answer; returns the future."""
        key = f"{self.target}/{name}"
        if key not in self._clients:
            self._clients[key] = self.node.create_client(service_type, key)
            self._shake_hands(key, service_type, timeout)
        return self._clients[key].call_async(request)

    def _shake_hands(self, key: str, service_type: Any, timeout: float) -> None:
        """Make sure that answers arrive: those sent before the way back is discovered get lost.

        An empty request changes nothing in the services used here, except those of std_srvs.
        """
        client = self._clients[key]
        assert client.wait_for_service(timeout), f"no service {key}"
        if service_type.__module__.startswith("std_srvs"):
            time.sleep(1.0)
            return
        answers: list[Any] = []

        def answered() -> bool:
            answers.append(client.call_async(service_type.Request()))
            end = time.monotonic() + 1.0
            while time.monotonic() < end and not any(answer.done() for answer in answers):
                time.sleep(0.005)
            return any(answer.done() for answer in answers)

        wait_for(answered, f"an answer of {key}", timeout)

    def change_state(self, transition: str) -> bool:
        """configure, activate, deactivate or cleanup; returns whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        """The label of the lifecycle state."""
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def set_parameters(self, **values: Any) -> list[Any]:
        """Set parameters one by one; returns the results (successful, reason)."""
        request = SetParameters.Request(
            parameters=[Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        )
        return list(self.call(SetParameters, "set_parameters", request).results)

    def parameter(self, name: str) -> Any:
        """A parameter's value."""
        from rclpy.parameter import parameter_value_to_python

        answer = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(answer.values[0])

    def descriptor(self, name: str) -> Any:
        """A parameter's descriptor."""
        request = DescribeParameters.Request(names=[name])
        return self.call(DescribeParameters, "describe_parameters", request).descriptors[0]

    def publisher(self, message_type: Any, topic: str, depth: int = 10) -> Any:
        """A reliable publisher."""
        return self.node.create_publisher(
            message_type, topic, QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        )

    def collect(self, message_type: Any, topic: str, qos: QoSProfile | None = None) -> Collector:
        """Collect the messages of a topic."""
        return Collector(self, message_type, topic, qos)

    def status(self, name: str, fresh: bool = True) -> Any:
        """The DiagnosticStatus `<node>: name`; `fresh` waits for one made after the call."""
        seen, now = len(self.diagnostics.messages), time.time()

        def arrived() -> bool:
            new = list(self.diagnostics.messages)[seen:]
            # With simulated time stamps tell nothing; the second message is made after the call.
            return len(new) >= 2 or any(
                m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec > now for m in new
            )

        if fresh:
            wait_for(arrived, "diagnostics")
        full = f"{self.target.lstrip('/')}: {name}"

        def find() -> Any:
            for message in reversed(list(self.diagnostics.messages)):
                for status in message.status:
                    if status.name == full:
                        return status
            return None

        return wait_for(find, f"the status {full}")

    def values(self, name: str) -> dict[str, str]:
        """The key-value pairs of a fresh status."""
        return {pair.key: pair.value for pair in self.status(name).values}


@contextmanager
def driving(*processes: NodeProcess) -> Iterator[Client]:
    """A client for several nodes; those that still run at the end are killed."""
    client = Client()
    try:
        yield client
    finally:
        for process in processes:
            process.end(signal.SIGKILL)
        client.close()
