# SPDX-License-Identifier: Apache-2.0
"""The recording that ships: a rosbag2 (mcap) like that of a registered RGB-D camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from backports import zstd
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from proto_mtl_ros.data.bags.bag import typestore
from proto_mtl_ros.files import NewFolder

from .camera import Lens, develop
from .dataset import write_credits
from .renderer import Room
from .room import CAMERA, build, pose

FRAMES = 60
RATE = 12.0  # frames per second
FRAME_ID = "camera_color_optical_frame"
START_NS = 1_700_000_000_000_000_000
HEAD = Path(__file__).with_name("room_credits.md")


def render(furniture: Path, output: Path) -> None:
    """Render the room and write its recording. Frames are kept beside it until it is whole."""
    work = output.with_name(f"{output.name}-frames")
    work.mkdir(parents=True, exist_ok=True)
    frames = [work / f"{i:03d}.npz" for i in range(FRAMES)]
    parts, models = build(furniture)
    room, shape = Room(parts), (CAMERA.height, CAMERA.width)
    for i, path in enumerate(frames):
        if path.exists():
            continue
        color = room.photograph(pose(i, FRAMES), CAMERA, 3, i)
        exact = room.trace(pose(i, FRAMES), CAMERA.rays())
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, color=color.astype(np.float16),
                     depth=np.round(exact.depth * 1000).astype(np.uint16).reshape(shape),
                     normals=np.round(exact.normals * 127).astype(np.int8).reshape(*shape, 3),
                     labels=exact.labels.reshape(shape))  # fmt: skip
        temporary.replace(path)
        print(f"frame {i + 1} of {FRAMES}", flush=True)
    with NewFolder(output) as folder:
        _write(frames, folder.path)
        write_credits(models, folder.path / "CREDITS.md", HEAD.read_text(encoding="utf-8"))


def exposures(frames: list[Path]) -> np.ndarray:
    """One gain per frame: the automatic exposure of a camera, which follows slowly."""
    logs = []
    for path in frames:
        with np.load(path) as data:
            luminance = data["color"][::4, ::4].astype(np.float32) @ [0.2126, 0.7152, 0.0722]
        logs.append(np.log(luminance + 1e-3).mean())
    values = np.array(logs)
    kernel = np.exp(-0.5 * (np.arange(-20, 21) / 8) ** 2)
    smooth = np.convolve(np.pad(values, 20, mode="edge"), kernel / kernel.sum(), mode="valid")
    return 0.25 / np.exp(0.7 * smooth + 0.3 * values.mean())


def _write(frames: list[Path], folder: Path) -> None:
    width, height, f = CAMERA.width, CAMERA.height, CAMERA.focal
    cx, cy = (width - 1) / 2, (height - 1) / 2
    store = typestore()
    names = ("Image", "CompressedImage", "CameraInfo", "RegionOfInterest")
    kinds = {name: store.types[f"sensor_msgs/msg/{name}"] for name in names}
    k = np.array([f, 0, cx, 0, f, cy, 0, 0, 1.0])
    p = np.array([f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1.0, 0])
    roi = kinds["RegionOfInterest"](0, 0, 0, 0, False)
    rng = np.random.default_rng(7)
    writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        # The default level leaves the depth a third larger.
        writer.storage.compressor = lambda data: zstd.compress(data, 19)
        connections = {}
        for i, (path, gain) in enumerate(zip(frames, exposures(frames))):
            stamp = START_NS + round(i * 1e9 / RATE)
            time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9))
            header = store.types["std_msgs/msg/Header"](time, FRAME_ID)
            with np.load(path) as data:
                photo = develop(data["color"], Lens(np.full(3, gain)), rng)
                images = {
                    "depth/image_rect_raw": ("16UC1", data["depth"]),
                    "segmentation/image": ("mono8", data["labels"]),
                    "normals/image": ("8SC3", data["normals"]),  # unit vector x 127
                }
            jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
            info = kinds["CameraInfo"](header, height, width, "plumb_bob", np.zeros(5), k,
                                       np.eye(3).reshape(-1), p, 0, 0, roi)  # fmt: skip
            messages = {
                "color/image_raw/compressed": kinds["CompressedImage"](header, "jpeg", jpeg[:, 0]),
                "color/camera_info": info,
                "depth/camera_info": info,
            }
            for topic, (encoding, rows) in images.items():
                pixels, step = rows.view(np.uint8).reshape(-1), rows.strides[0]
                messages[topic] = kinds["Image"](header, height, width, encoding, 0, step, pixels)
            for topic, message in messages.items():
                kind = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        f"/camera/{topic}", kind, typestore=store
                    )
                writer.write(connections[topic], stamp, store.serialize_cdr(message, kind))
