# SPDX-License-Identifier: Apache-2.0
"""The topics under a camera's namespace: one table gives publishers, lazy work and docs.

`python -m proto_mtl_ros.ros.topics` prints docs/topics.md; a test holds the file equal to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """A result topic.

    name: below the camera's namespace.
    type: package/Message.
    needs: the engine's outputs it is made from; work that no wanted topic needs is not done.
    """

    name: str
    type: str
    needs: frozenset[str]
    text: str


def _output(name: str, type_: str, needs: str, text: str) -> Output:
    return Output(name, type_, frozenset(needs.split()), text)


OUTPUTS: tuple[Output, ...] = (
    _output(
        "segmentation/image",
        "sensor_msgs/Image",
        "segmentation",
        "mono8: class ids, 255 = unlabelled",
    ),
    _output("segmentation/confidence", "sensor_msgs/Image", "confidence", "mono8: 0..255"),
    _output(
        "segmentation/overlay",
        "sensor_msgs/Image",
        "segmentation",
        "rgb8: class colours over the image, for people",
    ),
    _output(
        "depth/image",
        "sensor_msgs/Image",
        "depth",
        "32FC1: metres along the optical axis (REP-118); -inf too close, +inf out of range, "
        "NaN invalid (REP-117)",
    ),
    _output(
        "depth/camera_info",
        "sensor_msgs/CameraInfo",
        "depth",
        "the camera of depth/image: camera_info, scaled where that is for another size or "
        "output_size is network; only while a camera_info arrives that can be used",
    ),
    _output(
        "normals/image",
        "sensor_msgs/Image",
        "normals",
        "32FC3: unit vectors in the optical frame (x right, y down, z forward) that face the "
        "camera; (0,0,0) invalid",
    ),
    _output("normals/color", "sensor_msgs/Image", "normals", "rgb8: the normals, for people"),
    _output(
        "points",
        "sensor_msgs/PointCloud2",
        "segmentation confidence depth",
        "organised and pixel-aligned: x y z (metres, NaN where invalid), rgb, label (uint32), "
        "confidence (uint8); only with a calibrated camera_info",
    ),
)

LABEL_INFO = Output(
    "segmentation/label_info",
    "vision_msgs/LabelInfo",
    frozenset(),
    "class names, latched; only where vision_msgs is installed (always: the parameter class_names)",
)

INPUTS: tuple[tuple[str, str, str], ...] = (
    (
        "image",
        "sensor_msgs/Image",
        "rgb8 bgr8 rgba8 bgra8 mono8 yuv422 (uyvy, yuyv) bayer_*8, any step, either endianness; "
        "other encodings through cv_bridge where it is installed",
    ),
    (
        "image/compressed",
        "sensor_msgs/CompressedImage",
        "jpeg or png, instead of image when image_transport is compressed; a remapping of image "
        "carries it along",
    ),
    (
        "camera_info",
        "sensor_msgs/CameraInfo",
        "metric scale and points; K[0] = 0 means uncalibrated; without it depth is for the model's "
        "canonical camera, with a WARN on /diagnostics",
    ),
)


@dataclass(frozen=True)
class NodeInterface:
    """A topic or a service of the node itself, not of a camera."""

    name: str
    type: str
    text: str


NODE_TOPICS: tuple[NodeInterface, ...] = (
    NodeInterface(
        "/diagnostics",
        "diagnostic_msgs/DiagnosticArray",
        "once a second: the engine, and for each camera rates in and out, drops by cause, latency "
        "p50 and p95 by stage",
    ),
)

SERVICES: tuple[NodeInterface, ...] = (
    NodeInterface("~/enable", "std_srvs/SetBool", "process images or not"),
    NodeInterface(
        "~/reload_model",
        "std_srvs/Trigger",
        "load the model that the parameters name; the old one keeps running if that fails",
    ),
)


def markdown_text() -> str:
    """docs/topics.md."""
    lines = [
        "# Topics and services",
        "",
        "Made from the topic table by `python -m proto_mtl_ros.ros.topics`. Every name is "
        "relative to a camera's namespace (parameter `cameras`) and can be remapped.",
        "",
        "| input | type | content |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {type_} | {text} |" for name, type_, text in INPUTS]
    lines += ["", "| output | type | content |", "|---|---|---|"]
    lines += [f"| `{o.name}` | {o.type} | {o.text} |" for o in (*OUTPUTS, LABEL_INFO)]
    lines += [
        "",
        "Every output carries its input's header unchanged. A topic without subscribers costs "
        "nothing; without any subscriber the network does not run (parameter `force_inference`).",
        "",
        "| of the node | type | content |",
        "|---|---|---|",
        *(f"| `{i.name}` | {i.type} | {i.text} |" for i in (*NODE_TOPICS, *SERVICES)),
        "| `~/change_state`, `~/get_state`, ... | lifecycle_msgs | the lifecycle |",
        "",
        "Values of a camera's status on `/diagnostics`: `rate_in_hz`, `rate_out_hz`; `received` = "
        "`processed` + `dropped` + `skipped`, but for a frame in work; `drops.<cause>` (a newer "
        "frame came: `overwritten`), `bad.<cause>` (unusable images, dropped, too), "
        "`skipped.<cause>` (nobody wanted it, or it was more than `max_rate`); `info.<cause>` "
        "counts what costs no image: "
        "`bad_camera_info` (its numbers are no camera), `camera_info_size` (it is for images of "
        "another shape), `resolution_changed` (of the images, in the middle of the stream) and "
        "others of [diagnostics.md](diagnostics.md), which says what each message means and what "
        "to do; `camera_info.received` = `camera_info.calibrated` + `camera_info.uncalibrated` + "
        "`camera_info.bad`; "
        "`latency_ms.<stage>.p50|p95` of the stages wait, decode, preprocess, infer, postprocess, "
        "publish and total, over the newest 512 frames.",
        "",
        "QoS: inputs as sensor data (best effort), outputs reliable with depth 5, `label_info` "
        "reliable and transient local; `qos_overrides` changes each of them.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Print docs/topics.md."""
    sys.stdout.write(markdown_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
