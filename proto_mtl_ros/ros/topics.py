# SPDX-License-Identifier: Apache-2.0
"""The topics below a camera's namespace, and what the node itself offers.

`python -m tools.interface_pages topics` prints docs/topics.md from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proto_mtl_ros import drawing


@dataclass(frozen=True)
class Interface:
    """A topic or a service; its name is relative to the camera, or to the node (~)."""

    name: str
    type: str
    text: str


@dataclass(frozen=True)
class Settings:
    """What a result is made by, beside its maps."""

    palette: np.ndarray
    min_depth: float = 0.0
    max_depth: float = 0.0


@dataclass(frozen=True)
class Topic(Interface):
    """A result topic.

    needs: the maps it is made from; what no wanted topic needs is not made. encoding: of an image.
    make: its pixels, from the maps, the image and the settings; None for what is no image.
    """

    needs: tuple[str, ...] = ()
    encoding: str = ""
    make: Callable[[Mapping[str, Any], np.ndarray, Settings], np.ndarray] | None = field(
        default=None, compare=False
    )


def out_of_range(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth with -inf where nearer than `near` and +inf where farther than `far` (REP-117).

    A limit of 0 is off; NaN stays NaN.
    """
    if near <= 0.0 and far <= 0.0:
        return depth
    limited = depth.copy()
    if near > 0.0:
        limited[depth < near] = -np.inf
    if far > 0.0:
        limited[depth > far] = np.inf
    return limited


def result_topics() -> tuple[Topic, ...]:
    """All result topics of a camera, those of the tasks in their order."""
    image = "sensor_msgs/Image"
    return (
        Topic(
            "segmentation/image",
            image,
            "mono8: class ids, 255 = unlabelled",
            ("segmentation",),
            "mono8",
            lambda m, rgb, s: m["segmentation"],
        ),
        Topic(
            "segmentation/confidence",
            image,
            "mono8: 0..255",
            ("confidence",),
            "mono8",
            lambda m, rgb, s: m["confidence"],
        ),
        Topic(
            "segmentation/overlay",
            image,
            "rgb8: class colours over the image, for people",
            ("segmentation",),
            "rgb8",
            lambda m, rgb, s: drawing.overlay(rgb, m["segmentation"], s.palette, alpha=0.5),
        ),
        Topic(
            "depth/image",
            image,
            "32FC1: metres along the optical axis (REP-118); -inf too close, +inf out of range, "
            "NaN invalid (REP-117)",
            ("depth",),
            "32FC1",
            lambda m, rgb, s: out_of_range(m["depth"], s.min_depth, s.max_depth),
        ),
        CAMERA_INFO,
        Topic(
            "normals/image",
            image,
            "32FC3: unit vectors in the optical frame (x right, y down, z forward) that face the "
            "camera; (0,0,0) invalid",
            ("normals",),
            "32FC3",
            lambda m, rgb, s: m["normals"],
        ),
        Topic(
            "normals/color",
            image,
            "rgb8: the normals, for people",
            ("normals",),
            "rgb8",
            lambda m, rgb, s: drawing.draw_normals(m["normals"]),
        ),
        POINTS,
    )


CAMERA_INFO = Topic(
    "depth/camera_info",
    "sensor_msgs/CameraInfo",
    "the camera of depth/image: camera_info, scaled where that is for another size or "
    "output_size is network; only while a camera_info arrives that can be used",
    ("depth",),
)
POINTS = Topic(
    "points",
    "sensor_msgs/PointCloud2",
    "organised and pixel-aligned: x y z (metres, NaN where invalid), rgb, label (uint32), "
    "confidence (uint8); only with a calibrated camera_info",
    ("segmentation", "confidence", "depth"),
)
LABEL_INFO = Interface(
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
