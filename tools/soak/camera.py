# SPDX-License-Identifier: Apache-2.0
"""The camera of a soak: a recording again and again at an even rate, with the camera's faults.

    python -m tools.soak.camera <settings as JSON>

It leaves a log of what it sent, by fault ("calm" outside of one), at SIGINT too.
"""

from __future__ import annotations

import array
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.recording import Recording, decode_picture
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.ros.replay.processes import message_class, say_json
from tools.performance.cameras import usual_info
from tools.soak.schedule import KINDS, Fault, schedule

CALM, MALFORMED = "calm", "malformed"
BURST = 10.0
_MOST_IMAGES = 96
_VARIANTS = 8
_BACK_NS = 10 * 10**9
_FAST_RATE = 10.0
_PATIENCE = 60.0
_TELL_SECONDS = 1.0


@dataclass(frozen=True)
class SoakLoad:
    """What the camera sends.

    Attributes:
        recording: whose first images are played over and over.
        camera: namespace.
        rate: images a second, 0 for the recording's own.
        seconds, seed, faults: of the schedule.
        log: file for stamps and times.
    """

    recording: str
    camera: str
    rate: float
    seconds: float
    seed: int
    faults: tuple[str, ...]
    log: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SoakLoad:
        content = json.loads(text)
        return cls(**{**content, "faults": tuple(content["faults"])})


