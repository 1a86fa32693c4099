# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a model on a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.evaluation.charts import time_series
from proto_mtl_ros.evaluation.depth_error import REGISTRATIONS, depth_tiles
from proto_mtl_ros.evaluation.report import drawn_frames, number, percent, write_report

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

    Args:
        figures: what results.json holds.
        frames: of ``FrameAlbum.chosen``.
        classes, palette: of the model.
        facts: what it was made with, by name.
    """
    recording, depth = figures["recording"], figures["depth"]
    series = figures["time_series"]
    drawn = drawn_frames(frames, classes, palette)
    charts = [
        time_series(list(zip(series["seconds"], series[name], strict=True)), text)
        for name, text in _SERIES.items()
    ]
    if "depth" not in drawn["heads"]:
        why_not = "the model predicts no depth"
    elif recording["depth_topic"] is None:
        why_not = "the recording has no depth topic"
    else:
        why_not = "no frame has depth in common"
    metric = (
        "Predicted depth is in metres, corrected for this camera's focal length."
        if figures["metric"]
        else "No calibrated camera_info: predicted depth is as if the model's own camera had taken"
        " the images, and its scale means nothing."
    )
    write_report(
        path,
        "recording.html",
        title="A model on a recording",
        subtitle=f"{figures['model']['name']} on {figures['frames']} frames of {recording['path']}"
        f" ({recording['seconds']:.1f} s), {recording['image_topic']}",
        tiles=_tiles(figures),
        notes=recording["notes"],
        frames=drawn,
        ranked_by="confidence" if depth is None else "depth error",
        charts=[one for one in charts if one is not None],
        depth=depth,
        explanation=f"{REGISTRATIONS.get(recording['registration'], '')} {metric}",
        why_not=why_not,
        segmentation=figures["segmentation"],
        classes=list(classes),
        facts=facts,
    )


def _tiles(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = [
        (f"{number(figures['ms']['infer']['p50'], 0)} ms", "network, p50"),
        (percent(figures["confidence"]), "mean confidence of the classes"),
    ]
    if figures["depth"] is not None:
        registered = figures["recording"]["registration"] != "none"
        shown += depth_tiles(figures["depth"], registered)
    if figures["normals"] is not None:
        own = figures["normals"]
        shown.append((f"{own['mean_deg']:.1f} deg", "normals against those of measured depth"))
    if figures["segmentation"] is not None:
        shown.append((number(figures["segmentation"]["miou"]), "mIoU against the label images"))
    flicker = figures["stability"].get("flicker")
    if flicker is not None:
        shown.append((f"{100 * flicker:.1f} %", "of pixels change class along the flow"))
    return shown
