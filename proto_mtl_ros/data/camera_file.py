# SPDX-License-Identifier: Apache-2.0
"""A camera as JSON: focal lengths and principal point in pixels of an image of a stated size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_json, read_yaml
from proto_mtl_ros.geometry import Camera

DEGREES = 60.0
"""Field of view along the longer side of an image whose camera is not known."""

_NEEDED = ("fx", "fy", "cx", "cy", "width", "height")


def read_camera(path: Path) -> Camera:
    """Return the camera of a JSON file, or of the YAML that camera_calibration of ROS writes;
    DataError where it is none.
    """
    if path.suffix not in (".yaml", ".yml"):
        return camera_of(read_json(path, DataError), path)
    content = read_yaml(path, DataError)
    try:
        rows = {name: content[f"{name}_matrix"]["data"] for name in ("camera", "projection")}
        camera = Camera.from_info(
            content["image_height"], content["image_width"], rows["camera"],
            content["distortion_coefficients"]["data"], rows["projection"],
            content["distortion_model"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no calibration of ROS: {one_line(error)}") from None
    if camera is None:
        raise DataError(f"{path} is not calibrated: K[0] is 0")
    return camera


def camera_of(content: Any, where: object) -> Camera:
    """Return the camera of a mapping with fx, fy, cx, cy, width and height; ``D`` and
    ``distortion_model`` (as in sensor_msgs/CameraInfo) may stand beside them. DataError says
    ``where``.
    """
    there = content if isinstance(content, Mapping) else ()
    missing = [key for key in _NEEDED if key not in there]
    if missing:
        raise DataError(
            f"{where} lacks {', '.join(missing)}: a camera is "
            '{"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., "height": ...} in pixels'
        )
    try:
        fx, fy, cx, cy = (float(content[key]) for key in _NEEDED[:4])
        return Camera(
            K=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
            width=int(content["width"]),
            height=int(content["height"]),
            D=np.array(content["D"], np.float64) if content.get("D") else None,
            distortion_model=str(content.get("distortion_model", "")),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is no camera: {one_line(error)}") from None


def camera_json(camera: Camera) -> str:
    """Return the JSON that ``read_camera`` reads."""
    content: dict[str, Any] = {name: getattr(camera, name) for name in _NEEDED}
    if camera.distorted:
        content["distortion_model"] = camera.distortion_model
        content["D"] = [] if camera.D is None else camera.D.tolist()
    return json.dumps(content, indent=1) + "\n"


def camera_for(camera: Camera, width: int, height: int, where: object) -> Camera:
    """Return the camera at the size of an image; DataError where that is no plain resize."""
    fitted = camera.fitted(width, height)
    if fitted is None:
        raise DataError(
            f"{where} is {width}x{height}, its camera {camera.width}x{camera.height}: "
            "another aspect ratio; state the camera of the image as it is"
        )
    return fitted


def camera_of_image(
    camera: Camera | None, rgb: np.ndarray, turns: int, where: object, degrees: float = DEGREES
) -> Camera:
    """Return the camera of an image that was turned by quarters clockwise; without one, a pinhole
    that sees so many degrees along the longer side.
    """
    height, width = rgb.shape[:2]
    if camera is None:
        return ideal_camera(width, height, degrees)
    return camera_for(_turned(camera, width, height, turns), width, height, where)


def _turned(camera: Camera, width: int, height: int, turns: int) -> Camera:
    # a camera whose shape is the turned image's is its camera already
    if turns % 2 and (camera.width > camera.height) == (width > height) and width != height:
        return camera
    for _ in range(turns):
        distortion = None if camera.D is None else camera.D.copy()
        if distortion is not None and camera.distortion_model != "equidistant":
            distortion[2:4] = distortion[3], -distortion[2]
        across, down = camera.height - 1 - camera.cy, camera.cx
        matrix = np.array([[camera.fy, 0, across], [0, camera.fx, down], [0, 0, 1]])
        width, height = camera.height, camera.width
        camera = replace(camera, K=matrix, width=width, height=height, D=distortion, P=None)
    return camera


def ideal_camera(width: int, height: int, degrees: float) -> Camera:
    """Return a pinhole that sees so many degrees along the longer side of its image."""
    if not 1 <= degrees < 179:
        raise DataError(f"a field of view of {degrees:g} degrees is not between 1 and 179")
    focal = max(width, height) / 2 / math.tan(math.radians(degrees) / 2)
    centre = ((width - 1) / 2, (height - 1) / 2)
    return Camera(
        np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), width, height
    )
