# SPDX-License-Identifier: Apache-2.0
"""Driving a lifecycle node from another process, through its services."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from proto_mtl_ros.errors import ProtoMtlError

CONFIGURE = Transition.TRANSITION_CONFIGURE
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
CLEANUP = Transition.TRANSITION_CLEANUP
SHUTDOWN = Transition.TRANSITION_UNCONFIGURED_SHUTDOWN

_NAMES = {CONFIGURE: "configure", ACTIVATE: "activate", DEACTIVATE: "deactivate",
          CLEANUP: "cleanup", SHUTDOWN: "shutdown"}  # fmt: skip


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

    def bring_up(self, patience: float, reason: Callable[[], str]) -> None:
        """Configure and activate; raises ProtoMtlError with the reason that the node gives."""
        for transition in (CONFIGURE, ACTIVATE):
            if not self.change(transition, patience):
                raise ProtoMtlError(f"the node could not start: {reason()}")

    def change(self, transition: int, timeout: float) -> bool:
        """Ask for a transition and return whether it was made."""
        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(self._change, request, timeout, _NAMES[transition]).success)

    def call(self, client: Any, request: Any, timeout: float, what: str) -> Any:
        """Call a service of the node; raises ProtoMtlError, "did not <what>", after the timeout."""
        end, text = time.monotonic() + timeout, f"the node did not {what} within {timeout:g} s"
        self._until(client.service_is_ready, end, f"{text}: see its log")  # else it would get lost
        future = client.call_async(request)
        self._until(future.done, end, f"{text}: see its log")
        return future.result()

    def close(self) -> None:
        """Stop serving the caller's node."""
        self._executor.shutdown()

    def _until(self, done: Callable[[], bool], end: float, problem: str) -> None:
        while not done():
            self._check()
            if time.monotonic() > end:
                raise ProtoMtlError(problem)
            self._executor.spin_once(timeout_sec=0.05)
