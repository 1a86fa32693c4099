# SPDX-License-Identifier: Apache-2.0
"""Read-only mode: who comes over the network can look at the node and start it, not change it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

REASON = "the node is read-only: to change anything start it anew with read_only:=false"

# What brings the node to active, so that launch files and lifecycle managers can start it.
_STARTING = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
}

# Services that only tell something, by type; any other changes something, also one yet to come.
# Parameters are set by the last two, which answer for each with what `judge` says.
_ALLOWED = frozenset(
    {
        "DescribeParameters",
        "GetAvailableStates",
        "GetAvailableTransitions",
        "GetParameters",
        "GetParameterTypes",
        "GetState",
        "GetTypeDescription",
        "ListParameters",
        "SetParameters",
        "SetParametersAtomically",
    }
)


def enforce(node: LifecycleNode, own_change: Callable[[], bool]) -> None:
    """Refuse from now on, with a reason, parameter changes and every service that changes.

    To be called when all parameters are declared and all services are there.
    own_change: whether the node is setting a parameter of its own at the moment.
    """

    def judge(changes: list[Parameter]) -> SetParametersResult:
        # The node itself declares the overrides of QoS when it makes a topic.
        if own_change() or not any(node.has_parameter(change.name) for change in changes):
            return SetParametersResult(successful=True)
        _warn(node, f"setting {', '.join(change.name for change in changes)}")
        return SetParametersResult(successful=False, reason=REASON)

    node.add_on_set_parameters_callback(judge)
    for service in node.services:
        kind = getattr(service.srv_type, "__name__", "")
        if kind == "ChangeState":
            service.callback = partial(_start_only, node, service.callback)
        elif kind not in _ALLOWED:
            service.callback = partial(_refuse, node, service.srv_name)
    node.get_logger().info("read-only: parameter changes and services that change are refused")


def _start_only(node: Any, change_state: Any, request: Any, response: Any) -> Any:
    asked = request.transition
    # As rclpy reads it: where there is a label, the number counts for nothing.
    label = asked.label or _STARTING.get(asked.id, str(asked.id))
    if label in _STARTING.values():
        return change_state(request, response)
    _warn(node, f"transition {label}")
    response.success = False
    return response


def _refuse(node: Any, name: str, _: Any, response: Any) -> Any:
    _warn(node, name)
    response.success, response.message = False, REASON
    return response


def _warn(node: Any, what: str) -> None:
    # Whoever asks again and again must not fill the log.
    node.get_logger().warning(f"{what} refused: {REASON}", throttle_duration_sec=10.0)
