# SPDX-License-Identifier: Apache-2.0
"""What a person has who begins: photos and a few masks of own classes, from a recording."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.bags.pictures import decode_depth, decode_ids, decode_picture
from proto_mtl_ros.data.bags.recording import BagRecording

CLASSES = ("floor", "wall", "furniture", "things")
# of the 13 NYU classes by alphabet, bed to window
_OWN = np.array([2, 3, 1, 2, 0, 2, 3, 3, 2, 2, 3, 1, 3], np.uint8)
CAMERA = {"fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5, "width": 640, "height": 480}
_DECODED = {
    "/camera/color/image_raw/compressed": "images",
    "/camera/depth/image_rect_raw": "depth",
    "/camera/normals/image": "normals",
    "/camera/segmentation/image": "segmentation",
}


def write_frames(room: Path, out: Path, frames: Collection[int], **labels: Collection[int]) -> Path:
    """Write frames of the room as a folder; ``labels``: task to those that have a label of it."""
    wanted = {"images": frames, **labels}
    seen = dict.fromkeys(_DECODED.values(), -1)
    for name in wanted:
        (out / name).mkdir(parents=True)
    with BagRecording(room) as recording:
        for message in recording.messages_of(list(_DECODED)):
            kind = _DECODED[message.topic]
            seen[kind] += 1
            if seen[kind] not in wanted.get(kind, ()):
                continue
            path = out / kind / f"photo{seen[kind]:02d}"
            if kind == "images":
                cv2.imwrite(f"{path}.jpg", decode_picture(message)[..., ::-1])
            elif kind == "depth":
                np.save(path, decode_depth(message))
            elif kind == "normals":
                own = np.frombuffer(message.decode().data, np.int8).reshape(480, 640, 3)
                np.save(path, own.astype(np.float32) / 127)
            else:
                ids = decode_ids(message)
                cv2.imwrite(f"{path}.png", np.where(ids < 13, _OWN[np.minimum(ids, 12)], 255))
    (out / "camera.json").write_text(json.dumps(CAMERA))
    if "segmentation" in labels:
        (out / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return out
