# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are the colour camera, its calibration, and its depth."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from proto_mtl_ros.data.bags.bag import Bag, Topic
from proto_mtl_ros.errors import BagError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")

_IN_COLOUR = re.compile(r"rgb|bgr|bayer_|yuv|uyvy|yuyv|nv\d|8UC[34]")
_MADE_FROM_IMAGES = re.compile(r"depth|disparity|label|segment|mask|confidence|normal|overlay")
_INFRARED = re.compile(r"infra|/ir/|_ir\b|thermal")
_COLOUR = re.compile(r"rgb|colou?r")


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera; None where the recording has none."""

    image: Topic
    camera_info: Topic | None = None
    depth: Topic | None = None


def choose_topics(
    bag: Bag,
    image: str | None = None,
    camera_info: str | None = None,
    depth: str | None = None,
) -> CameraTopics:
    """Return the topics of the colour camera of ``bag``; those that are named are taken as named.

    Guessed are: an Image or CompressedImage topic in colour (names such as "depth" or "overlay"
    last, with "color" or "rgb" first, raw before compressed), the CameraInfo nearest to it by name,
    a 16UC1 or 32FC1 depth topic (one aligned to colour first) and its CameraInfo. BagError where a
    named topic is not there or of another type, or nothing is a colour image.
    """
    topics = [topic for topic in bag.topics if topic.count]
    encodings = _encodings(bag, topics)
    if image is not None:
        chosen = _named(bag, image, (IMAGE, COMPRESSED_IMAGE))
    else:
        candidates = [t for t in topics if is_colour(t, encodings.get(t.name, ""))]
        if not candidates:
            raise BagError(f"{bag.path} has no colour images: {_inventory(bag)}")
        chosen = min(candidates, key=lambda t: _colour_rank(t, encodings))
    if camera_info is not None:
        info: Topic | None = _named(bag, camera_info, (CAMERA_INFO,))
    else:
        info = nearest_info(chosen, (t for t in topics if t.type == CAMERA_INFO))
    if depth is not None:
        return CameraTopics(chosen, info, _named(bag, depth, (IMAGE, COMPRESSED_IMAGE)))
    depths = [t for t in topics if t != chosen and _is_depth(t, encodings)]
    return CameraTopics(
        chosen, info, min(depths, key=lambda t: _depth_rank(t, chosen), default=None)
    )


def _encodings(bag: Bag, topics: list[Topic]) -> dict[str, str]:
    """Return encoding (Image) or format (CompressedImage) of the first message of each topic."""
    found: dict[str, str] = {}
    for topic in topics:
        message = bag.first(topic.name) if topic.type in (IMAGE, COMPRESSED_IMAGE) else None
        if message is not None:
            decoded = message.decode()
            found[topic.name] = decoded.encoding if topic.type == IMAGE else decoded.format
    return found


def is_colour(topic: Topic, encoding: str) -> bool:
    """Tell whether a topic of this encoding (or format, when compressed) is a camera's picture."""
    name = topic.name.lower()
    if encoding.startswith((*DEPTH_ENCODINGS, "32FC")):  # "16UC1; png compressed" among them
        return False
    if topic.type == COMPRESSED_IMAGE:
        return "compressedDepth" not in encoding and "theora" not in name
    # A camera may be named after its depth, but a grey "label" or "confidence" is no picture.
    return topic.type == IMAGE and bool(
        _IN_COLOUR.match(encoding) or not _MADE_FROM_IMAGES.search(name)
    )


def _colour_rank(
    topic: Topic, encodings: dict[str, str]
) -> tuple[int, bool, bool, bool, bool, str]:
    name = topic.name.lower()
    return (
        len(_MADE_FROM_IMAGES.findall(name)),
        bool(_INFRARED.search(name)),
        not _COLOUR.search(name),
        "mono" in encodings.get(topic.name, ""),
        topic.type == COMPRESSED_IMAGE,
        topic.name,
    )


def _is_depth(topic: Topic, encodings: dict[str, str]) -> bool:
    encoding = encodings.get(topic.name, "")
    if topic.type == COMPRESSED_IMAGE:
        return "compressedDepth" in encoding
    return topic.type == IMAGE and encoding in DEPTH_ENCODINGS


def _depth_rank(topic: Topic, image: Topic) -> tuple[bool, bool, int, bool, str]:
    name = topic.name.lower()
    return (
        bool(re.search(r"infra|confidence", name)),
        not re.search(r"align|regist", name),
        -_common_parts(topic.name, image.name),
        topic.type == COMPRESSED_IMAGE,
        topic.name,
    )


def nearest_info(topic: Topic, infos: Iterable[Topic]) -> Topic | None:
    """Return the CameraInfo of the topic's own or an enclosing namespace, never a neighbour's."""

    def namespace(info: Topic) -> str:
        return info.name.rsplit("/", 1)[0] + "/"

    own = [info for info in infos if topic.name.startswith(namespace(info))]
    return max(own, key=lambda info: (len(namespace(info)), info.name), default=None)


def _common_parts(first: str, second: str) -> int:
    parts = zip(first.strip("/").split("/"), second.strip("/").split("/"))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts))


def _named(bag: Bag, name: str, types: tuple[str, ...]) -> Topic:
    for topic in bag.topics:
        if topic.name == name:
            if topic.type not in types:
                raise BagError(f"{name} is a {topic.type}: choose a topic of {' or '.join(types)}")
            if not topic.count:
                raise BagError(f"{name} is in {bag.path} without a message: choose another topic")
            return topic
    raise BagError(f"{bag.path} has no topic {name}: {_inventory(bag)}")


def _inventory(bag: Bag) -> str:
    held = [f"{t.name} ({t.type.rsplit('/', 1)[-1]})" for t in bag.topics if t.count]
    if not held and bag.passed_over:
        return f"it holds {', '.join(bag.passed_over[:12])}: only CDR and ROS 1 messages are read"
    if not held:
        return "it holds no messages at all, record again"
    more = f" and {len(held) - 12} more" if len(held) > 12 else ""
    names = ", ".join(held[:12])
    return f"it holds {names}{more}; name one with --image-topic, or give another recording"
