# SPDX-License-Identifier: Apache-2.0
"""A replay: its figures from what was logged, and a page that stands alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.drawing.contact_sheet import SheetRow
from proto_mtl_ros.evaluation.charts import histogram, time_series
from proto_mtl_ros.evaluation.report import drawn_frames, write_report

_LATENCY_BINS = 24


def frame_account(published: int, status: Mapping[str, str]) -> dict[str, Any]:
    """Say what became of every published image, from the node's last diagnostics of the camera.

    Published, received and processed images; the others by cause (lost in transport, dropped, bad,
    skipped); ``unaccounted``, which is 0 when the sum is right; and ``info``: what the node noted
    that cost no image, such as an unusable camera_info, by cause.
    """

    def by_cause(prefix: str) -> dict[str, int]:
        causes = {k.removeprefix(prefix): int(v) for k, v in status.items() if k.startswith(prefix)}
        return {cause: count for cause, count in causes.items() if count}

    received = int(status.get("received", 0))
    processed = int(status.get("processed", 0))
    groups = {name: by_cause(f"{name}.") for name in ("drops", "bad", "skipped")}
    others = sum(sum(group.values()) for group in groups.values())
    return {
        "published": published,
        "received": received,
        "processed": processed,
        "lost_in_transport": max(published - received, 0),
        **groups,
        "unaccounted": received - processed - others,
        "info": by_cause("info."),
    }


def stage_latencies(status: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return p50 and p95 in milliseconds by stage of the node, from its diagnostics."""
    stages: dict[str, dict[str, float]] = {}
    for key, value in status.items():
        if key.startswith("latency_ms."):
            stage, _, percentile = key.removeprefix("latency_ms.").rpartition(".")
            stages.setdefault(stage, {})[percentile] = float(value)
    return stages


def end_to_end(sent: StampLog, received: StampLog, topics: Sequence[str]) -> dict[str, Any]:
    """Return the time from sending an image to the arrival of the last of its results, in ms."""
    sent_at = {
        stamp: time
        for topic, stamps in sent.stamps.items()
        for stamp, time in zip(stamps, sent.times[topic])
    }
    arrived: dict[int, int] = {}
    unknown = doubled = 0
    for topic in topics:
        stamps = received.stamps.get(topic, [])
        doubled += len(stamps) - len(set(stamps))
        for stamp, time in zip(stamps, received.times.get(topic, [])):
            if stamp not in sent_at:
                unknown += 1
            else:
                arrived[stamp] = max(time, arrived.get(stamp, 0))
    latencies = np.array([(arrived[s] - sent_at[s]) / 1e6 for s in arrived])
    some = latencies.size > 0
    p50, p95, longest = (
        np.percentile(latencies, (50, 95, 100)).tolist() if some else (None, None, None)
    )
    counts, edges = np.histogram(latencies, _LATENCY_BINS)
    return {
        "count": int(latencies.size),
        "p50": p50,
        "p95": p95,
        "max": longest,
        "histogram": {"counts": counts.tolist(), "edges_ms": edges.tolist()} if some else None,
        "by_stamp": [list(one) for one in sorted(zip(arrived, latencies.tolist()))],
        "results_with_unknown_stamp": unknown,
        "results_with_doubled_stamp": doubled,
    }


def rate(times_ns: Iterable[int]) -> float:
    """Return events per second between the first and the last, 0 for fewer than two."""
    times = sorted(times_ns)
    return (len(times) - 1) * 1e9 / (times[-1] - times[0]) if len(times) > 1 else 0.0


def replay_figures(
    sent: StampLog,
    received: StampLog,
    status: Mapping[str, Mapping[str, str]],
    result_images: Sequence[str],
) -> dict[str, Any]:
    """Return the figures that the logs of player and recorder give, ready for JSON.

    ``status`` are the node's last diagnostics by status name, ``result_images`` the topics of a
    camera's results, ``/<camera>/...``.
    """
    topics = [name for name in result_images if name in received.stamps]
    camera = result_images[0].split("/")[1]
    own = next((v for k, v in status.items() if k.endswith(f": {camera}")), {})
    sent_times = [time for times in sent.times.values() for time in times]
    first = received.times.get(topics[0], []) if topics else []
    return {
        "frames": {**frame_account(len(sent_times), own), "recorded": len(first)},
        "rate_in_hz": rate(sent_times),
        "rate_out_hz": rate(first),
        "latency_ms": {
            "end_to_end": end_to_end(sent, received, topics),
            "stages": stage_latencies(own),
        },
        "recorded_messages": {topic: len(stamps) for topic, stamps in received.stamps.items()},
        "diagnostics": {name: dict(values) for name, values in status.items()},
    }


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
    causes = ", ".join(f"{count} {cause}" for cause, count in live["without_result"].items())
    missing = sum(live["without_result"].values())
    lost = f" {missing} of {live['sent']} images have no result: {causes}." if missing else ""
    if live["equal"] == live["compared"]:
        return (
            f"All {live['compared']} live results equal the offline pass over the same images, "
            f"value by value, on {topics}.{lost}"
        )
    return (
        f"{live['equal']} of {live['compared']} live results equal the offline pass over the same "
        f"images on {topics}; the first that differs is of {live['different_at_s'][0]:.2f} s.{lost}"
    )
