# SPDX-License-Identifier: Apache-2.0
"""The recording that ships: a room, the camera's way through it, and a rosbag2 (mcap) like that
of a registered RGB-D camera.

``room_furniture.csv`` says what stands where, ``room_looks.csv`` what was changed on models,
``room_boxes.csv`` what else is in the room.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from backports import zstd
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from proto_mtl_ros.data.bags.bag import stamped
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.files import NewFolder

from . import textures
from .camera import Lens, Pinhole, Pose, develop, look
from .dataset import write_credits
from .models import Model, load_model
from .parts import Part, Point, Surface, box, cloth, join, quad, rows
from .plan import EAST, WEST, Opening, Plan
from .renderer import Room
from .scene import wall
from .shapes import framed

seeded = np.random.default_rng
PLAN = Plan("living", 6.4, 5.2, 2.6, seeded(0))
PLAN.openings.append(Opening(WEST, 1.75, 3.55, 0.85, 2.2, "window"))
CAMERA = Pinhole(640, 480, 525.0)
FRAMES = 60
RATE = 12.0  # frames per second
FRAME_ID = "camera_color_optical_frame"
START_NS = 1_700_000_000_000_000_000
HEAD = Path(__file__).with_name("room_credits.md")
WAY = np.array([
    [0.00, 5.10, 0.95, 141.0],
    [0.25, 4.55, 0.80, 118.0],
    [0.50, 3.75, 0.85, 92.0],
    [0.75, 2.95, 0.95, 61.0],
    [1.00, 2.35, 1.15, 27.0],
])  # fmt: skip
"""Time 0..1, x, y, heading in degrees (0 = east, 90 = north)."""


def pose(frame: int, frames: int) -> Pose:
    """The pose of a frame: level with a hand's motion, four degrees downwards."""
    t = frame / max(frames - 1, 1)
    s = 2 * np.pi * t
    # The one polynomial of degree 4 through the points of the way.
    x, y, turn = (float(np.polyval(np.polyfit(WAY[:, 0], WAY[:, i], 4), t)) for i in (1, 2, 3))
    sway = 0.008 * np.sin(5.1 * s), 0.008 * np.sin(4.3 * s + 1), 0.015 * np.sin(3.3 * s) + 0.03 * t
    heading = np.radians(turn + 0.35 * np.sin(4.7 * s + 2))
    down = np.radians(4.0 + 0.9 * np.sin(1.7 * s) + 0.25 * np.sin(5.9 * s + 1))
    roll = np.radians(0.5 * np.sin(1.3 * s + 0.5) + 0.2 * np.sin(6.1 * s))
    return look(np.array([x, y, 1.32]) + sway, float(heading), float(-down), float(roll))


def shell() -> list[Part]:
    """Floor, walls, ceiling, window, curtains, skirting boards."""
    w, le, h = PLAN.width, PLAN.length, PLAN.height
    o = PLAN.openings[0]
    warm = Surface(texture=textures.paint(seeded(1), (0.86, 0.82, 0.73)), period=(2.5, 2.5))
    blue = Surface(texture=textures.paint(seeded(2), (0.62, 0.69, 0.70)), period=(2.5, 2.5))
    planks = Surface(texture=textures.plank_floor(seeded(3), (0.60, 0.42, 0.26)), period=(2.2, 2.2))
    above = Surface(texture=textures.paint(seeded(4), (0.9, 0.9, 0.88)), period=(3, 3))
    fabric = Surface(texture=textures.weave(seeded(5), (0.62, 0.36, 0.28), 0.12), period=(0.5, 0.5))
    view = Surface(texture=textures.garden(seeded(6)), period=(o.end - o.start, o.top - o.bottom),
                   emission=(6.0, 6.2, 6.5))  # fmt: skip
    reveal = box((-0.14, o.start, o.bottom), (0, o.end, o.top))
    reveal.faces = reveal.faces[[0, 1, 4, 5, 8, 9, 10, 11]]  # open to both sides
    pane = quad((-0.11, o.start, o.bottom), (0, view.period[0], 0), (0, 0, view.period[1]))
    curtains = [cloth(0.53, 2.36, 5).moved((0.10, y, 0.04), 90) for y in (1.3, 3.47)]
    boxes = [Part(box(numbers(row["low"]), numbers(row["high"])), look_of(row), row["class"])
             for row in rows("room_boxes.csv")]  # fmt: skip
    return [
        Part(quad((0, 0, 0), (w, 0, 0), (0, le, 0)), planks, "floor"),
        Part(quad((0, le, h), (w, 0, 0), (0, -le, 0)), above, "ceiling"),
        *(Part(wall(PLAN, k), blue if k == EAST else warm, "wall") for k in range(4)),
        Part(reveal, Surface(color=(0.9, 0.9, 0.88)), "window"),
        Part(pane, view, "window"),
        Part(join(curtains), fabric, "window"),
        *boxes,
    ]


