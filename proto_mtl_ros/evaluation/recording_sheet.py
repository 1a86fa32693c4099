# SPDX-License-Identifier: Apache-2.0
"""The first, middle and last image of a recording, with the depth that was measured beside them."""

from __future__ import annotations

from proto_mtl_ros.data.bags.recording import DepthFrame, Recording
from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.errors import BagError


def recording_sheet(recording: Recording) -> bytes:
    """Return a PNG.

    Raises:
        BagError: the recording has no image that can be decoded.
    """
    stamps = [m.stamp for m in recording.messages() if m.topic == recording.topics.image.name]
    if not stamps:
        raise BagError(f"{recording.path} has no images to show")
    chosen = sorted({stamps[0], stamps[len(stamps) // 2], stamps[-1]})
    pictures = recording.pictures(chosen)
    nearest: dict[int, DepthFrame | None] = dict.fromkeys(chosen)
    for frame in recording.depth_frames():
        for stamp, best in nearest.items():
            if best is None or abs(frame.stamp - stamp) < abs(best.stamp - stamp):
                nearest[stamp] = frame
    rows = [
        SheetRow(
            f"{(stamp - stamps[0]) / 1e9:.2f} s",
            pictures[stamp],
            depth=None if frame is None else frame.decode()[0],
        )
        for stamp, frame in nearest.items()
    ]
    return encode_compressed(contact_sheet(rows, (), ()), "png").tobytes()
