# SPDX-License-Identifier: Apache-2.0
"""The result topics below a camera's namespace.

Inputs, services and docs/topics.md: tools/interface_pages.py.
"""

from __future__ import annotations

from proto_mtl_ros.tasks import ResultTopic, known_tasks


def result_topics() -> tuple[ResultTopic, ...]:
    """All result topics of a camera: those of the tasks, then what joins them."""
    found: list[ResultTopic] = []
    for task in known_tasks().values():
        found += task.topics
        if task.name == "depth":
            found.append(CAMERA_INFO)
    return (*found, POINTS)


CAMERA_INFO = ResultTopic(
    "depth/camera_info",
    "sensor_msgs/CameraInfo",
    "the camera of depth/image: camera_info, scaled where that is for another size or "
    "output_size is network; only while a camera_info arrives that can be used",
    ("depth",),
)
POINTS = ResultTopic(
    "points",
    "sensor_msgs/PointCloud2",
    "organised and pixel-aligned: x y z (metres, NaN where invalid), rgb, label (uint32), "
    "confidence (uint8); only with a calibrated camera_info",
    ("segmentation", "confidence", "depth"),
)
LABEL_INFO = ResultTopic(
    "segmentation/label_info",
    "vision_msgs/LabelInfo",
    "class names, latched; only where vision_msgs is installed (always: the parameter class_names)",
)
