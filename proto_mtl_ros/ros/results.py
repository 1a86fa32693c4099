# SPDX-License-Identifier: Apache-2.0
"""From a prediction to the messages of a camera's result topics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from proto_mtl_ros import drawing
from proto_mtl_ros.geometry import (
    depth_to_points,
    resize,
)
from proto_mtl_ros.ros import messages
from proto_mtl_ros.ros.camera import CameraPort
from proto_mtl_ros.ros.topics import OUTPUTS
from proto_mtl_ros.runtime.predictor import Prediction

UNLABELLED = 255


def needs(wanted: set[str]) -> frozenset[str]:
    """The engine's outputs that the wanted topics are made from."""
    return frozenset().union(*(o.needs for o in OUTPUTS if o.name in wanted))


def out_of_range(
    depth: npt.NDArray[np.float32], near: float, far: float
) -> npt.NDArray[np.float32]:
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


class ResultPublisher:
    """Writes and publishes the results of one frame; belongs to the worker."""

    def __init__(self, palette: npt.NDArray[np.uint8]) -> None:
        self._palette = palette

    def publish(
        self,
        port: CameraPort,
        header: Header,
        rgb: npt.NDArray[np.uint8] | None,
        prediction: Prediction,
        info: CameraInfo | None,
        wanted: set[str],
        values: dict[str, Any],
    ) -> None:
        """Publish the wanted topics that the prediction (and the camera) can give.

        rgb: the input image; all maps are brought from the same pixels.
        """
        drawn = self._draw(rgb, prediction, wanted, values)
        for name, (pixels, encoding) in drawn.items():
            if pixels is not None:
                message = port.messages[name]
                messages.write_image(message, header, pixels, encoding)
                port.publishers[name].publish(message)
        scaling = values["output_size"] == "network"
        known = info is not None and (prediction.camera is not None or not scaling)
        if "depth/camera_info" in wanted and known:
            port.publishers["depth/camera_info"].publish(
                messages.scaled_info(info, header, prediction.camera if scaling else None)
            )
        if "points" in wanted:
            self._publish_points(port, header, rgb, prediction, values)

    def _draw(
        self,
        rgb: npt.NDArray[np.uint8] | None,
        prediction: Prediction,
        wanted: set[str],
        values: dict[str, Any],
    ) -> dict[str, tuple[npt.NDArray[Any] | None, str]]:
        """Topic name -> pixels and encoding; pixels are None where the model has no such map."""
        ids, normals, depth = prediction.segmentation, prediction.normals, prediction.depth
        drawn: dict[str, tuple[npt.NDArray[Any] | None, str]] = {}
        if "segmentation/image" in wanted:
            drawn["segmentation/image"] = ids, "mono8"
        if "segmentation/confidence" in wanted:
            drawn["segmentation/confidence"] = prediction.confidence, "mono8"
        if "segmentation/overlay" in wanted and ids is not None and rgb is not None:
            picture = resize(rgb, ids.shape[1], ids.shape[0])
            drawn["segmentation/overlay"] = (
                drawing.overlay(picture, ids, self._palette, alpha=values["overlay_opacity"]),
                "rgb8",
            )
        if "depth/image" in wanted and depth is not None:
            drawn["depth/image"] = (
                out_of_range(depth, values["min_depth"], values["max_depth"]),
                "32FC1",
            )
        if "normals/image" in wanted:
            drawn["normals/image"] = normals, "32FC3"
        if "normals/color" in wanted and normals is not None:
            drawn["normals/color"] = drawing.draw_normals(normals), "rgb8"
        return drawn

    def _publish_points(
        self,
        port: CameraPort,
        header: Header,
        rgb: npt.NDArray[np.uint8] | None,
        prediction: Prediction,
        values: dict[str, Any],
    ) -> None:
        depth, camera = prediction.depth, prediction.camera
        if depth is None or camera is None or rgb is None:
            return
        limited = out_of_range(depth, values["min_depth"], values["max_depth"])
        points = depth_to_points(limited, camera)
        height, width = depth.shape
        ids, confidence = prediction.segmentation, prediction.confidence
        message = port.messages["points"]
        messages.write_points(
            message,
            header,
            points,
            resize(rgb, width, height),
            np.full((height, width), UNLABELLED, np.uint8) if ids is None else ids,
            np.zeros((height, width), np.uint8) if confidence is None else confidence,
        )
        port.publishers["points"].publish(message)
