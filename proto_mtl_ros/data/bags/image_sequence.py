# SPDX-License-Identifier: Apache-2.0
"""Recordings without ROS: a folder of images and a video file, played as a camera would be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage, Topic, stamped, stamped_picture
from proto_mtl_ros.data.bags.pictures import COMPRESSED_IMAGE, IMAGE
from proto_mtl_ros.data.bags.recording import GivenCamera, Recording, info_topic_of
from proto_mtl_ros.data.bags.storage import refuse_pointer
from proto_mtl_ros.data.bags.topics import CameraTopics
from proto_mtl_ros.data.map_file import MAX_PICTURE_BYTES
from proto_mtl_ros.encodings import MAX_PIXELS, EncodingError, decode_file
from proto_mtl_ros.encodings.orientation import exif_orientation
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.files import check_inside, open_regular, read_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
FOLDER_FPS = 10.0
FIRST_STAMP = 1_000_000_000
"""Stamp of the first image in nanoseconds: such recordings carry no times, and 0 means "none"."""

_MOST_FRAMES = 10_000_000
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
    """Images without a bag; subclasses give them as messages, with the stamps of FIRST_STAMP on."""

    image_frame = "camera_color_optical_frame"

    def _describe(self, image: Topic, seconds: float, camera: GivenCamera) -> None:
        self.frames, self.duration, self.camera = image.count, seconds, camera
        self.topics = CameraTopics(image, info_topic_of(image, camera, None))


class ImageFolder(ImageSequence):
    """The images of a folder in the natural order of their names, at a constant rate, published
    compressed: JPEG and PNG files as they are, others as PNG. What cannot be read is left out.
    """

    kind = "images"

    def __init__(self, path: Path, fps: float | None = None, camera: GivenCamera = None) -> None:
        self.path, self._period = path, 1e9 / (fps or FOLDER_FPS)
        self._files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order
        )
        for file in self._files:
            check_inside(file, path, BagError)
        if not self._files:
            raise BagError(
                f"{path} holds neither a rosbag2 nor images ({', '.join(IMAGE_SUFFIXES)}): "
                "give a folder that does"
            )
        count = len(self._files)
        image = Topic("/camera/color/image_raw/compressed", COMPRESSED_IMAGE, count)
        self._describe(image, (count - 1) * self._period / 1e9, camera)

    def images(self) -> Iterator[BagMessage]:
        unread: list[str] = []
        for index, file in enumerate(self._files):
            try:
                fields = self._read(file)
            except BagError as error:
                unread.append(str(error))
                continue
            stamp, topic = FIRST_STAMP + round(index * self._period), self.topics.image
            yield stamped(topic.name, topic.type, stamp, stamp, self.image_frame, **fields)
        if len(unread) == self.frames:
            raise BagError(f"none of the {self.frames} images can be read: {unread[0]}")
        if unread:
            self.notes = (f"{len(unread)} images are left out, the first: {unread[0]}",)

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        refuse_pointer(file)
        content = read_bytes(file, MAX_PICTURE_BYTES, BagError)
        stored = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}.get(file.suffix.lower())
        # nobody on the way turns a picture as its camera says
        if stored is not None and exif_orientation(content) == 1:
            return {"format": stored, "data": np.frombuffer(content, np.uint8)}
        try:
            image = decode_file(content, cv2.IMREAD_COLOR)
        except EncodingError as error:
            raise BagError(f"{file} is not a readable image ({error}): remove it") from None
        return {"format": "png", "data": cv2.imencode(".png", image)[1].reshape(-1)}


class VideoFile(ImageSequence):
    """The frames of a video file to its end, published as rgb8 images at the times that it gives.

    ``frames`` and ``duration`` are what its header says, counted where that is nothing.
    """

    kind = "video"

    def __init__(self, path: Path, fps: float | None = None, camera: GivenCamera = None) -> None:
        self.path, self._fps = path, fps
        capture = self._open()
        try:
            self._stated = capture.get(cv2.CAP_PROP_FPS)
            if not 0 < (fps or self._stated) <= 1000:
                raise BagError(f"{path} does not say how many frames a second it has: give --fps")
            if not capture.read()[0]:
                raise BagError(f"{path} has no readable frame: it is damaged, or copy it again")
            counted = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        seconds = (counted - 1) / (fps or self._stated)
        if not 0 < counted < _MOST_FRAMES:  # a stream that could not go back to write its header
            stamps = [stamp for stamp, _ in self._grabbed()]
            counted, seconds = len(stamps), (stamps[-1] - stamps[0]) / 1e9
        self._describe(Topic("/camera/color/image_raw", IMAGE, counted), seconds, camera)

    def _open(self) -> cv2.VideoCapture:
        if self.path.suffix.lower() in IMAGE_SUFFIXES:
            raise BagError(f"{self.path} is a single image: give the folder that it is in")
        try:
            refuse_pointer(self.path)
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

    def _grabbed(self) -> Iterator[tuple[int, cv2.VideoCapture]]:
        """Yield the stamp of every frame, to the end, and what retrieves it."""
        capture = self._open()
        try:
            index, last = 0, -1
            while capture.grab():
                at = round(index * 1e9 / (self._fps or self._stated))
                if self._fps is None and capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6 > last:
                    at = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                index, last = index + 1, max(at, last + 1)
                yield FIRST_STAMP + last, capture
        finally:
            capture.release()

    def images(self) -> Iterator[BagMessage]:
        for stamp, capture in self._grabbed():
            ok, frame = capture.retrieve()
            if ok:
                rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                name = self.topics.image.name
                yield stamped_picture(name, stamp, stamp, self.image_frame, rgb)


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
    parts = re.split(r"(\d+)", path.name)
    # what stands between numbers comes first, so text meets text; "²" is a digit and no number
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)]
