# SPDX-License-Identifier: Apache-2.0
"""The result topics of one camera: from a prediction to messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from proto_mtl_ros.geometry import depth_to_points, resize
from proto_mtl_ros.ros import messages, qos
from proto_mtl_ros.ros.decoding import Frame
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.topics import CAMERA_INFO, LABEL_INFO, POINTS, result_topics
from proto_mtl_ros.runtime.predictor import Prediction
from proto_mtl_ros.tasks import IGNORE_INDEX, TopicSettings
from proto_mtl_ros.tasks.depth import out_of_range

_TYPES: dict[str, Any] = {
    "sensor_msgs/Image": Image,
    "sensor_msgs/CameraInfo": CameraInfo,
    "sensor_msgs/PointCloud2": PointCloud2,
}


class Results:
    """Publishers of one camera and the messages that they write; `publish` belongs to the worker.

    on_incompatible: called with topic and policy.
    """

    def __init__(
        self, node: LifecycleNode, camera: str, on_incompatible: Callable[[str, str], None]
    ) -> None:
        self._node, self._camera, self._on_incompatible = node, camera, on_incompatible
        self.topics = {topic.name: topic for topic in result_topics()}
        self.publishers: dict[str, Any] = {}
        self._labels: Any = None
        try:
            for topic in self.topics.values():
                kind = _TYPES[topic.type]
                self.publishers[topic.name] = self._advertise(kind, topic.name, qos.output())
            if messages.LabelInfo is not None:
                self._labels = self._advertise(messages.LabelInfo, LABEL_INFO.name, qos.latched())
        except Exception:  # e.g. an override that is no policy
            self.destroy()
            raise
        self.renew_messages()

    def _advertise(self, message_type: Any, name: str, profile: QoSProfile) -> Any:
        topic = f"{self._camera}/{name}"
        return self._node.create_lifecycle_publisher(
            message_type,
            topic,
            profile,
            event_callbacks=qos.publisher_events(topic, self._on_incompatible),
            qos_overriding_options=qos.overridable(),
        )

    def renew_messages(self) -> None:
        """Write into other messages from now on: a worker that was left behind may hold these."""
        self._messages = {name: _TYPES[topic.type]() for name, topic in self.topics.items()}

    def destroy(self) -> None:
        for publisher in (*self.publishers.values(), self._labels):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        self.publishers.clear()

    def publish_labels(self, classes: list[str], threshold: int) -> None:
        """Publish the class names, latched, where vision_msgs is installed."""
        if self._labels is not None:
            self._labels.publish(messages.label_info(classes, threshold))

    def publish(
        self,
        frame: Frame,
        prediction: Prediction,
        palette: npt.NDArray[np.uint8],
        parameters: Parameters,
    ) -> None:
        """Publish what the frame is wanted for and the prediction (and the camera) can give."""
        maps, held = prediction.maps, self._messages
        if not maps:
            return
        header, rgb = frame.message.header, frame.rgb
        height, width = next(iter(maps.values())).shape[:2]
        if rgb.shape[:2] != (height, width):
            rgb = resize(rgb, width, height)
        settings = TopicSettings(palette, parameters.min_depth, parameters.max_depth)
        images = [
            (topic, topic.make(maps, rgb, settings) if topic.make else maps[topic.needs[0]])
            for topic in self.topics.values()
            if topic.encoding and topic.name in frame.topics and maps.keys() >= set(topic.needs)
        ]
        points = None
        if POINTS.name in frame.topics and "depth" in maps and prediction.camera is not None:
            depth = out_of_range(maps["depth"], parameters.min_depth, parameters.max_depth)
            points = depth_to_points(depth, prediction.camera)
        for topic, pixels in images:
            message = held[topic.name]
            messages.write_image(message, header, pixels, topic.encoding)
            self.publishers[topic.name].publish(message)
        scaled = prediction.camera if parameters.output_size == "network" else None
        known = scaled is not None or parameters.output_size == "input"
        if CAMERA_INFO.name in frame.topics and frame.info is not None and known:
            info = messages.scaled_info(frame.info, header, scaled)
            self.publishers[CAMERA_INFO.name].publish(info)
        if points is not None:
            cloud = held[POINTS.name]
            unlabelled = np.full((height, width), IGNORE_INDEX, np.uint8)
            ids = maps.get("segmentation", unlabelled)
            confidence = maps.get("confidence", np.zeros_like(unlabelled))
            messages.write_points(cloud, header, points, rgb, ids, confidence)
            self.publishers[POINTS.name].publish(cloud)
