# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a replay, and its figures in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.evaluation.charts import histogram, time_series
from proto_mtl_ros.evaluation.depth_error import REGISTRATIONS, depth_tiles
from proto_mtl_ros.evaluation.report import drawn_frames, number, write_report

_CAUSES = {
    "overwritten": "overwritten by a newer image while the node was busy",
    "no_subscribers": "nobody subscribed to a result",
    "lost_in_transport": "sent by the player, never received by the node",
    "result_not_recorded": "processed, but its results did not reach the recorder",
    "max_rate": "more than the parameter max_rate lets through",
    "disabled": "the node was disabled",
    "engine_error": "the engine failed",
    "engine_stalled": "the engine did not return",
    "engine_restarting": "a new engine was being loaded after one that failed",
    "engine_failed": "the engine had failed, and was given up",
    "engine_building": "the engine was still being built",
}
_KINDS = {"drops": ("late", "dropped"), "bad": ("lost", "bad"), "skipped": ("idle", "skipped")}
_RECORDINGS = {"bag": "rosbag2", "video": "video", "images": "folder of images"}


def write_replay_report(
    path: Path,
    figures: Mapping[str, Any],
    frames: Mapping[str, Sequence[SheetRow]],
    classes: Sequence[str],
    palette: np.ndarray,
) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        figures: what results.json holds.
        frames: of ``FrameAlbum.chosen``, with a few "moments" that are shown all at once.
        classes, palette: of the model.
    """
    recording, latency = figures["recording"], figures["latency_ms"]["end_to_end"]
    live, depth = figures["live_and_offline"], figures["depth"]
    stages = figures["latency_ms"]["stages"]
    bins = latency["histogram"] or {"counts": [], "edges_ms": []}
    times = [((stamp - latency["by_stamp"][0][0]) / 1e9, ms) for stamp, ms in latency["by_stamp"]]
    errors = depth["abs_err_m_by_stamp"] if depth else []
    charts = (
        time_series(times, "from image sent to last result received, ms"),
        time_series(figures["confidence_by_s"], "mean confidence of the classes"),
        time_series(
            [((stamp - errors[0][0]) / 1e9, error) for stamp, error in errors],
            "mean absolute depth error, m",
        ),
    )
    missing: dict[str, list[str]] = {}
    for second, cause in live["without_result_at_s"] if live else ():
        missing.setdefault(cause, []).append(f"{second:.2f}")
    write_report(
        path,
        "replay.html",
        title=figures["title"],
        subtitle=f"{recording['path']} ({_RECORDINGS[recording['kind']]}):"
        f" {recording['image_topic']}, {recording['images']} images in"
        f" {recording['duration_s']:.1f} s",
        tiles=_tiles(figures),
        frames=drawn_frames(frames, classes, palette),
        account=figures["frames"],
        images=_images(figures["frames"]),
        live=live,
        verdict=live_verdict(live) if live else "",
        missing=[(cause, _meaning(cause), seconds) for cause, seconds in missing.items()],
        latency=latency,
        stages=stages,
        longest=max((own["p95"] for own in stages.values()), default=0.0) or 1.0,
        histogram=histogram(
            bins["counts"], bins["edges_ms"], "images by time", "from sent to last result, ms"
        ),
        charts=[one for one in charts if one is not None],
        depth=depth,
        explanation=REGISTRATIONS.get(figures["registration"], ""),
        why_not="no frame has depth in common"
        if recording["depth_topic"]
        else "the recording has no depth topic",
        notes=figures["notes"],
        facts=figures["made_with"],
    )


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


def _meaning(cause: str) -> str:
    return _CAUSES.get(cause, cause.replace("_", " "))


def _images(account: Mapping[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return what became of images: name, count, CSS class of its share and meaning."""
    rows = [("processed", account["processed"], "good", "results were published")]
    for group, (kind, word) in _KINDS.items():
        rows += [
            (f"{word}: {cause}", count, kind, _meaning(cause))
            for cause, count in account[group].items()
        ]
    lost = account["lost_in_transport"]
    rows.append(("lost in transport", lost, "lost", _CAUSES["lost_in_transport"]))
    if account["unaccounted"]:
        why = "the node's counters do not add up"
        rows.append(("not accounted for", account["unaccounted"], "", why))
    total = "sent by the player, the sum of the above"
    return [*rows, ("published", account["published"], "", total)]


def _tiles(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    account, latency = figures["frames"], figures["latency_ms"]["end_to_end"]
    shown = [
        (f"{figures['rate_out_hz']:.1f} Hz", f"results, from {figures['rate_in_hz']:.1f} Hz in"),
        (
            f"{account['processed']} of {account['published']}",
            "images processed, the others are accounted for below",
        ),
        (
            f"{number(latency['p50'], 0)} / {number(latency['p95'], 0)} ms",
            "from image sent to last result received, p50 / p95",
        ),
    ]
    if figures["depth"] is not None:
        shown += depth_tiles(figures["depth"], figures["registration"] != "none")
    return shown
