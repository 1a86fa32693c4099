# SPDX-License-Identifier: Apache-2.0
"""The camera of a soak: a recording again and again at an even rate, with the camera's faults.

    python -m tools.soak.camera <setting as JSON> <log>

It leaves a log of what it sent, by fault ("calm" outside of one), at SIGINT too.
"""

from __future__ import annotations

import array
import itertools
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from proto_mtl_ros.data.bags.recording import Recording, decode_picture
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.ros.replay.processes import message_class, say_json
from tools.performance.cameras import CameraPublisher, image_message, publish, usual_info
from tools.processes import from_word
from tools.soak.schedule import CAMERA, KINDS, SoakSetting, schedule

CALM, MALFORMED = "calm", "malformed"
BURST = 10.0
_MOST_IMAGES = 96
_VARIANTS = 8
_BACK_NS = 10 * 10**9
_FAST_RATE = 10.0
_TELL_SECONDS = 1.0


def other_encodings(rgb: np.ndarray) -> list[Image]:
    """Return the picture, uint8 [H, W, 3] of even width, in encodings that the node knows."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    packed = np.empty((*rgb.shape[:2], 2), np.uint8)  # U Y V Y
    packed[..., 1] = luma[..., 0]
    packed[:, 0::2, 0], packed[:, 1::2, 0] = luma[:, 0::2, 1], luma[:, 0::2, 2]
    mosaic = rgb[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = rgb[0::2, 0::2, 0], rgb[1::2, 1::2, 2]
    return [
        image_message(rgb[..., ::-1], "bgr8"),
        image_message(luma[..., 0], "mono8"),
        image_message(packed, "yuv422"),
        image_message(mosaic, "bayer_rggb8"),
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
            info = deserialize_message(bytes(message.cdr), message_class(message.type))
    if not images:
        raise BagError(f"{recording.path} has no images: give another recording")
    return images, info or usual_info(*images[0].shape[:2])


class SoakCamera:
    """One camera, and the faults that are its own, which ``run`` mixes in.

    Args:
        load: what it sends, ``rate`` above 0.
        pictures: uint8 [H, W, 3] RGB, sent over and over.
        info: their calibration.
    """

    def __init__(
        self, node: Node, load: SoakSetting, pictures: Sequence[np.ndarray], info: CameraInfo
    ) -> None:
        self.log = StampLog()
        self.sent = 0
        self.facts: dict[str, Any] = {"rate": load.rate, "images": len(pictures)}
        self._load = load
        frame = info.header.frame_id or f"{CAMERA}_optical_frame"
        # Reliable serves every subscriber: to a best-effort one it sends as best effort.
        self._publisher = CameraPublisher(node, CAMERA, frame, ReliabilityPolicy.RELIABLE)
        self.matched = self._publisher.matched
        self._info = info
        self._no_calibration = CameraInfo(height=info.height, width=info.width)
        some = pictures[:: max(1, len(pictures) // _VARIANTS)][:_VARIANTS]
        half = [cv2.resize(one, None, fx=0.5, fy=0.5)[:, : one.shape[1] // 4 * 2] for one in some]
        self._usual = itertools.cycle([image_message(one, "rgb8") for one in pictures])
        self._small = itertools.cycle([image_message(one, "rgb8") for one in half])
        even = [one[: len(one) // 2 * 2, : one.shape[1] // 2 * 2] for one in some]
        self._encodings = itertools.cycle([m for one in even for m in other_encodings(one)])
        self._malformed = itertools.cycle(malformed_images(pictures[0]))

    def send(self, fault: str) -> None:
        """Publish one image, and its camera_info before it."""
        kind, image, info = fault, next(self._usual), self._info
        self.sent += 1
        if fault == "resolution":
            image = next(self._small)
        elif fault == "encoding":
            image = next(self._encodings)
        elif fault == "uncalibrated":
            info = self._no_calibration
        elif fault == MALFORMED:
            if self.sent % 2:
                image = next(self._malformed)
            else:
                kind = CALM
        stamp = time.time_ns() - (_BACK_NS if fault == "backwards" else 0)
        self.log.add(kind, stamp, self._publisher.send(image, info, stamp))

    def run(self, origin: float, stop: threading.Event) -> None:
        """Send images from ``origin``, in monotonic seconds, until the time is over or ``stop``."""
        load = self._load
        faults = schedule(load.seconds, load.seed, load.faults)
        waiting = [fault for fault in faults if KINDS[fault.name].by_camera]
        due, told = origin, 0.0
        while not stop.is_set():
            now = time.monotonic() - origin
            if now - told >= _TELL_SECONDS:
                told = now
                say_json(event="sending", count=self.sent)
            if now >= load.seconds:
                return
            while waiting and waiting[0].end <= now:
                waiting.pop(0)
            fault = waiting[0].name if waiting and waiting[0].start <= now else CALM
            if fault == "pause":
                stop.wait(min(0.1, waiting[0].end - now))
                due = time.monotonic()
                continue
            self.send(fault)
            rate = load.rate * (BURST if fault == "burst" else 1.0)
            due = max(due + 1.0 / rate, time.monotonic())
            stop.wait(max(0.0, due - time.monotonic()))


def create(node: Node, load: SoakSetting) -> SoakCamera:
    """Return the camera of a load; raises BagError when there are no images."""
    with open_recording(Path(load.recording)) as recording:
        pictures, info = read_recording(recording)
        rate = load.rate or recording.rate or _FAST_RATE
    return SoakCamera(node, replace(load, rate=rate), pictures, info)


def main(arguments: list[str]) -> int:
    """Send until the time is over, or SIGINT or SIGTERM."""
    load = from_word(SoakSetting, arguments[0])
    return publish("soak_camera", lambda node: create(node, load), Path(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
