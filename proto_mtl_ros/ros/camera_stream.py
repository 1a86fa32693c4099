# SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its subscriptions, the images that come, and its state."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from proto_mtl_ros.errors import ProtoMtlError, one_line
from proto_mtl_ros.ros import qos
from proto_mtl_ros.ros.decoding import Decoder, Frame
from proto_mtl_ros.ros.diagnostic_table import STALE
from proto_mtl_ros.ros.diagnostics import Diagnostics, named, status
from proto_mtl_ros.ros.outcomes import Outcomes, recent_rate
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.results import Results

STAMP_TOLERANCE = 5.0  # seconds that an image's stamp may differ from the node's clock
_STALE_AFTER = 5.0  # times input_timeout after which a silent camera's status is stale

_EARLY = 0.25
"""Share of a period that a frame may come early: cameras are not as regular as their rate."""

_SECOND = 1_000_000_000


class Inbox(Protocol):
    """Where the newest frame of each camera waits for the engine."""

    def put(self, stream: CameraStream, frame: Frame) -> None: ...

    def withdraw(self, stream: CameraStream) -> Frame | None: ...


class CameraStream:
    """Topics and state of one camera.

    Everything but `decoder.decode`, `results.publish`, `outcomes` and `fail` belongs to the
    executor's thread.
    """

    def __init__(
        self, node: LifecycleNode, name: str, parameters: Parameters, inbox: Inbox
    ) -> None:
        self.name, self.inbox = name, inbox  # which may be replaced
        self._node, self._parameters = node, parameters
        logger = node.get_logger()
        self.diagnostics = Diagnostics(name, logger)
        self.outcomes = Outcomes(name, logger)
        self.decoder = Decoder(parameters.rectified, self.diagnostics.count)
        self._check = StreamCheck()
        self._limit = RateLimit(parameters.max_rate_of(name))
        self._received = 0
        self._born = time.monotonic()
        self._arrivals: deque[float] = deque(maxlen=2048)
        self._mismatches: dict[str, str] = {}
        self._subscriptions: list[Any] = []
        self.results = Results(node, name, self._on_incompatible)

    # Subscriptions live while the node is active: an inactive node does not even receive images.

    def subscribe(self) -> None:
        self.reset()
        image, image_type = f"{self.name}/image", Image
        if self._parameters.image_transport == "compressed":
            # As image_transport does: a remapping of the base topic carries its transports along.
            base = self._node.resolve_topic_name(image)
            image = base.removesuffix("/compressed") + "/compressed"
            image_type = CompressedImage
        for message_type, topic, callback in (
            (image_type, image, self._on_image),
            (CameraInfo, f"{self.name}/camera_info", self.decoder.receive),
        ):
            self._mismatches.pop(topic, None)
            self._listen(message_type, topic, callback, qos.sensor_input(), qos.overridable())
        topics = " and ".join(subscription.topic_name for subscription in self._subscriptions)
        self._node.get_logger().info(f"{self.name}: listening to {topics}")

    def _listen(
        self, kind: Any, topic: str, callback: Any, profile: Any, options: Any = None
    ) -> None:
        events = qos.subscription_events(topic, self._on_incompatible)
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                profile,
                event_callbacks=events,
                qos_overriding_options=options,
            )
        )

    def _hear_latched(self) -> None:
        """Ask for a camera_info that was published once. Only where it is offered: to ask all
        drivers would make those warn that do not offer it."""
        image, info, *latched = self._subscriptions
        peers = self._node.get_publishers_info_by_topic(info.topic_name)
        offered = any(peer.qos_profile.durability == qos.TRANSIENT_LOCAL for peer in peers)
        if offered and not latched:
            topic = info.topic_name
            self._listen(CameraInfo, topic, self.decoder.receive, qos.latched())

    def unsubscribe(self) -> None:
        """Stop to receive, and forget what is waiting."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.reset("deactivated")
        self.diagnostics.forget()

    def destroy(self) -> None:
        self.unsubscribe()
        self.results.destroy()

    def reset(self, cause: str = "") -> None:
        """Forget the state of the stream; `cause` counts a waiting frame as dropped."""
        waiting = self.inbox.withdraw(self)
        if waiting is not None and cause:
            self.outcomes.drop(waiting, cause)
        self._born = time.monotonic()
        self._arrivals.clear()
        self._check = StreamCheck()
        self.decoder.reset()
        self.outcomes.reset()

    def configure(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._limit.rate = parameters.max_rate_of(self.name)

    def _on_image(self, message: Any) -> None:
        now = time.monotonic()
        self._received += 1
        self._arrivals.append(now)
        for cause, text in self._check.odd(message, self._node.get_clock().now().nanoseconds):
            self.diagnostics.count(cause, text)
        parameters, topics = self._parameters, self.results.topics
        wanted = frozenset(
            name
            for name, publisher in self.results.publishers.items()
            if parameters.force_inference or publisher.get_subscription_count() > 0
        )
        needed = frozenset[str]().union(*(topics[name].needs for name in wanted))
        frame = Frame(message, now, wanted, needed)
        if not self._limit.admits(now):
            self.outcomes.skip(frame, "max_rate")
        elif not parameters.enabled:
            self.outcomes.skip(frame, "disabled")
        elif not wanted:
            self.outcomes.skip(frame, "no_subscribers")
        else:
            self.inbox.put(self, frame)

    def refuse(self, frame: Frame, cause: str, text: str) -> None:
        self.outcomes.refuse(frame, cause)
        self.diagnostics.see(cause, text)

    def fail(self, frame: Frame, error: Exception) -> None:
        """Count and tell of an image that the engine or our own code failed on."""
        kind = "" if isinstance(error, ProtoMtlError) else f"{type(error).__name__}: "
        self.outcomes.drop(frame, "engine_error")
        self.diagnostics.see("engine_error", f"a frame failed: {kind}{one_line(error)}")

    # What /diagnostics says of it.

    def diagnose(self, active: bool) -> DiagnosticStatus:
        """Status of this camera for /diagnostics; to be called about once a second."""
        if active:
            self._look()
        values = {
            "rate_in_hz": f"{recent_rate(self._arrivals, self._born):.2f}",
            "received": str(self._received),
            **self.outcomes.values(),
            **self.diagnostics.values(),
            **self.decoder.values(),
        }
        for topic, policy in self._mismatches.items():
            if not self._all_matched(topic):
                values[f"incompatible_qos.{topic}"] = policy
        state = "processing" if self._parameters.enabled else "disabled by ~/enable"
        values["state"] = state = state if active else "not active"
        name = f"{named(self._node)}: {self.name}"
        return status(name, self.name, values, self.diagnostics.report(), state)

    def _look(self) -> None:
        for topic in self._mismatches:
            if not self._all_matched(topic):
                self._see_mismatch(topic)
        timeout = self._parameters.input_timeout
        silence = time.monotonic() - (self._arrivals[-1] if self._arrivals else self._born)
        if silence > timeout:
            topic = self._subscriptions[0].topic_name
            wanted = (
                "CompressedImage" if self._subscriptions[0].msg_type is CompressedImage else "Image"
            )
            types = {p.topic_type for p in self._node.get_publishers_info_by_topic(topic)}
            number = self._node.count_publishers(topic)
            text = f"no image for {silence:.0f} s; publishers of {topic}: {number}"
            others = sorted(types - {f"sensor_msgs/msg/{wanted}"})
            if others:
                text += f", of type {', '.join(others)} and not sensor_msgs/msg/{wanted}"
            level = STALE if silence > _STALE_AFTER * timeout else None
            self.diagnostics.see("no_image", text, level)
        elif self.decoder.finding is not None:
            self.diagnostics.see(*self.decoder.finding)
        if not self.decoder.informed:
            self._hear_latched()
        late = self.outcomes.lateness(self._received)
        if late is not None:
            self.diagnostics.see(*late)

    def _on_incompatible(self, topic: str, policy: str) -> None:
        self._mismatches[topic] = policy
        self._see_mismatch(topic)

    def _see_mismatch(self, topic: str) -> None:
        text = f"{topic}: a peer's QoS does not match ({self._mismatches[topic]})"
        self.diagnostics.see("incompatible_qos", text, about=topic)

    def _all_matched(self, topic: str) -> bool:
        """Whether the peers whose QoS did not match have left; of outputs alone it is known."""
        publisher = self.results.publishers.get(topic.removeprefix(f"{self.name}/"))
        if publisher is None:
            return False
        peers = self._node.count_subscribers(publisher.topic_name)
        return bool(peers <= publisher.get_subscription_count())


class StreamCheck:
    """Compares each image with the one before it and with the node's clock."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._encoding = ""

    def odd(self, message: Any, now: int) -> list[tuple[str, str]]:
        """Cause and text of each thing that is odd about an image that has just come.

        now: nanoseconds of the node's clock; 0 while it has no time yet.
        """
        found = []
        stamp = message.header.stamp.sec * _SECOND + message.header.stamp.nanosec
        encoding = message.format if isinstance(message, CompressedImage) else message.encoding
        if self._encoding not in ("", encoding):
            text = f"images were {self._encoding} and are {encoding} now"
            found.append(("encoding_changed", text))
        self._encoding = encoding
        if not message.header.frame_id:
            found.append(("frame_id_empty", "images have an empty frame_id"))
        if stamp == 0:
            return [*found, ("stamp_zero", "an image has the stamp 0")]
        if self._last is not None and stamp < self._last:
            text = f"an image is {_duration(self._last - stamp)} older than the one before it"
            found.append(("stamp_backwards", text))
        self._last = stamp
        if now and abs(now - stamp) > STAMP_TOLERANCE * _SECOND:
            cause, side = ("stamp_past", "behind") if stamp < now else ("stamp_future", "ahead of")
            text = f"stamps are {_duration(abs(now - stamp))} {side} this node's clock"
            found.append((cause, text))
        return found


def _duration(nanoseconds: int) -> str:
    seconds = nanoseconds / _SECOND
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"


class RateLimit:
    """Admits frames by a schedule, so that the mean rate keeps to the limit.

    A camera of 30 Hz limited to 20 gets two frames of three, not every other one.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate  # frames a second, 0 for no limit; it may be changed
        self._due: float | None = None

    def admits(self, now: float) -> bool:
        """Whether a frame that came at ``now``, in seconds, is one to process."""
        if self.rate <= 0.0:
            return True
        period = 1.0 / self.rate
        if self._due is None or now >= self._due + period:
            self._due = now + period  # after a pause the schedule begins anew
            return True
        if now < self._due - _EARLY * period:
            return False
        self._due += period
        return True
