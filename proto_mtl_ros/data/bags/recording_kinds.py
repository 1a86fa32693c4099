# SPDX-License-Identifier: Apache-2.0
"""Which kind of recording a path is."""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.data.bags.bag import is_bag
from proto_mtl_ros.data.bags.image_sequence import ImageFolder, VideoFile
from proto_mtl_ros.data.bags.recording import BagRecording, GivenCamera, Recording
from proto_mtl_ros.errors import BagError


def open_recording(
    path: str | Path,
    fps: float | None = None,
    image_topic: str | None = None,
    info_topic: str | None = None,
    depth_topic: str | None = None,
    camera: GivenCamera = None,
) -> Recording:
    """Open whatever ``path`` is: a rosbag2 folder or file, a folder of images, or a video file.

    ``fps`` are images per second of a folder (10 without it), or of a video, in place of its own.
    Topics of a rosbag2 are guessed when None; images and videos have one fixed image topic.
    BagError where nothing usable is there, or an option does not fit the kind of recording.
    """
    path = Path(path)
    if fps is not None and not 0 < fps <= 1000:
        raise BagError(f"{fps} frames per second cannot be played: give --fps between 0 and 1000")
    if not path.exists():
        raise BagError(f"there is no recording at {path}: check the path")
    if is_bag(path):
        if fps is not None:
            raise BagError(f"{path} has times of its own: leave out --fps, or give --rate")
        return BagRecording(path, image_topic, info_topic, depth_topic, camera)
    sequence = (ImageFolder if path.is_dir() else VideoFile)(path, fps, camera)
    own = sequence.topics.image.name
    for topic in (image_topic, info_topic, depth_topic):
        if topic not in (None, own):
            raise BagError(f"{path} is no rosbag2 and has no topic {topic}, its images are {own}")
    return sequence
