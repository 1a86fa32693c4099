# SPDX-License-Identifier: Apache-2.0
"""From arrays to ROS messages; the other way is in `decoding`.

Messages are kept and filled in place: their `data` is an `array.array` that numpy writes
through, because assigning an ndarray or bytes to a message field costs a copy per element.
Publishing serialises at once, so a message may be filled again right after.
"""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from proto_mtl_ros.geometry import Camera

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # optional: the class names are in a parameter as well
    LabelInfo = VisionClass = None

POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "label", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<u4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
"""Layout of a point. rgb is declared FLOAT32 in the message, as RViz and PCL expect."""

_POINT_TYPES = {"label": PointField.UINT32, "confidence": PointField.UINT8}


def _data_of_size(message: Any, size: int) -> npt.NDArray[np.uint8]:
    """A writable view of the message's data, which is made anew only when the size changes."""
    if len(message.data) != size:
        message.data = array.array("B", bytes(size))
    return np.frombuffer(message.data, np.uint8)


def write_image(message: Image, header: Header, pixels: npt.NDArray[Any], encoding: str) -> None:
    """Fill `message` with pixels [H, W] or [H, W, C] of the encoding's type."""
    message.header, message.encoding = header, encoding
    message.height, message.width = pixels.shape[:2]
    message.step = pixels[0].nbytes
    message.is_bigendian = int(sys.byteorder == "big" and pixels.itemsize > 1)
    data = _data_of_size(message, pixels.nbytes)
    data.view(pixels.dtype).reshape(pixels.shape)[...] = pixels


def write_points(
    message: PointCloud2,
    header: Header,
    points: npt.NDArray[np.float32],
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
) -> None:
    """Fill `message` with an organised cloud; all arrays are [H, W, ...], points NaN = invalid."""
    height, width = points.shape[:2]
    if not message.fields:
        message.fields = [
            PointField(
                name=name,
                offset=POINT.fields[name][1] if POINT.fields else 0,
                datatype=_POINT_TYPES.get(name, PointField.FLOAT32),
                count=1,
            )
            for name in POINT.names or ()
        ]
    message.header = header
    message.height, message.width = height, width
    message.point_step, message.row_step = POINT.itemsize, POINT.itemsize * width
    message.is_bigendian, message.is_dense = False, False
    words = _data_of_size(message, height * message.row_step).view("<f4")
    colour = np.zeros((height, width, 4), np.uint8)  # 0x00rrggbb, the lowest byte first
    cv2.mixChannels([rgb], [colour], [0, 2, 1, 1, 2, 0])
    # OpenCV interleaves words of any content four times as fast as numpy fills the fields
    columns = [colour.view("<f4"), *(v.astype("<u4").view("<f4") for v in (labels, confidence))]
    cv2.mixChannels(
        [points, *columns],
        [words.reshape(height, width, POINT.itemsize // 4)],
        [source for column in range(6) for source in (column, column)],
    )


def scaled_info(source: CameraInfo, header: Header, camera: Camera | None) -> CameraInfo:
    """camera_info of a result.

    camera: the camera at the result's size, None to repeat `source` (results at the input's size).
    """
    info = CameraInfo(header=header, distortion_model=source.distortion_model, r=source.r)
    if camera is None:
        info.height, info.width = source.height, source.width
        info.k, info.p, info.d = source.k, source.p, source.d
        info.binning_x, info.binning_y, info.roi = source.binning_x, source.binning_y, source.roi
        return info
    info.height, info.width = camera.height, camera.width
    info.d = [] if camera.D is None else camera.D.tolist()  # none: the image is rectified
    info.k = np.asarray(camera.K, np.float64).reshape(9)
    projection = np.zeros((3, 4)) if camera.P is None else np.asarray(camera.P, np.float64)
    info.p = projection.reshape(12)
    return info


def label_info(classes: list[str], threshold: int) -> Any:
    """vision_msgs/LabelInfo of the classes, None where vision_msgs is not installed."""
    if LabelInfo is None:
        return None
    return LabelInfo(
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(classes)],
        threshold=threshold / 255.0,
    )
