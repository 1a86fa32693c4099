# SPDX-License-Identifier: Apache-2.0
"""A task that this package does not have is published by its own description alone."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from robot import image, picture, pixels

from proto_mtl_ros.ros.decoding import Frame
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.results import Results
from proto_mtl_ros.runtime.predictor import Prediction
from proto_mtl_ros.tasks import TASKS, binary


class Advertised:
    """A node that keeps what its publishers send, by topic."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Any]] = {}

    def create_lifecycle_publisher(self, _: Any, topic: str, *__: Any, **___: Any) -> Any:
        return SimpleNamespace(publish=self.sent.setdefault(topic, []).append)


def test_a_new_task_has_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "edges", binary("edges"))
    node = Advertised()
    results = Results(node, "left", lambda topic, policy: None)  # type: ignore[arg-type]
    topic = results.topics["edges/image"]
    message = image(picture())
    frame = Frame(message, time.monotonic(), frozenset({topic.name}), frozenset(topic.needs))
    frame.rgb = picture()
    edges = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    results.publish(frame, Prediction({"edges": edges}), np.zeros((0, 3), np.uint8), Parameters())
    (sent,) = node.sent["left/edges/image"]
    assert sent.header == message.header and sent.encoding == topic.encoding
    assert np.array_equal(pixels(sent), np.rint(255 * edges))
    assert not any(messages for name, messages in node.sent.items() if "edges" not in name)
