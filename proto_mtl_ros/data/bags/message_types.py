# SPDX-License-Identifier: Apache-2.0
"""Message definitions: those of ROS distributions, and those that a recording brings along."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rosbags.convert.converter import generate_message_converter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from proto_mtl_ros.errors import BagError, one_line

ROS1 = "noetic"
RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
"""Types of ROS 1 that ROS 2 calls otherwise."""

VIDEO_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
# Not among the definitions that the reading library ships; the text is the wire contract.
_EXTRA_TYPES = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
    VIDEO_PACKET: "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\n"
    "uint64 pts\nuint8 flags\nbool is_bigendian\nuint8[] data\n",
}
_LONGEST_DEFINITION = 100_000
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)
_BUILT_IN = tuple(f"builtin_interfaces/msg/{name}" for name in ("Time", "Duration"))
_HEADER = "std_msgs/msg/Header"


@lru_cache
def typestore(distribution: str = "jazzy") -> Typestore:
    """Return the message definitions of a distribution; those of Jazzy for an unknown one."""
    known = {store.value: store for store in Stores} | {f"ros2_{ROS1}": Stores.ROS1_NOETIC}
    store = get_typestore(known.get(f"ros2_{distribution.lower()}", Stores.ROS2_JAZZY))
    for name, text in _EXTRA_TYPES.items():
        if name not in store.types:
            store.register(get_types_from_msg(text, name))
    return store


@lru_cache
def types_of(message_type: str, definition: str, distribution: str) -> Typestore:
    """Return a store with a type as a recording defines it, else as its distribution does."""
    known = typestore(distribution or "jazzy")
    try:
        if not definition or len(definition) > _LONGEST_DEFINITION:
            return known
        # constants are of no use here, and what becomes Python's code is names alone
        own: Any = {
            name: ([], fields)
            for name, (_, fields) in get_types_from_msg(definition, message_type).items()
        }
        # the text of ROS 1 has a header of its own, and times that it does not define
        own |= {name: known.fielddefs[name] for name in (*_BUILT_IN, _HEADER)}
        if all(name in known.fielddefs and known.fielddefs[name][1] == fields
               for name, (_, fields) in own.items()):  # fmt: skip
            return known
        names = [*own, *(field for _, fields in own.values() for field, _ in fields)]
        if not all(_NAME.fullmatch(name) for name in names):
            return known
        store = get_typestore(Stores.EMPTY)
        store.register(own)
        return store
    except Exception:  # a definition that cannot be understood
        return known


def decode(message_type: str, cdr: bytes, definition: str = "", distribution: str = "") -> Any:
    """Deserialise ``cdr``; raises BagError when it is not a whole message of that type."""
    try:
        types = types_of(message_type, definition, distribution)
        return types.deserialize_cdr(cdr, message_type)
    except Exception as error:  # the decoder raises whatever the broken bytes lead it into
        raise BagError(f"a {message_type} message cannot be decoded: {one_line(error)}") from None


@lru_cache(maxsize=256)
def from_ros1(
    message_type: str, definition: str
) -> Callable[[bytes | memoryview], bytes | memoryview] | None:
    """Return what turns a ROS 1 message into CDR of the type that Jazzy has, else of the same
    definition; None for a type that neither the recording nor Noetic defines.
    """
    name = RENAMED.get(message_type, message_type)
    old, new = types_of(message_type, definition, ROS1), types_of(name, definition, "")
    if name in typestore().types:
        new = typestore()
    if message_type not in old.types or name not in new.types:
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # it tells that fields have other names
        return generate_message_converter(
            old, new, message_type, name, {}, src_is2=False, dst_is2=True
        )
