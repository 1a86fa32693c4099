# SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its subscriptions, its newest frame, its result topics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from proto_mtl_ros.ros import (
    diagnostics,
    messages,
    qos,
)
from proto_mtl_ros.ros.calibration import Calibration
from proto_mtl_ros.ros.diagnostics import CameraStatistics
from proto_mtl_ros.ros.frame_fate import (
    PROCESSED,
    log_fate,
)
from proto_mtl_ros.ros.health import Health
from proto_mtl_ros.ros.output_rate import OutputRate
from proto_mtl_ros.ros.parameters import max_rate
from proto_mtl_ros.ros.rate_limit import RateLimit
from proto_mtl_ros.ros.stream_check import StreamCheck
from proto_mtl_ros.ros.topics import (
    LABEL_INFO,
    OUTPUTS,
)
from proto_mtl_ros.ros.troubles import (
    STALE,
    see,
)

_TYPES: dict[str, Any] = {
    "sensor_msgs/Image": Image,
    "sensor_msgs/CameraInfo": CameraInfo,
    "sensor_msgs/PointCloud2": PointCloud2,
}

_STALE_AFTER = 5.0
"""Times input_timeout after which a silent camera's status is stale."""


@dataclass(frozen=True)
class Frame:
    """An image message and the steady time of its arrival."""

    message: Any
    received: float


