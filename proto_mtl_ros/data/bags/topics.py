# SPDX-License-Identifier: Apache-2.0
"""What each topic of a recording shows, and which are the colour camera, its depth, its labels.

Content is told by the encoding together with the name: 16 bits of one channel are depth, heat or
infrared light. What is called usable has been decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any

from proto_mtl_ros.data.bags import video_packets
from proto_mtl_ros.data.bags.bag import Bag, BagMessage, Topic
from proto_mtl_ros.data.bags.message_types import VIDEO_PACKET
from proto_mtl_ros.data.bags.pictures import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    decode_depth,
    decode_ids,
    decode_picture,
)
from proto_mtl_ros.encodings import EncodingError, is_png_of_16_bits
from proto_mtl_ros.errors import BagError

_IN_COLOUR = re.compile(r"rgb|bgr|bayer_|yuv|uyvy|yuyv|nv\d|(8|16)UC[34]")
_MADE_FROM_IMAGES = re.compile(r"depth|disparity|label|segment|mask|confidence|normal|overlay")
_COLOUR = re.compile(r"rgb|colou?r")
_NOT_DEPTH = re.compile(
    r"infra|near_?ir|(\b|_)n?ir(\b|_)|therm|lwir|intens|reflec|signal|ambient|amplitude"
    r"|confid|dispar|label|segm|mask|normal|uncert|variance"
)
_LABELS = re.compile(r"label|segment|semantic")
_NO_LABELS = re.compile(r"confid|score|prob|overlay|colou?red|instance")
_LABEL_ENCODINGS = ("mono8", "8UC1")

_DAMAGED = 100
"""Messages of a topic that are tried until one can be read."""

_DECODERS = {"image": decode_picture, "depth": decode_depth, "labels": decode_ids}


@dataclass(frozen=True)
class CameraTopics:
    image: Topic
    camera_info: Topic | None = None
    depth: Topic | None = None
    labels: Topic | None = None


@dataclass(frozen=True)
class TopicLook:
    """What the first readable message of a topic shows.

    ``encoding`` is also the format of compressed images and the distortion model of a camera info,
    ``size`` "640x480" or why nothing can be read, ``use`` what of ours it can be: "image",
    "camera_info", "depth", "labels" or "".
    """

    encoding: str = ""
    size: str = ""
    frame_id: str = ""
    use: str = ""


def look_at(bag: Bag, topic: Topic) -> TopicLook:
    """Decode the first message of a camera's topic that is whole; nothing for other types."""
    found = TopicLook()
    if topic.type not in (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO, VIDEO_PACKET):
        return found
    if topic.type == VIDEO_PACKET and video_packets.av is None:
        return TopicLook(size="not readable (needs PyAV, extra video)")
    for message in islice(video_packets.decoded_video(bag.messages([topic.name])), _DAMAGED):
        try:
            found = _look_at(message)
            if found.use in _DECODERS:
                height, width = _DECODERS[found.use](message).shape[:2]
                return replace(found, size=f"{width}x{height}")
            return found
        except BagError as error:
            cause = error.__cause__
            why = cause.cause if isinstance(cause, EncodingError) else "damaged"
            found = replace(found, size=f"not readable ({why})", use="")
            if why in ("unknown_encoding", "wrong_kind"):
                return found
    return found


def _look_at(message: BagMessage) -> TopicLook:
    content, name = message.decode(), message.topic.lower()
    frame = str(content.header.frame_id)
    if message.type == VIDEO_PACKET:
        return TopicLook(str(content.encoding), "", frame, "image")
    if message.type == COMPRESSED_IMAGE:
        return TopicLook(str(content.format), "", frame, _use_of_compressed(name, content))
    size = f"{content.width}x{content.height}"
    if message.type == CAMERA_INFO:
        calibrated = content.k[0] > 0
        model = str(content.distortion_model) if calibrated else "not calibrated"
        return TopicLook(model, size, frame, "camera_info" if calibrated else "")
    encoding = str(content.encoding)
    use = ""
    if encoding in ("16UC1", "32FC1", "mono16") and _is_depth(name, encoding == "mono16"):
        use = "depth"
    elif encoding in _LABEL_ENCODINGS and _LABELS.search(name):
        use = "" if _NO_LABELS.search(name) else "labels"
    elif encoding in ("16UC1", "32FC1", "32FC3"):
        use = ""
    # a camera may be named after its depth, but a grey "confidence" is no picture
    elif _IN_COLOUR.match(encoding) or not _MADE_FROM_IMAGES.search(name):
        use = "image"
    return TopicLook(encoding, size, frame, use)


