# SPDX-License-Identifier: Apache-2.0
"""When the node tells its class names.

In this process: vision_msgs, whose message carries them, is not installed everywhere.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onnx", reason="the tiny model is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import DOMAIN
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.ros.node import PerceptionNode
from proto_mtl_ros.ros.results import Results

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("distribution", ["humble", "iron"])
def test_labels_are_published_again_when_their_threshold_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    """Changes are applied after they are set; where rclpy cannot say when, as they are checked."""
    if distribution == "humble":
        monkeypatch.delattr(Node, "add_post_set_parameters_callback", raising=False)
    said: list[int] = []
    monkeypatch.setattr(Results, "publish_labels", lambda _, names, value: said.append(value))
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    model = Parameter("model", value=str(write_tiny_bundle(tmp_path, "tiny")))
    node = PerceptionNode(threading.Event(), context=context, parameter_overrides=[model])
    try:
        node.trigger_configure()
        node.set_parameters([Parameter("confidence_threshold", value=10)])
        assert said == []
        node.trigger_activate()
        for value in (51, 51, 300, 102):  # the same again, and one that is refused
            node.set_parameters([Parameter("confidence_threshold", value=value)])
        assert said == [10, 51, 102]
        node.trigger_shutdown()
    finally:
        node.destroy_node()
        context.try_shutdown()
