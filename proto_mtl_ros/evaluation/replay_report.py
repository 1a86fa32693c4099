# SPDX-License-Identifier: Apache-2.0
"""The report on a replay, a page that stands alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.evaluation.charts import histogram, time_series
from proto_mtl_ros.evaluation.report import drawn_frames, write_report


def write_replay_report(
    path: Path,
    figures: Mapping[str, Any],
    frames: Mapping[str, Sequence[SheetRow]],
    classes: Sequence[str],
    palette: np.ndarray,
) -> None:
    """Write the page; it appears whole or not at all.

    ``figures`` are what results.json holds; ``frames`` those of ``FrameAlbum.chosen``, with a few
    "moments" that are shown all at once; ``classes`` and ``palette`` the model's.
    """
    live, latency = figures["live_and_offline"], figures["latency_ms"]["end_to_end"]
    bins = latency["histogram"] or {"counts": [], "edges_ms": []}
    errors = figures["depth"]["abs_err_m_by_stamp"] if figures["depth"] else []
    charts = (
        time_series(_seconds(latency["by_stamp"]), "from image sent to last result received, ms"),
        time_series(figures["confidence_by_s"], "mean confidence of the classes"),
        time_series(_seconds(errors), "mean absolute depth error, m"),
    )
    missing: dict[str, list[str]] = {}
    for second, cause in live["without_result_at_s"] if live else ():
        missing.setdefault(cause, []).append(f"{second:.2f}")
    write_report(
        path,
        "replay.html",
        **figures,
        shown=drawn_frames(frames, classes, palette),
        verdict=live_verdict(live) if live else "",
        missing=missing,
        latency=latency,
        histogram=histogram(
            bins["counts"], bins["edges_ms"], "images by time", "from sent to last result, ms"
        ),
        charts=[one for one in charts if one is not None],
    )


def _seconds(by_stamp: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    return [((stamp - by_stamp[0][0]) / 1e9, value) for stamp, value in by_stamp]


def live_verdict(live: Mapping[str, Any]) -> str:
    """Say whether live results are those of the offline pass, and of which topics."""
    topics = ", ".join(live["maps"]) or "no topic"
    if live["equal"] == live["compared"]:
        return (
            f"All {live['compared']} live results equal the offline pass over the same images, "
            f"value by value, on {topics}."
        )
    return (
        f"{live['equal']} of {live['compared']} live results equal the offline pass over the same "
        f"images on {topics}; the first that differs is of {live['different_at_s'][0]:.2f} s."
    )
