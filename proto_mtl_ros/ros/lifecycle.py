# SPDX-License-Identifier: Apache-2.0
"""Lifecycle callbacks that say what went wrong."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from proto_mtl_ros.errors import ProtoMtlError, one_line

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def guarded(on_exception: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """Log what a lifecycle callback raises, which rclpy would swallow without a word."""

    def decorate(callback: Transition) -> Transition:
        name = callback.__name__.removeprefix("on_")

        @functools.wraps(callback)
        def wrapper(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return callback(node, state)
            except Exception as error:
                kind = "" if isinstance(error, ProtoMtlError) else f"{type(error).__name__}: "
                node.get_logger().error(f"{name} failed: {kind}{one_line(error, 1000)}")
                node.get_logger().debug(traceback.format_exc())
            return on_exception

        return wrapper

    return decorate


def answer_impossible_transitions(node: Any) -> None:
    """Answer a request that the current state does not allow with success = false.

    rclpy raises instead, so that the caller would wait for ever.
    """
    service = getattr(node, "_service_change_state", None)
    if service is None:
        return
    change_state = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return change_state(request, response)
        except Exception as error:
            asked = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition {asked} is not possible now")
            node.get_logger().debug(str(error))
            response.success = False
            return response

    service.callback = answer