def _use_of_compressed(name: str, content: Any) -> str:
    form = content.format.strip()
    if "compresseddepth" in form.lower():
        return "depth"
    if not is_png_of_16_bits(content.data):
        return "image"
    if form.startswith(("16UC1", "32FC1")) or _is_depth(name, True):
        return "depth"
    return "image" if form.startswith("mono16") else ""


def _is_depth(name: str, must_say_so: bool) -> bool:
    return not _NOT_DEPTH.search(name) and (not must_say_so or "depth" in name)


def choose_topics(
    bag: Bag,
    image: str | None = None,
    camera_info: str | None = None,
    depth: str | None = None,
    looks: Mapping[str, TopicLook] | None = None,  # at all topics, taken here when None
) -> CameraTopics:
    """Return the topics of the colour camera of ``bag``; those that are named are taken as named.

    Guessed are, of what can be read: an image in colour (names such as "depth" or "overlay" last,
    with "color" or "rgb" first, raw before compressed), the CameraInfo nearest to it by name, depth
    (aligned to colour first), and labels that no network beside them has made. BagError where a
    named topic is not there or of another type, or nothing is a colour image.
    """
    topics = [topic for topic in bag.topics if topic.count]
    looks = looks or {topic.name: look_at(bag, topic) for topic in topics}

    def used_as(use: str) -> list[Topic]:
        return [topic for topic in topics if looks[topic.name].use == use]

    if image is not None:
        chosen = _named(bag, image, (IMAGE, COMPRESSED_IMAGE, VIDEO_PACKET))
    else:
        candidates = used_as("image")
        if not candidates:
            unread = [f"{n} is {look.size}; " for n, look in looks.items() if "not " in look.size]
            raise BagError(f"{bag.path} has no colour images: {''.join(unread)}{_inventory(bag)}")
        chosen = min(candidates, key=lambda t: _colour_rank(t, looks[t.name].encoding))
    if camera_info is not None:
        info: Topic | None = _named(bag, camera_info, (CAMERA_INFO,))
    else:
        info = nearest_info(chosen, (t for t in topics if t.type == CAMERA_INFO))
    if depth is not None:
        measured: Topic | None = _named(bag, depth, (IMAGE, COMPRESSED_IMAGE))
    else:
        depths = [topic for topic in used_as("depth") if topic != chosen]
        measured = min(depths, key=lambda t: _depth_rank(t, chosen), default=None)
    names = {topic.name for topic in topics}
    labels = [t for t in used_as("labels") if _namespace(t) + "confidence" not in names]
    return CameraTopics(
        chosen,
        info,
        measured,
        min(labels, key=lambda t: (-_common_parts(t.name, chosen.name), t.name), default=None),
    )


def _colour_rank(topic: Topic, encoding: str) -> tuple[int, bool, bool, bool, bool, str]:
    name = topic.name.lower()
    return (
        len(_MADE_FROM_IMAGES.findall(name)),
        bool(_NOT_DEPTH.search(name)),
        not _COLOUR.search(name),
        "mono" in encoding,
        topic.type == COMPRESSED_IMAGE,
        topic.name,
    )


def _depth_rank(topic: Topic, image: Topic) -> tuple[bool, int, bool, str]:
    return (
        not re.search(r"align|regist", topic.name.lower()),
        -_common_parts(topic.name, image.name),
        topic.type == COMPRESSED_IMAGE,
        topic.name,
    )


def _namespace(topic: Topic) -> str:
    return topic.name.rsplit("/", 1)[0] + "/"


def nearest_info(topic: Topic, infos: Iterable[Topic]) -> Topic | None:
    """Return the CameraInfo of the topic's own or an enclosing namespace, never a neighbour's."""
    own = [info for info in infos if topic.name.startswith(_namespace(info))]
    return max(own, key=lambda info: (len(_namespace(info)), info.name), default=None)


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
