# SPDX-License-Identifier: Apache-2.0
"""A few moments of a replay as pictures: what went in, what came out, what was measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.bags.bag import (
    Bag,
    BagMessage,
)
from proto_mtl_ros.data.bags.recording import (
    Recording,
    decode_picture,
    image_arguments,
)
from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.encodings import (
    decode_image,
    encode_compressed,
)
from proto_mtl_ros.evaluation.depth_error import nearest_pairs
from proto_mtl_ros.evaluation.replay_figures import (
    DEPTH_TOLERANCE_NS,
    read_depth,
)
from proto_mtl_ros.geometry import resize_to_width

_FAR_CHOICES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 80.0)


def complete_stamps(results: Path, camera: str) -> list[int]:
    """Return the stamps (ns) of which every kind of result was recorded, in order."""
    with Bag(results) as bag:
        names = _present(bag, camera).values()
        stamps = [{m.stamp for m in bag.messages([name])} for name in names]
    return sorted(set.intersection(*stamps)) if stamps else []


def replay_rows(
    recording: Recording, results: Path, camera: str, start: int, stamps: Collection[int]
) -> dict[int, SheetRow]:
    """Return moments of a replay by their stamp.

    Args:
        recording: what was played.
        results: the recorded results.
        camera: namespace of the result topics.
        start: stamp of the first image played (ns); captions count from it.
        stamps: of the moments, of ``complete_stamps``.
    """
    if not stamps:
        return {}
    found: dict[int, dict[str, BagMessage]] = {stamp: {} for stamp in sorted(stamps)}
    with Bag(results) as bag:
        for key, name in _present(bag, camera).items():
            for message in bag.messages([name]):
                if message.stamp in found:
                    found[message.stamp][key] = message
    inputs = recording.pictures(set(found))
    measured = _measured(recording, [next(iter(own.values())) for own in found.values()])
    return {
        stamp: SheetRow(
            caption=f"{(stamp - start) / 1e9:.2f} s",
            rgb=inputs[stamp],
            segmentation=_ids(messages.get("segmentation")),
            depth=read_depth(messages["depth"]) if "depth" in messages else None,
            normals=_normals(messages.get("normals")),
            reference_depth=measured.get(stamp),
        )
        for stamp, messages in found.items()
    }


def _present(bag: Bag, camera: str) -> dict[str, str]:
    """Return the kinds of results that were recorded, with their topics."""
    names = {
        "segmentation": f"/{camera}/segmentation/image",
        "depth": f"/{camera}/depth/image",
        "normals": f"/{camera}/normals/color",
    }
    present = {topic.name for topic in bag.topics if topic.count}
    return {key: name for key, name in names.items() if name in present}


def far_limit(rows: list[SheetRow]) -> float:
    """Return a round number of metres that 98 % of all depths of the rows lie within."""
    maps = [m for row in rows for m in (row.depth, row.reference_depth) if m is not None]
    values = [m[::4, ::4][np.isfinite(m[::4, ::4])] for m in maps]
    joined = np.concatenate(values) if values else np.empty(0)
    far = float(np.percentile(joined, 98)) if joined.size else 0.0
    return next((choice for choice in _FAR_CHOICES if choice >= far), _FAR_CHOICES[-1])


def spread(stamps: Sequence[int], count: int) -> list[int]:
    """Return so many of the stamps, at most, evenly spread."""
    if len(stamps) <= count:
        return list(stamps)
    # The first and last moments of a recording are often the least typical ones.
    places = (np.arange(count) + 0.5) / count * len(stamps)
    return [stamps[int(place)] for place in places]


def _measured(recording: Recording, messages: list[BagMessage]) -> dict[int, np.ndarray]:
    pairs = nearest_pairs(messages, recording.depth_frames(), DEPTH_TOLERANCE_NS)
    return {message.stamp: frame.decode()[0] for message, frame in pairs}


def _ids(message: BagMessage | None) -> np.ndarray | None:
    return None if message is None else decode_image(*image_arguments(message.decode()))


def _normals(message: BagMessage | None) -> np.ndarray | None:
    """Return float32[H, W, 3] unit vectors from the recorded colours, (0, 0, 0) where invalid."""
    if message is None:
        return None
    colours = decode_picture(message).astype(np.float32)
    normals = (colours - 128.0) * np.array([1, -1, -1], np.float32) / 127.5
    normals[~colours.any(axis=-1)] = 0
    return normals


def jpeg(rgb: np.ndarray, width: int, quality: int = 85) -> bytes:
    """Return a picture, uint8[H, W, 3] RGB, as a JPEG that is at most ``width`` wide."""
    if rgb.shape[1] > width:
        rgb = resize_to_width(rgb, width)
    return encode_compressed(rgb, "jpeg", quality).tobytes()
