# SPDX-License-Identifier: Apache-2.0
"""A recording on a page that stands alone, as a model sees it; and its images on a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.pictures import decode_depth
from proto_mtl_ros.data.bags.recording import Recording
from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.errors import BagError
from proto_mtl_ros.evaluation.charts import time_series
from proto_mtl_ros.evaluation.report import drawn_frames, write_report

_SERIES = {
    "abs_err": "mean absolute depth error, m",
    "scale": "measured depth / predicted depth, median of the frame",
    "normals_deg": "normals against those of measured depth, degrees",
    "confidence": "mean confidence of the classes",
    "flicker": "share of pixels that change class along the flow",
    "jitter": "change of depth along the flow, |log|",
    "consistency_deg": "normals against those of predicted depth, degrees",
    "ms": "time of a frame, ms",
}


def write_recording_report(
    path: Path,
    figures: Mapping[str, Any],
    frames: Mapping[str, Sequence[SheetRow]],
    classes: Sequence[str],
    palette: np.ndarray,
    facts: Mapping[str, str],
) -> None:
    """Write the page; it appears whole or not at all.

    ``figures`` are what results.json holds, ``frames`` those of ``FrameAlbum.chosen``, ``classes``
    and ``palette`` the model's; ``facts`` say, by name, what it was made with.
    """
    series = figures["time_series"]
    charts = [
        time_series(list(zip(series["seconds"], series[name], strict=True)), text)
        for name, text in _SERIES.items()
    ]
    write_report(
        path,
        "recording.html",
        **figures,
        shown=drawn_frames(frames, classes, palette),
        charts=[one for one in charts if one is not None],
        classes=classes,
        facts=facts,
    )


def recording_sheet(recording: Recording) -> bytes:
    """Return a PNG of the first, middle and last image with the depth nearest to each.

    Raises BagError when the recording has no image that can be decoded.
    """
    stamps = [m.stamp for m in recording.messages() if m.topic == recording.topics.image.name]
    if not stamps:
        raise BagError(f"{recording.path} has no images to show")
    chosen = sorted({stamps[0], stamps[len(stamps) // 2], stamps[-1]})
    pictures = recording.pictures(chosen)
    nearest: dict[int, BagMessage | None] = dict.fromkeys(sorted(pictures))
    for frame in recording.depth_frames():
        for stamp, best in nearest.items():
            if best is None or abs(frame.stamp - stamp) < abs(best.stamp - stamp):
                nearest[stamp] = frame
    if not nearest:
        raise BagError(f"{recording.path} has no image that can be decoded")
    rows = []
    for stamp, partner in nearest.items():
        depth = None
        with suppress(BagError):  # a damaged one is not shown
            depth = None if partner is None else decode_depth(partner)
        rows.append(SheetRow(f"{(stamp - stamps[0]) / 1e9:.2f} s", pictures[stamp], depth=depth))
    return encode_compressed(contact_sheet(rows, (), ()), "png").tobytes()
