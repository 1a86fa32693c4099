# SPDX-License-Identifier: Apache-2.0
"""Quality of service of every topic, in one place, each overridable by `qos_overrides`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:  # Iron and later
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


def sensor_input() -> QoSProfile:
    """Of images and camera_info: sensor data, so that every driver matches."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=5,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output(depth: int = 5, latched: bool = False) -> QoSProfile:
    """Of what the node publishes: reliable, and a few results deep.

    With a depth of 1 a result is lost wherever the next one is published before the transport has
    delivered it: at full load that happened to 2 in 100.

    latched: late subscribers get what was said before, too.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """History, depth and reliability can be set by parameters of the node."""
    return QoSOverridingOptions.with_default_policies()


def _incompatible(topic: str, report: Callable[[str, str], None]) -> Callable[[Any], None]:
    def callback(event: Any) -> None:
        # A peer that leaves raises the event too, with nothing new in it.
        if event.total_count_change > 0:
            report(topic, qos_policy_name_from_kind(event.last_policy_kind))

    return callback


def publisher_events(topic: str, report: Callable[[str, str], None]) -> PublisherEventCallbacks:
    """Events of a publisher: report(topic, policy) when a subscriber's QoS does not match."""
    return PublisherEventCallbacks(incompatible_qos=_incompatible(topic, report))


def subscription_events(
    topic: str, report: Callable[[str, str], None]
) -> SubscriptionEventCallbacks:
    """Events of a subscription: report(topic, policy) when a publisher's QoS does not match."""
    return SubscriptionEventCallbacks(incompatible_qos=_incompatible(topic, report))
