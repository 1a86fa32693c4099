# SPDX-License-Identifier: Apache-2.0
"""Small recordings whose content can be computed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import mcap.writer
import numpy as np
import zstandard

from proto_mtl_ros.data.bags.bag import Bag, BagMessage
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.data.bags.writer import BagWriter

COLOUR_FRAME = "camera_color_optical_frame"
DEPTH_FRAME = "camera_depth_optical_frame"
FX = 375.0
"""Focal length of the recordings. At the tiny model's input it is the model's canonical one."""
START = 1_700_000_000_000_000_000


def _header(stamp: int, frame_id: str) -> Any:
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](stamp // 1_000_000_000, stamp % 1_000_000_000)
    return types["std_msgs/msg/Header"](time, frame_id)


def image_message(
    pixels: np.ndarray, encoding: str, stamp: int, frame_id: str = COLOUR_FRAME
) -> Any:
    """Return an Image message with these pixels."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
    return typestore().types["sensor_msgs/msg/Image"](
        header=_header(stamp, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.size // height,
        data=data,
    )


def jpeg_message(rgb: np.ndarray, stamp: int, frame_id: str = COLOUR_FRAME) -> Any:
    """Return a CompressedImage message with this picture."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95]
    data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), options)[1].reshape(-1)
    return typestore().types["sensor_msgs/msg/CompressedImage"](
        header=_header(stamp, frame_id), format="jpeg", data=data
    )


def info_message(width: int, height: int, fx: float, stamp: int) -> Any:
    """Return a CameraInfo message without distortion."""
    types = typestore().types
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return types["sensor_msgs/msg/CameraInfo"](
        header=_header(stamp, COLOUR_FRAME),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([fx, 0, cx, 0, fx, cy, 0, 0, 1], np.float64),
        r=np.eye(3).reshape(-1),
        p=np.array([fx, 0, cx, 0, 0, fx, cy, 0, 0, 0, 1, 0], np.float64),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def picture(index: int, width: int = 160, height: int = 120) -> np.ndarray:
    """Return a smooth picture, uint8[H, W, 3], that differs by index."""
    x = np.linspace(0, 200, width, dtype=np.float32)[None]
    y = np.linspace(20, 220, height, dtype=np.float32)[:, None]
    rgb = np.empty((height, width, 3), np.float32)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = x, (7 * index) % 200, y
    return rgb.astype(np.uint8)


def write_recording(
    path: Path,
    frames: int,
    period: float = 0.1,
    depth_frame: str = COLOUR_FRAME,
    depth_delay: float = 0.004,
    depth_scale: float = 1.0,
) -> Path:
    """Write a recording with JPEG colour, camera_info and 16UC1 depth.

    Depth is what the tiny model predicts from the pictures, blue / 25.5 metres, times depth_scale.
    """
    messages: list[tuple[str, int, Any]] = []
    for index in range(frames):
        stamp = START + round(index * period * 1e9)
        late = stamp + round(depth_delay * 1e9)
        rgb = picture(index)
        height, width = rgb.shape[:2]
        millimetres = np.round(rgb[..., 2] * (1000 / 25.5 * depth_scale)).astype(np.uint16)
        depth = image_message(millimetres, "16UC1", late, depth_frame)
        messages += [
            ("/camera/color/image_raw/compressed", stamp, jpeg_message(rgb, stamp)),
            ("/camera/color/camera_info", stamp, info_message(width, height, FX, stamp)),
            ("/camera/depth/image_rect_raw", late, depth),
            ("/camera/depth/camera_info", late, info_message(width, height, FX, late)),
        ]
    return write_messages(path, messages)


def write_messages(path: Path, messages: Iterable[tuple[str, int, Any]]) -> Path:
    """Write (topic, recorded time, message)."""
    with BagWriter(path) as writer:
        for topic, time, message in messages:
            writer.add_topic(topic, message.__msgtype__)
            writer.write(topic, time, message)
    return path


def write_mcap(path: Path, messages: Iterable[tuple[str, str, str, str, bytes]]) -> Path:
    """Write (topic, type, its definition, how it is serialised, message), without a folder."""
    languages = {"cdr": "ros2msg", "ros1": "ros1msg", "json": "jsonschema"}
    with path.open("wb") as sink:
        writer = mcap.writer.Writer(sink)
        writer.start()
        for topic, kind, text, coded, data in messages:
            schema = writer.register_schema(kind, languages[coded], text.encode()) if kind else 0
            writer.add_message(writer.register_channel(topic, coded, schema), 5, data, 5)
        writer.finish()
    return path


def changed(
    bag: Path,
    out: Path,
    change: Callable[[BagMessage, Any], Any],
    add: Callable[[BagMessage], Iterable[tuple[str, int, Any]]] = lambda message: (),
) -> Path:
    """Copy a recording; ``change`` gets each message, its content as well, and returns another
    content, None to leave it out; ``add`` gives messages that follow one: topic, recorded time,
    content.
    """
    found = []
    with Bag(bag) as source:
        for one in source.messages():
            content = change(one, one.decode())
            found += [(one.topic, one.time, content)] if content is not None else []
            found += add(one)
    return write_messages(out, found)


def without(bag: Path, part: str, out: Path, after: int = 0) -> Path:
    """Copy a recording without the messages whose topic has this part, from the ``after``-th."""
    seen = Counter[str]()

    def keep(message: BagMessage, content: Any) -> Any:
        seen[part] += part in message.topic
        return content if part not in message.topic or seen[part] <= after else None

    return changed(bag, out, keep)


def packed(folder: Path, mode: str, content: bytes | None = None) -> Path:
    """Make the storage of a recording a zstd file, or say that its messages are packed.

    Args:
        mode: ``file`` or ``message``, as recorders' ``--compression-mode``.
        content: of the file, in place of what was recorded.
    """
    metadata = (folder / "metadata.yaml").read_text()
    metadata = metadata.replace("compression_format: ''", "compression_format: zstd")
    metadata = metadata.replace("compression_mode: ''", f"compression_mode: {mode}")
    assert f"compression_mode: {mode}" in metadata
    if mode == "file":
        (storage,) = folder.glob("*.mcap")
        metadata = metadata.replace(storage.name, f"{storage.name}.zstd")
        content = zstandard.compress(storage.read_bytes()) if content is None else content
        storage.with_name(f"{storage.name}.zstd").write_bytes(content)
        storage.unlink()
    (folder / "metadata.yaml").write_text(metadata)
    return folder
