# SPDX-License-Identifier: Apache-2.0
"""The first, middle and last image of a recording, with the depth that was measured beside them."""

from __future__ import annotations

import numpy as np

from proto_mtl_ros.data.bags.recording import Recording
from proto_mtl_ros.drawing.contact_sheet import (
    SheetRow,
    contact_sheet,
)
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
    depths = _depths(recording, chosen)
    rows = [
        SheetRow(f"{(stamp - stamps[0]) / 1e9:.2f} s", pictures[stamp], depth=depths.get(stamp))
        for stamp in chosen
    ]
    sheet = contact_sheet(rows, (), ())
    return encode_compressed(sheet, "png").tobytes()


def _depths(recording: Recording, stamps: list[int]) -> dict[int, np.ndarray]:
    """Return stamp of an image -> the depth image nearest in time."""
    best: dict[int, tuple[int, np.ndarray]] = {}
    for frame in recording.depth_frames():
        for stamp in stamps:
            distance = abs(frame.stamp - stamp)
            if stamp not in best or distance < best[stamp][0]:
                best[stamp] = distance, frame.decode()[0]
    return {stamp: depth for stamp, (_, depth) in best.items()}