def image_message(pixels: np.ndarray, encoding: str, channels: int) -> Image:
    """Return an image of bytes [H, W] or [H, W, C]."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=width * channels)
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def other_encodings(rgb: np.ndarray) -> list[Image]:
    """Return the picture, uint8 [H, W, 3] of even width, in encodings that the node knows."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    packed = np.empty((*rgb.shape[:2], 2), np.uint8)  # U Y V Y
    packed[..., 1] = luma[..., 0]
    packed[:, 0::2, 0], packed[:, 1::2, 0] = luma[:, 0::2, 1], luma[:, 0::2, 2]
    mosaic = rgb[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = rgb[0::2, 0::2, 0], rgb[1::2, 1::2, 2]
    return [
        image_message(rgb[..., ::-1], "bgr8", 3),
        image_message(luma[..., 0], "mono8", 1),
        image_message(packed, "yuv422", 2),
        image_message(mosaic, "bayer_rggb8", 1),
    ]


def malformed_images(rgb: np.ndarray) -> list[Image]:
    """Return messages of which no picture can be made."""
    height, width = rgb.shape[:2]
    whole = rgb.tobytes()
    usual = {"height": height, "width": width, "encoding": "rgb8", "step": 3 * width}
    changes: tuple[dict[str, object], ...] = (
        {"width": 0},
        {"height": 0},
        {"step": 1},
        {"encoding": "nonsense"},
        {"encoding": ""},
        {"height": 2**32 - 1},
        {"height": 2 * height},
        {"width": 2**31, "step": 2**32 - 1},
    )
    found = []
    for change in changes:
        found.append(Image(**{**usual, **change}))
        found[-1].data = array.array("B", whole)
    for length in (0, 1, len(whole) // 2):
        found.append(Image(**usual))
        found[-1].data = array.array("B", whole[:length])
    return found


def read_recording(recording: Recording) -> tuple[list[np.ndarray], CameraInfo]:
    """Return its first images, uint8 [H, W, 3] RGB, and a camera_info that fits them.

    Raises:
        BagError: there are none.
    """
    images: list[np.ndarray] = []
    info = None
    for message in recording.messages():
        if message.topic == recording.topics.image.name:
            images.append(decode_picture(message))
            if len(images) == _MOST_IMAGES:
                break
        elif info is None:
            from rclpy.serialization import deserialize_message

            info = deserialize_message(bytes(message.cdr), message_class(message.type))
    if not images:
        raise BagError(f"{recording.path} has no images: give another recording")
    return images, info or usual_info(*images[0].shape[:2])


class SoakCamera:
    """Publishes images and camera_info of one camera."""

    def __init__(
        self, node: Node, camera: str, pictures: Sequence[np.ndarray], info: CameraInfo
    ) -> None:
        # Reliable serves every subscriber: to a best-effort one it sends as best effort.
        qos = QoSProfile(depth=5)
        self.log = StampLog()
        self._frame = info.header.frame_id or f"{camera}_optical_frame"
        self._images = node.create_publisher(Image, f"/{camera}/image", qos)
        self._infos = node.create_publisher(CameraInfo, f"/{camera}/camera_info", qos)
        self._info = info
        self._no_calibration = CameraInfo(height=info.height, width=info.width)
        some = pictures[:: max(1, len(pictures) // _VARIANTS)][:_VARIANTS]
        half = [cv2.resize(one, None, fx=0.5, fy=0.5)[:, : one.shape[1] // 4 * 2] for one in some]
        self._usual = itertools.cycle([image_message(one, "rgb8", 3) for one in pictures])
        self._small = itertools.cycle([image_message(one, "rgb8", 3) for one in half])
        even = [one[: len(one) // 2 * 2, : one.shape[1] // 2 * 2] for one in some]
        self._encodings = itertools.cycle([m for one in even for m in other_encodings(one)])
        self._malformed = itertools.cycle(malformed_images(pictures[0]))
        self._count = 0

    def matched(self) -> bool:
        """Tell whether somebody listens to both."""
        return all(p.get_subscription_count() for p in (self._images, self._infos))

    def send(self, fault: str) -> None:
        """Publish one image, and its camera_info before it."""
        kind, image, info = fault, next(self._usual), self._info
        self._count += 1
        if fault == "resolution":
            image = next(self._small)
        elif fault == "encoding":
            image = next(self._encodings)
        elif fault == "uncalibrated":
            info = self._no_calibration
        elif fault == MALFORMED:
            if self._count % 2:
                image = next(self._malformed)
            else:
                kind = CALM
        before = time.monotonic_ns()
        stamp = time.time_ns() - (_BACK_NS if fault == "backwards" else 0)
        for message in (info, image):
            message.header.frame_id = self._frame
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self._infos.publish(info)
        self._images.publish(image)
        self.log.add(kind, stamp, before)

    @property
    def sent(self) -> int:
        """Images so far."""
        return self._count

    def run(self, rate: float, seconds: float, faults: Sequence[Fault], stop: threading.Event,
            origin: float) -> None:  # fmt: skip
        """Send images from ``origin``, in monotonic seconds, until the time is over or ``stop``."""
        waiting = [fault for fault in faults if KINDS[fault.name].by_camera]
        due, told = origin, 0.0
        while not stop.is_set():
            now = time.monotonic() - origin
            if now - told >= _TELL_SECONDS:
                told = now
                say_json(event="sending", count=self._count)
            if now >= seconds:
                return
            while waiting and waiting[0].end <= now:
                waiting.pop(0)
            fault = waiting[0].name if waiting and waiting[0].start <= now else CALM
            if fault == "pause":
                stop.wait(min(0.1, waiting[0].end - now))
                due = time.monotonic()
                continue
            self.send(fault)
            due = max(due + 1.0 / (rate * (BURST if fault == "burst" else 1.0)), time.monotonic())
            stop.wait(max(0.0, due - time.monotonic()))


def main(arguments: list[str]) -> int:
    """Send until the time is over, or SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    load = SoakLoad.from_json(arguments[0])
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("soak_camera")
    try:
        with open_recording(Path(load.recording)) as recording:
            pictures, info = read_recording(recording)
            rate = load.rate or recording.rate or _FAST_RATE
    except BagError as error:
        print(f"soak_camera: {error}", file=sys.stderr)
        return 2
    camera = SoakCamera(node, load.camera, pictures, info)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + _PATIENCE
    while not camera.matched() and not stop.is_set():
        executor.spin_once(timeout_sec=0.02)
        if time.monotonic() > end:
            print("soak_camera: nobody listens to the camera", file=sys.stderr)
            return 1
    origin = time.monotonic() + 0.2
    say_json(event="started", origin=origin, rate=rate, images=len(pictures))
    time.sleep(0.2)
    camera.run(rate, load.seconds, schedule(load.seconds, load.seed, load.faults), stop, origin)
    camera.log.write(Path(load.log))
    say_json(event="sent", count=camera.sent)
    executor.shutdown()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
