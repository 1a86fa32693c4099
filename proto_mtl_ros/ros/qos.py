# SPDX-License-Identifier: Apache-2.0
"""Quality of service of every topic, in one place, each overridable by `qos_overrides`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:  # Iron and later
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

TRANSIENT_LOCAL = DurabilityPolicy.TRANSIENT_LOCAL

# New profiles each time: rclpy writes the overrides into the one it is given.


def sensor_input() -> QoSProfile:
    """Of images and camera_info: sensor data, so that every driver matches."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def output(depth: int = 5) -> QoSProfile:
    """Of results. With a depth of 1 a result is lost wherever the next one is published before the
    transport has delivered it: at full load that happened to 2 in 100."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """Late subscribers get it, too."""
    profile = output(depth=1)
    profile.durability = TRANSIENT_LOCAL
    return profile


def overridable() -> QoSOverridingOptions:
    names = ("HISTORY", "DEPTH", "RELIABILITY", "DURABILITY")
    return QoSOverridingOptions([QoSPolicyKind[name] for name in names])


Report = Callable[[str, str], None]
"""Called with topic and policy where a peer's QoS does not match."""


def publisher_events(topic: str, report: Report) -> PublisherEventCallbacks:
    return PublisherEventCallbacks(incompatible_qos=_incompatible(topic, report))


def subscription_events(topic: str, report: Report) -> SubscriptionEventCallbacks:
    return SubscriptionEventCallbacks(incompatible_qos=_incompatible(topic, report))


def _incompatible(topic: str, report: Report) -> Callable[[Any], None]:
    def callback(event: Any) -> None:
        # A peer that leaves raises the event too, with nothing new in it.
        if event.total_count_change > 0:
            report(topic, qos_policy_name_from_kind(event.last_policy_kind))

    return callback
