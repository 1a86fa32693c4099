# SPDX-License-Identifier: Apache-2.0
"""What ffmpeg_image_transport sends, packets of H.264 or HEVC, as images; PyAV decodes them.

A packet is worth something only with those before it, back to one with a whole picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from proto_mtl_ros.data.bags.bag import BagMessage, stamped_picture
from proto_mtl_ros.data.bags.message_types import VIDEO_PACKET
from proto_mtl_ros.encodings import MAX_PIXELS

av: Any = import_module("av") if find_spec("av") else None  # extra "video"


def decoded_video(
    messages: Iterable[BagMessage], whole: set[int] | None = None
) -> Iterator[BagMessage]:
    """Yield messages, images in place of packets; a packet that cannot be decoded stays as it is.

    ``whole`` takes the recorded times of packets from which decoding can begin.
    """
    decoders: dict[str, _Decoder] = {}
    for message in messages:
        if message.type != VIDEO_PACKET or av is None:
            yield message
            continue
        decoder = decoders.setdefault(message.topic, _Decoder(whole))
        try:
            yield from decoder.feed(message)
        except Exception:  # whatever broken packets lead the decoder into
            yield message
    for decoder in decoders.values():
        yield from decoder.flushed()


class _Decoder:
    def __init__(self, whole: set[int] | None) -> None:
        self._codec: Any = None
        self._packets: list[tuple[str, int, int, str]] = []  # topic, time, stamp, frame of each
        self._whole = whole

    def feed(self, message: BagMessage) -> Iterator[BagMessage]:
        content = message.decode()
        if self._codec is None:
            name = content.encoding.lower()
            self._codec = av.CodecContext.create("hevc" if "265" in name or "hevc" in name
                                                 else "h264", "r")  # fmt: skip
            self._codec.options = {"max_pixels": str(MAX_PIXELS)}
        packet = av.Packet(content.data.tobytes())
        packet.pts = packet.dts = len(self._packets)
        frame = str(content.header.frame_id)
        self._packets.append((message.topic, message.time, message.stamp, frame))
        yield from map(self._image, self._codec.decode(packet))

    def flushed(self) -> Iterator[BagMessage]:
        try:
            yield from map(self._image, self._codec.decode(None) if self._codec else ())
        except Exception:  # of the last packets nothing comes
            return

    def _image(self, frame: Any) -> BagMessage:
        topic, time, stamp, frame_id = self._packets[frame.pts]
        if frame.key_frame and self._whole is not None:
            self._whole.add(time)
        return stamped_picture(topic, time, stamp, frame_id, frame.to_ndarray(format="rgb24"))