class CameraPort:
    """Topics and state of one camera.

    Callbacks run in the executor's thread and only store; `take`, `calibration.camera_for` and
    the publishers belong to the worker.
    """

    def __init__(
        self, node: LifecycleNode, name: str, values: dict[str, Any], wake: Callable[[], None]
    ) -> None:
        self.name = name
        self.statistics = CameraStatistics()
        self.publishers: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self._node = node
        self._wake = wake
        self._compressed = values["image_transport"] == "compressed"
        self._health = Health(name, node.get_logger())
        self._output_rate = OutputRate()
        self._stream = StreamCheck()
        self.calibration = Calibration(
            bool(values["rectified"]), self.statistics.count_camera_info, self.report_info
        )
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._mismatches: dict[str, str] = {}
        self._subscriptions: list[Any] = []
        self._label_publisher: Any = None
        self._limit = RateLimit()
        self._stamp_tolerance = self._input_timeout = 0.0
        self.configure(values)
        try:
            for output in OUTPUTS:
                message_type = _TYPES[output.type]
                self.publishers[output.name] = self._advertise(
                    message_type, output.name, qos.output()
                )
                self.messages[output.name] = message_type()
            if messages.LabelInfo is not None:
                self._label_publisher = self._advertise(
                    messages.LabelInfo, LABEL_INFO.name, qos.output(1, latched=True)
                )
        except Exception:  # e.g. an override that is no policy
            self.destroy()
            raise

    def _advertise(self, message_type: Any, output: str, profile: QoSProfile) -> Any:
        topic = f"{self.name}/{output}"
        return self._node.create_lifecycle_publisher(
            message_type,
            topic,
            profile,
            event_callbacks=qos.publisher_events(topic, self._on_incompatible),
            qos_overriding_options=qos.overridable(),
        )

    # Subscriptions live while the node is active: an inactive node does not even receive images.

    def subscribe(self) -> None:
        """Start to receive."""
        self.reset()
        image = f"{self.name}/image"
        image_type: Any = Image
        if self._compressed:
            # As image_transport does: a remapping of the base topic carries its transports along.
            image, image_type = (
                self._node.resolve_topic_name(image) + "/compressed",
                CompressedImage,
            )
        info = f"{self.name}/camera_info"
        for message_type, topic, callback in (
            (image_type, image, self._on_image),
            (CameraInfo, info, self.calibration.receive),
        ):
            self._mismatches.pop(topic, None)
            self._subscriptions.append(
                self._node.create_subscription(
                    message_type,
                    topic,
                    callback,
                    qos.sensor_input(),
                    event_callbacks=qos.subscription_events(topic, self._on_incompatible),
                    qos_overriding_options=qos.overridable(),
                )
            )
        topics = " and ".join(subscription.topic_name for subscription in self._subscriptions)
        self._node.get_logger().info(f"{self.name}: listening to {topics}")

    def unsubscribe(self) -> None:
        """Stop to receive, and forget what is waiting."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.reset("deactivated")
        self._health.forget()

    def destroy(self) -> None:
        """Remove all topics."""
        self.unsubscribe()
        for publisher in (*self.publishers.values(), self._label_publisher):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        self.publishers.clear()

    def reset(self, cause: str | None = None) -> None:
        """Forget the state of the stream; `cause` counts a waiting frame as dropped."""
        with self._lock:
            if self._frame is not None and cause:
                self.drop(self._frame.message, cause)
            self._frame = None
        self.calibration.reset()
        self.statistics.reset()
        self._stream.forget()
        self._output_rate.forget()

    def configure(self, values: dict[str, Any]) -> None:
        """Go by these values of the parameters that may change at any time."""
        rate = max_rate(values, self.name)
        if rate != self._limit.rate:
            self._limit = RateLimit(rate)
        self._stamp_tolerance = values["stamp_tolerance"]
        self._input_timeout = values["input_timeout"]
        self._health.hold = values["trouble_hold"]

    def _on_image(self, message: Any) -> None:
        self.statistics.count_received()
        self._check_stream(message)
        if not self._limit.admits(time.monotonic()):
            self.skip(message, "max_rate")
            return
        with self._lock:
            if self._frame is not None:
                self.drop(self._frame.message, "overwritten")
            self._frame = Frame(message, time.monotonic())
        self._wake()

    def _check_stream(self, message: Any) -> None:
        """Tell what is odd about an image beside the one before it."""
        stamp = message.header.stamp
        for cause, text in self._stream.check(
            stamp.sec * 1_000_000_000 + stamp.nanosec,
            self._node.get_clock().now().nanoseconds,
            self._stamp_tolerance,
            message.format if self._compressed else message.encoding,
        ):
            self.report_info(cause, text)

    def _on_incompatible(self, topic: str, policy: str) -> None:
        self._mismatches[topic] = policy
        self._see_mismatch(topic)

    def _see_mismatch(self, topic: str) -> None:
        text = f"{topic}: a peer's QoS does not match ({self._mismatches[topic]})"
        see(self._health, "incompatible_qos", text, about=topic)

    def _all_matched(self, topic: str) -> bool:
        """Whether the peers whose QoS did not match have left; of outputs alone it is known."""
        outputs = self.publishers | {LABEL_INFO.name: self._label_publisher}
        publisher = outputs.get(topic.removeprefix(f"{self.name}/"))
        if publisher is None:
            return False
        peers = self._node.count_subscribers(publisher.topic_name)
        return bool(peers <= publisher.get_subscription_count())

    # For the worker.

    @property
    def waiting(self) -> bool:
        """Whether a frame waits to be processed."""
        return self._frame is not None

    def take(self) -> Frame | None:
        """The newest frame, which the caller now owns."""
        with self._lock:
            frame, self._frame = self._frame, None
        return frame

    def wanted(self) -> set[str]:
        """Names of the results that somebody subscribes to."""
        return {
            name
            for name, publisher in self.publishers.items()
            if publisher.get_subscription_count() > 0
        }

    def drop(self, message: Any, cause: str) -> None:
        """Count an image that someone wanted and that is not processed."""
        self.statistics.count_drop(cause)
        self._log_fate(message, cause)

    def skip(self, message: Any, cause: str) -> None:
        """Count an image that nobody wanted."""
        self.statistics.count_skip(cause)
        self._log_fate(message, cause)

    def renew_messages(self) -> None:
        """Write into other messages from now on: a worker that was left behind may hold these."""
        self.messages = {name: type(message)() for name, message in self.messages.items()}

    def fail(self, message: Any, text: str) -> None:
        """Count an image that the engine or our own code failed on; `text` says how."""
        self.statistics.count_drop("engine_error")
        see(self._health, "engine_error", f"a frame failed: {text}")
        self._log_fate(message, "engine_error")

    def finish(self, message: Any, latencies_ms: dict[str, float]) -> None:
        """Count an image whose results are published."""
        self.statistics.count_processed(latencies_ms)
        self._log_fate(message, PROCESSED)

    def _log_fate(self, message: Any, fate: str) -> None:
        log_fate(self._node.get_logger(), self.name, message, fate)

    def report_bad(self, message: Any, cause: str, text: str) -> None:
        """Count an image that cannot be used."""
        self._log_fate(message, cause)
        self.statistics.count_bad(cause)
        see(self._health, cause, text)

    def report_info(self, cause: str, text: str) -> None:
        """Count what is wrong beside the images, none of which is lost by it."""
        self.statistics.count_info(cause)
        see(self._health, cause, text)

    def publish_labels(self, classes: list[str], threshold: int) -> None:
        """Publish the class names, latched, where vision_msgs is installed."""
        if self._label_publisher is not None:
            self._label_publisher.publish(messages.label_info(classes, threshold))

    def diagnose(self, active: bool, enabled: bool) -> DiagnosticStatus:
        """Status of this camera for /diagnostics; to be called about once a second."""
        if active:
            self._look()
        values = self.statistics.values()
        calibration = self.calibration
        values |= {"camera_info": calibration.state, "image_size": calibration.image_size}
        for topic, policy in self._mismatches.items():
            if not self._all_matched(topic):
                values[f"incompatible_qos.{topic}"] = policy
        state = "not active" if not active else "processing" if enabled else "disabled by ~/enable"
        values["state"] = state
        return diagnostics.status(
            f"{self._node.get_name()}: {self.name}",
            self.name,
            values,
            self._health.report(),
            state,
        )

    def _look(self) -> None:
        """See the troubles that last, beside those that come with a message."""
        for topic in self._mismatches:
            if not self._all_matched(topic):
                self._see_mismatch(topic)
        silence = self.statistics.seconds_without_input()
        if silence > self._input_timeout:
            level = STALE if silence > _STALE_AFTER * self._input_timeout else None
            topic = self._subscriptions[0].topic_name
            number = self._node.count_publishers(topic)
            text = f"no image for {silence:.0f} s; publishers of {topic}: {number}"
            see(self._health, "no_image", text, level)
        elif self.calibration.trouble is not None:
            see(self._health, *self.calibration.trouble)
        late = self._output_rate.check(time.monotonic(), self.statistics.counts())
        if late is not None:
            see(self._health, *late)
