# SPDX-License-Identifier: Apache-2.0
"""The topics below a camera's namespace, and what the node itself offers.

`python -m tools.interface_pages topics` prints docs/topics.md from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from proto_mtl_ros import plugins
from proto_mtl_ros.tasks import TASKS, ResultTopic


@dataclass(frozen=True)
class Interface:
    """A topic or a service; its name is relative to the camera, or to the node (~)."""

    name: str
    type: str
    text: str


def result_topics() -> tuple[ResultTopic, ...]:
    """All result topics of a camera: those of the tasks, then what joins them."""
    plugins.load()
    found: list[ResultTopic] = []
    for task in TASKS.values():
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

INPUTS = (
    Interface(
        "image",
        "sensor_msgs/Image",
        "rgb8 bgr8 rgba8 bgra8 mono8 yuv422 (uyvy, yuyv) bayer_*8, any step, "
        "either endianness; other encodings through cv_bridge where it is installed",
    ),
    Interface(
        "image/compressed",
        "sensor_msgs/CompressedImage",
        "jpeg or png, instead of image when image_transport is compressed; a remapping of image "
        "carries it along",
    ),
    Interface(
        "camera_info",
        "sensor_msgs/CameraInfo",
        "metric scale and points; K[0] = 0 means uncalibrated; without it depth is for the model's "
        "canonical camera, with a WARN on /diagnostics",
    ),
)

NODE_TOPICS = (
    Interface(
        "/diagnostics",
        "diagnostic_msgs/DiagnosticArray",
        "once a second: the engine, and for each camera rates in and out, drops by cause, latency "
        "p50 and p95 by stage",
    ),
)

SERVICES = (
    Interface("~/enable", "std_srvs/SetBool", "process images or not"),
    Interface(
        "~/reload_model",
        "std_srvs/Trigger",
        "load the model that the parameters name; the old one keeps running if that fails",
    ),
)
