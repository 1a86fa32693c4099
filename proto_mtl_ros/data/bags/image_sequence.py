# SPDX-License-Identifier: Apache-2.0
"""Recordings without ROS: a folder of images and a video file, played as a camera would be."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.data.bags.recording import Recording, decode_picture
from proto_mtl_ros.data.bags.topics import COMPRESSED_IMAGE, IMAGE, CameraTopics, Topic
from proto_mtl_ros.data.map_file import MAX_PICTURE_BYTES
from proto_mtl_ros.encodings import MAX_PIXELS, EncodingError, decode_file, image_fields
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.files import check_inside, open_regular, read_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
FOLDER_FPS = 10.0
FRAME_ID = "camera_color_optical_frame"
FIRST_STAMP = 1_000_000_000
"""Stamp of the first image in nanoseconds: such recordings carry no times, and 0 means "none"."""

_VIDEO = re.compile(
    rb"....(ftyp|moov|mdat|wide|free|skip)"  # MP4, MOV
    rb"|\x1a\x45\xdf\xa3"  # MKV, WebM
    rb"|RIFF....AVI |OggS|FLV\x01|\x47|\0\0\x01[\xba\xb3]|\x30\x26\xb2\x75",
    re.DOTALL,
)
"""How the files of video containers begin."""


_NO_VIDEO = (
    "{} is neither a rosbag2 nor a video that can be read: give a .mcap, a .db3, a folder of images"
    " or a video file (MP4, MOV, MKV, AVI ...)"
)


class ImageSequence(Recording):
    """Images at a constant rate; subclasses give them as messages."""

    fps: float

    def _stamp(self, index: int) -> int:
        return FIRST_STAMP + round(index * 1e9 / self.fps)

    def _message(self, index: int, fields: dict[str, Any]) -> BagMessage:
        types = typestore().types
        stamp = self._stamp(index)
        time = types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
        header = types["std_msgs/msg/Header"](stamp=time, frame_id=FRAME_ID)
        topic = self.topics.image
        message = types[topic.type](header=header, **fields)
        cdr = bytes(typestore().serialize_cdr(message, topic.type))
        return BagMessage(topic.name, topic.type, stamp, cdr)

    def pictures(self, stamps: Collection[int]) -> dict[int, np.ndarray]:
        wanted = {i for i in range(self.frames) if self._stamp(i) in stamps}
        return {message.stamp: decode_picture(message) for message in self._selected(wanted)}

    def messages(self) -> Iterator[BagMessage]:
        return self._selected(range(self.frames))

    @abstractmethod
    def _selected(self, wanted: Collection[int]) -> Iterator[BagMessage]:
        """Yield the messages of these indices."""


class ImageFolder(ImageSequence):
    """The images of a folder in the natural order of their names, published compressed: JPEG and
    PNG files as they are, others as PNG.
    """

    kind = "images"

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path = path
        self.fps = fps or FOLDER_FPS
        self._files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order
        )
        self.frames = len(self._files)
        for file in self._files:
            check_inside(file, path, BagError)
        if not self._files:
            raise BagError(
                f"{path} holds neither a rosbag2 nor images ({', '.join(IMAGE_SUFFIXES)}): "
                "give a folder that does"
            )
        self.duration = (self.frames - 1) / self.fps
        name = "/camera/color/image_raw/compressed"
        self.topics = CameraTopics(Topic(name, COMPRESSED_IMAGE, self.frames))

    def _selected(self, wanted: Collection[int]) -> Iterator[BagMessage]:
        for index in sorted(wanted):
            yield self._message(index, self._read(self._files[index]))

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        content = read_bytes(file, MAX_PICTURE_BYTES, BagError)
        stored = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}.get(file.suffix.lower())
        if stored is not None:
            return {"format": stored, "data": np.frombuffer(content, np.uint8)}
        try:
            image = decode_file(content, cv2.IMREAD_COLOR)
        except EncodingError as error:
            raise BagError(f"{file} is not a readable image ({error}): remove it") from None
        return {"format": "png", "data": cv2.imencode(".png", image)[1].reshape(-1)}


class VideoFile(ImageSequence):
    """The frames of a video file, published as bgr8 images."""

    kind = "video"

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path = path
        capture = self._open()
        try:
            self.fps = fps or capture.get(cv2.CAP_PROP_FPS)
            if not 0 < self.fps <= 1000:
                raise BagError(f"{path} does not say how many frames a second it has: give --fps")
            if not capture.read()[0]:
                raise BagError(f"{path} has no readable frame: it is damaged, or copy it again")
            counted = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        self.frames = max(counted, 1)
        self.duration = (self.frames - 1) / self.fps
        self.topics = CameraTopics(Topic("/camera/color/image_raw", IMAGE, self.frames))

    def _open(self) -> cv2.VideoCapture:
        if self.path.suffix.lower() in IMAGE_SUFFIXES:
            raise BagError(f"{self.path} is a single image: give the folder that it is in")
        try:
            with open_regular(self.path) as file:
                head = file.read(16)
        except OSError as error:
            raise BagError(f"{self.path} cannot be read: {error.strerror}") from None
        # a play list would have the decoder open other files
        if not _VIDEO.match(head):
            raise BagError(_NO_VIDEO.format(self.path))
        with _quiet_opencv():
            capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise BagError(_NO_VIDEO.format(self.path))
        pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if pixels > MAX_PIXELS:
            capture.release()
            raise BagError(f"{self.path} has frames above {MAX_PIXELS} pixels: scale it down")
        return capture

    def _selected(self, wanted: Collection[int]) -> Iterator[BagMessage]:
        last = max(wanted, default=-1)
        capture = self._open()
        try:
            for index in range(last + 1):
                # The number of frames in a video's header is an estimate: it may end earlier.
                if not capture.grab():
                    return
                if index in wanted:
                    ok, frame = capture.retrieve()
                    if ok:
                        names = ("height", "width", "encoding", "is_bigendian", "step")
                        fields = dict(zip(names, image_fields(frame, "bgr8")))
                        data = np.ascontiguousarray(frame).reshape(-1)
                        yield self._message(index, {**fields, "data": data})
        finally:
            capture.release()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Silence OpenCV and its decoder: a broken file is told in one line of ours."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 5 moved these two.
    log: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)


def _natural_order(path: Path) -> list[int | str]:
    """Sort key that puts ``frame10`` behind ``frame9``."""
    parts = re.split(r"(\d+)", path.name)
    # what stands between numbers comes first, so text meets text; "²" is a digit and no number
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)]
