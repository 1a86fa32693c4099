# SPDX-License-Identifier: Apache-2.0
"""The configuration files for RViz and Nav2 agree with what the node publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proto_mtl_ros.ros.topics import LABEL_INFO, result_topics
from proto_mtl_ros.tasks import NYU13

CONFIG = Path(__file__).resolve().parents[2] / "config"
PUBLISHED = {f"/camera/{output.name}": output for output in (*result_topics(), LABEL_INFO)}
MESSAGE_OF_DISPLAY = {
    "rviz_default_plugins/Image": "sensor_msgs/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/PointCloud2",
}


def read(name: str) -> Any:
    return yaml.safe_load((CONFIG / name).read_text(encoding="utf-8"))


def displays() -> list[dict[str, Any]]:
    shown = read("perception.rviz")["Visualization Manager"]["Displays"]
    return [display for display in shown if "Topic" in display]


@pytest.mark.parametrize("display", displays(), ids=lambda display: display["Name"])
def test_rviz_shows_a_topic_that_it_can_show(display: dict[str, Any]) -> None:
    output = PUBLISHED[display["Topic"]["Value"]]
    assert output.type == MESSAGE_OF_DISPLAY[display["Class"]]
    # RViz draws class ids nearly black and cannot draw three floats.
    assert not output.text.startswith(("mono8: class ids", "32FC3"))


def layer() -> dict[str, Any]:
    costmap = read("nav2_semantic.yaml")["local_costmap"]["local_costmap"]["ros__parameters"]
    return costmap["semantic_layer"]


def test_nav2_gets_its_topics() -> None:
    camera = layer()["camera"]
    wanted = {
        "segmentation_topic": ("segmentation/image", "sensor_msgs/Image"),
        "confidence_topic": ("segmentation/confidence", "sensor_msgs/Image"),
        "labels_topic": ("segmentation/label_info", "vision_msgs/LabelInfo"),
        "pointcloud_topic": ("points", "sensor_msgs/PointCloud2"),
    }
    for parameter, (name, message) in wanted.items():
        assert camera[parameter] == f"/camera/{name}"
        assert PUBLISHED[camera[parameter]].type == message


def test_nav2_knows_every_class_once() -> None:
    camera = layer()["camera"]
    grouped = [name for group in camera["class_types"] for name in camera[group]["classes"]]
    assert sorted(grouped) == sorted(NYU13.classes)


def test_nav2_cost_groups_are_complete() -> None:
    camera = layer()["camera"]
    integers = ("base_cost", "max_cost", "mark_confidence", "samples_to_max_cost")
    for name in camera["class_types"]:
        group = camera[name]
        assert set(group) == {"classes", "dominant_priority", *integers}
        # The layer refuses a double where it declared an integer.
        assert all(type(group[key]) is int for key in integers)
        assert 0 <= group["base_cost"] <= group["max_cost"] <= 254
