# SPDX-License-Identifier: Apache-2.0
"""From rendered frames to a rosbag2 recording (mcap), like that of a registered RGB-D camera."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from backports import zstd
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from ..photo import Lens, develop
from .way import CAMERA

RATE = 12.0  # frames per second
FRAME_ID = "camera_color_optical_frame"
START_NS = 1_700_000_000_000_000_000
COLOR = "/camera/color/image_raw/compressed"
COLOR_INFO = "/camera/color/camera_info"
DEPTH = "/camera/depth/image_rect_raw"
DEPTH_INFO = "/camera/depth/camera_info"
LABELS = "/camera/segmentation/image"
NORMALS = "/camera/normals/image"


def exposures(frames: list[Path]) -> np.ndarray:
    """One gain per frame: the automatic exposure of a camera, which follows slowly."""
    logs = []
    for path in frames:
        with np.load(path) as data:
            luminance = data["color"][::4, ::4].astype(np.float32) @ [0.2126, 0.7152, 0.0722]
        logs.append(np.log(luminance + 1e-3).mean())
    values = np.array(logs)
    steps = np.arange(-20, 21)
    kernel = np.exp(-0.5 * (steps / 8) ** 2)
    smooth = np.convolve(np.pad(values, 20, mode="edge"), kernel / kernel.sum(), mode="valid")
    return 0.25 / np.exp(0.7 * smooth + 0.3 * values.mean())


def write(args: argparse.Namespace) -> int:
    """Write the recording into ``args.output``; returns its size in bytes."""
    width, height, f = CAMERA.width, CAMERA.height, CAMERA.focal
    cx, cy = (width - 1) / 2, (height - 1) / 2
    frames = [args.work / f"frame_{i:03d}.npz" for i in range(args.frames)]
    gains = exposures(frames)
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    header_type, time_type = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    image_type, info_type = types["sensor_msgs/msg/Image"], types["sensor_msgs/msg/CameraInfo"]
    jpeg_type = types["sensor_msgs/msg/CompressedImage"]
    roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([f, 0, cx, 0, f, cy, 0, 0, 1.0])
    p = np.array([f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1.0, 0])
    temporary = args.work / args.output.name
    shutil.rmtree(temporary, ignore_errors=True)
    writer = Writer(temporary, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    rng = np.random.default_rng(7)

    def image(header: Any, encoding: str, array: np.ndarray) -> Any:
        rows = np.ascontiguousarray(array)
        return image_type(header, height, width, encoding, 0,
                          rows.strides[0], rows.view(np.uint8).reshape(-1))  # fmt: skip

    with writer:
        # The default level leaves the depth a third larger.
        writer.storage.compressor = lambda data: zstd.compress(data, 19)  # type: ignore[union-attr]
        connections = {
            topic: writer.add_connection(topic, kind.__msgtype__, typestore=store)
            for topic, kind in (
                (COLOR, jpeg_type), (COLOR_INFO, info_type), (DEPTH, image_type),
                (DEPTH_INFO, info_type), (LABELS, image_type), (NORMALS, image_type),
            )
        }  # fmt: skip
        for i, (path, gain) in enumerate(zip(frames, gains)):
            stamp = START_NS + round(i * 1e9 / RATE)
            header = header_type(time_type(*divmod(stamp, 10**9)), FRAME_ID)
            with np.load(path) as data:
                photo = develop(data["color"], Lens(np.full(3, gain)), rng)
                depth, labels, normals = data["depth"], data["labels"], data["normals"]
            options = [cv2.IMWRITE_JPEG_QUALITY, 80]
            ok, jpeg = cv2.imencode(".jpg", photo[..., ::-1], options)
            assert ok
            info = info_type(header, height, width, "plumb_bob", np.zeros(5), k,
                             np.eye(3).reshape(-1), p, 0, 0, roi)  # fmt: skip
            messages = {
                COLOR: jpeg_type(header, "jpeg", jpeg.reshape(-1)),
                COLOR_INFO: info,
                DEPTH: image(header, "16UC1", depth),
                DEPTH_INFO: info,
                LABELS: image(header, "mono8", labels),
                NORMALS: image(header, "8SC3", normals),  # unit vector x 127
            }
            for topic, message in messages.items():
                raw = store.serialize_cdr(message, message.__msgtype__)
                writer.write(connections[topic], stamp, raw)
    shutil.copyfile(args.work / "CREDITS.md", temporary / "CREDITS.md")
    args.output.mkdir(parents=True, exist_ok=True)
    total = 0
    for source in sorted(temporary.iterdir()):
        target = args.output / source.name
        shutil.copyfile(source, target.with_name(target.name + ".tmp"))
        target.with_name(target.name + ".tmp").replace(target)
        total += target.stat().st_size
    return total