def build(furniture: Path) -> tuple[list[Part], list[Model]]:
    """All parts of the room, and the models used (for the credits)."""
    parts, models, dark = shell(), [], (0.16, 0.12, 0.1)
    for seed, draw, x, y, z, yaw, width, height, color in (
        (11, textures.landscape, 2.45, 5.1835, 1.6, 0, 1.1, 0.7, dark),
        (12, textures.abstract, 5.0, 5.1835, 1.75, 0, 0.5, 0.65, (0.9, 0.9, 0.88)),
        (13, textures.landscape, 6.3835, 3.0, 1.6, -90, 0.6, 0.45, (0.55, 0.38, 0.22)),
        (14, textures.abstract, 6.3835, 2.2, 1.6, -90, 0.42, 0.56, dark),
    ):
        art = Surface(texture=draw(seeded(seed)), period=(width, height))
        for mesh, surface in zip(framed((width + 0.07, 0.031, height + 0.07), 0.002, 0.035),
                                 (Surface(color=color), art)):  # fmt: skip
            at = (x, y, z - height / 2 - 0.035)
            parts.append(Part(mesh.moved(at, yaw), surface, "picture"))
    looks = {(row["look"], row["material"]): row for row in rows("room_looks.csv")}
    for row in rows("room_furniture.csv"):
        size = tuple(float(row[k]) for k in ("width", "depth", "height") if row[k]) or None
        model = load_model(furniture, row["library"], row["model"], size)
        models.append(model)
        at = (float(row["x"]), float(row["y"]), float(row["z"]))
        for material, (mesh, m) in model.shapes.items():
            new = looks.get((row["look"], material), {})
            surface = Surface(tuple(0.92 * c for c in m.color),
                              m.texture if mesh.uv is not None else None)  # fmt: skip
            if new.get("color"):
                surface = look_of(new)
                if row["look"] == "bookcase":
                    surface.texture = textures.wood(seeded(21), surface.color)
            label = new.get("class") or row["class"]
            parts.append(Part(mesh.moved(at, float(row["yaw"])), surface, label))
    return parts, models


def look_of(row: dict[str, str]) -> Surface:
    return Surface(numbers(row["color"]), emission=numbers(row["emission"]))


def numbers(text: str) -> Point | None:
    return tuple(float(x) for x in text.split()) or None


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
    info = dict(
        height=height, width=width, distortion_model="plumb_bob", d=np.zeros(5),
        k=np.array([f, 0, cx, 0, f, cy, 0, 0, 1.0]), r=np.eye(3).reshape(-1), binning_x=0,
        p=np.array([f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1.0, 0]), binning_y=0,
        roi=typestore().types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip
    rng, connections = seeded(7), {}
    writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        # The default level leaves the depth a third larger.
        writer.storage.compressor = lambda data: zstd.compress(data, 19)
        for i, (path, gain) in enumerate(zip(frames, exposures(frames))):
            stamp = START_NS + round(i * 1e9 / RATE)
            with np.load(path) as data:
                photo = develop(data["color"], Lens(np.full(3, gain)), rng)
                images = (("depth/image_rect_raw", "16UC1", data["depth"]),
                          ("segmentation/image", "mono8", data["labels"]),
                          ("normals/image", "8SC3", data["normals"]))  # fmt: skip
            jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
            jpeg = dict(format="jpeg", data=jpeg.reshape(-1))
            sent = [("color/image_raw/compressed", "CompressedImage", jpeg),
                    ("color/camera_info", "CameraInfo", info),
                    ("depth/camera_info", "CameraInfo", info)]  # fmt: skip
            for topic, encoding, array in images:
                sent.append((topic, "Image", dict(
                    height=height, width=width, encoding=encoding, is_bigendian=0,
                    step=array.strides[0], data=array.view(np.uint8).reshape(-1),
                )))  # fmt: skip
            for topic, kind, fields in sent:
                message = stamped(f"/camera/{topic}", f"sensor_msgs/msg/{kind}", stamp, stamp,
                                  FRAME_ID, **fields)  # fmt: skip
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        message.topic, message.type, typestore=typestore()
                    )
                writer.write(connections[topic], stamp, message.cdr)
