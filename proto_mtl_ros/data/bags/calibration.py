# SPDX-License-Identifier: Apache-2.0
"""What a recording says about its cameras: which matrix holds, where depth pixels belong.

Decided here alone, and said in ``notes``, so that `bag info`, an evaluation, a data set and a
training take one recording the same way.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import numpy as np

from proto_mtl_ros.data.bags.bag import Topic
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import BagError, DataError, one_line
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.geometry.registration import register_depth, rigid_transform

TF_STATIC = "/tf_static"


@dataclass(frozen=True)
class Calibration:
    """The cameras of a recording, None where not calibrated; what was decided and from what, in
    ``notes``.

    ``registration`` says how depth comes to the image's pixels: ``same camera``, it has them
    already; ``extrinsics``, by the 4x4 ``transform`` from the depth camera's frame to the image's;
    ``none``, unknown, so it is right away from edges alone; empty, there is no depth.
    """

    camera: Camera | None
    depth_camera: Camera | None
    registration: str
    transform: np.ndarray | None
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        recording: BagRecording,
        rectified: bool | None = None,
        registered: bool = False,
        extrinsics: np.ndarray | None = None,
    ) -> Calibration:
        """Decide. ``rectified`` images: None goes by a word of their topic. ``registered``: depth
        pixels are those of the image, although their frames differ. ``extrinsics`` (4x4, depth's
        frame to the image's) replace /tf_static, a camera that was given camera_info.
        DataError where extrinsics lack a camera, or a given one is for images of another shape.
        """
        topics, size = recording.topics, recording.size_of(recording.topics.image)
        camera: Camera | None = None
        given, notes = recording.camera, []
        if isinstance(given, Camera):
            camera = given
            if size and camera.fitted(*size) is None:
                of, images = f"{camera.width}x{camera.height}", f"{size[0]}x{size[1]}"
                raise DataError(
                    f"images are {images}, the camera is for {of}: another aspect ratio"
                )
            notes.append(f"camera as given: {_numbers(camera)}")
        elif given is False:
            notes.append("no camera, as said: depth has no metric scale")
        else:
            camera, note = recorded_camera(
                recording, topics.camera_info, rectified, topics.image, size
            )
            notes.append(note if camera else f"{note}: depth has no metric scale")
        if topics.depth is None:
            return cls(camera, None, "", None, tuple(notes))
        # needed for extrinsics alone
        depth_camera, _ = recorded_camera(recording, recording.depth_info, None, topics.depth)
        frames = recording.frame_of(topics.depth), recording.frame_of(topics.image)
        registration, transform = "none", extrinsics
        if registered:
            registration, transform, why = "same camera", None, "registered to the images, as said"
        elif extrinsics is None and frames[0] == frames[1]:
            registration, why = "same camera", f"registered to the images: both are in {frames[0]}"
        else:
            if transform is None:
                transform = recorded_transform(recording, *frames)
            known = camera is not None and depth_camera is not None
            if transform is not None and known:
                registration = "extrinsics"
                source = TF_STATIC if extrinsics is None else "the extrinsics"
                why = f"brought from {frames[0]} to {frames[1]} by {source}"
            elif extrinsics is not None:
                raise DataError("extrinsics need the camera_info of the images and of the depth")
            else:
                transform = None
                why = f"in {frames[0]}, the images in {frames[1]}: right away from edges alone"
        notes.append(f"depth of {topics.depth.name} is {why}")
        return cls(camera, depth_camera, registration, transform, tuple(notes))

    def fitted(self, width: int, height: int) -> Camera | None:
        return None if self.camera is None else self.camera.fitted(width, height)

    def depth_of_image(self, depth: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return depth [H, W] at the pixels of an image, from a depth image as it was measured."""
        if self.registration == "extrinsics":
            assert self.camera is not None and self.depth_camera is not None
            assert self.transform is not None
            measured = self.depth_camera.resized(depth.shape[1], depth.shape[0])
            depth = register_depth(
                depth, measured, self.camera.resized(width, height), self.transform
            )
        return resize(depth, width, height, "nearest")


def _numbers(camera: Camera) -> str:
    return (
        f"fx {camera.fx:.1f}, fy {camera.fy:.1f}, cx {camera.cx:.1f}, cy {camera.cy:.1f}"
        f" at {camera.width}x{camera.height}"
    )


def is_rectified(topic: str) -> bool:
    """Tell whether a word of a topic's name says that its images are rectified."""
    return bool({"rect", "rectified"} & set(re.split(r"[/_]", topic.lower())))


def recorded_camera(
    recording: BagRecording,
    info_topic: Topic | None,
    rectified: bool | None,
    image_topic: Topic,
    size: tuple[int, int] | None = None,
) -> tuple[Camera | None, str]:
    """Return the camera of the first camera_info of a topic, and what it is or why there is none.

    P holds if ``rectified``; None: if the name of ``image_topic`` says so. ``size`` is the images'
    (width, height), where it is known.
    """
    if info_topic is None:
        return None, f"no camera_info beside {image_topic.name}"
    name = info_topic.name
    if rectified is None:
        rectified = is_rectified(image_topic.name)
    for message in recording.messages_of([name]):
        try:
            info = message.decode()
            roi = info.roi
            width, height = (info.width, info.height) if info.width else size or (0, 0)
            camera = Camera.from_info(
                height, width, info.k, info.d, info.p, info.distortion_model,
                info.binning_x, info.binning_y,
                (roi.x_offset, roi.y_offset, roi.height, roi.width), rectified,
            )  # fmt: skip
        except BagError:
            continue  # a damaged one
        except ValueError as error:
            return None, f"{name} cannot be used ({one_line(error)})"
        if camera is None:
            break
        if size and camera.fitted(*size) is None:
            of, images = f"{camera.width}x{camera.height}", f"{size[0]}x{size[1]}"
            return None, f"{name} is for {of}, images are {images}: it is not used"
        how = "P, the images are rectified" if rectified else "K and D"
        how += f"; as a pinhole, {camera.approximate}" if camera.approximate else ""
        return camera, f"camera of {name} ({how}): {_numbers(camera)}"
    return None, f"{name} is not calibrated"


def recorded_transform(recording: BagRecording, source: str, target: str) -> np.ndarray | None:
    """Return the 4x4 matrix that takes points of one frame to another, as /tf_static has it; None
    without a way. A transform with a rotation of length zero is passed over.
    """
    edges: dict[str, dict[str, np.ndarray]] = {}
    for message in recording.messages_of([TF_STATIC]):
        for stated in message.decode().transforms:
            move, turn = stated.transform.translation, stated.transform.rotation
            try:
                matrix = rigid_transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
            except ValueError:
                continue
            parent, child = stated.header.frame_id.lstrip("/"), stated.child_frame_id.lstrip("/")
            edges.setdefault(child, {})[parent] = matrix  # a later one replaces
            edges.setdefault(parent, {})[child] = np.linalg.inv(matrix)
    found = {source.lstrip("/"): np.eye(4)}
    waiting = deque(found)
    while waiting:
        frame = waiting.popleft()
        for neighbour, step in edges.get(frame, {}).items():
            if neighbour not in found:
                found[neighbour] = step @ found[frame]
                waiting.append(neighbour)
    return found.get(target.lstrip("/"))
