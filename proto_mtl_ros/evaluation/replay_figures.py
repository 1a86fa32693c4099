# SPDX-License-Identifier: Apache-2.0
"""The figures of a replay: what became of every image, rates, latencies, depth error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import (
    Bag,
    BagMessage,
)
from proto_mtl_ros.data.bags.recording import (
    Recording,
    image_arguments,
)
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.encodings import to_depth
from proto_mtl_ros.evaluation.depth_error import (
    DepthComparison,
    nearest_pairs,
)
from proto_mtl_ros.geometry.depth_cleaning import (
    SHIFT,
    VARIATION,
)

DEPTH_TOLERANCE_NS = 20_000_000
"""Colour and depth images that are farther apart in time are not compared."""

_LATENCY_BINS = 24


def frame_account(published: int, status: Mapping[str, str]) -> dict[str, Any]:
    """Say what became of every published image.

    Args:
        published: images that the player sent.
        status: the node's last diagnostics of the camera.

    Returns:
        published, received and processed images; the others by cause (lost in transport, dropped,
        bad, skipped); ``unaccounted``, which is 0 when the sum is right; and ``info``: what the
        node noted that cost no image, such as an unusable camera_info, by cause.
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
    counts, edges = np.histogram(latencies, _LATENCY_BINS)
    return {
        **percentiles(latencies),
        "histogram": {"counts": counts.tolist(), "edges_ms": edges.tolist()}
        if latencies.size
        else None,
        "by_stamp": [list(one) for one in sorted(zip(arrived, latencies.tolist()))],
        "results_with_unknown_stamp": unknown,
        "results_with_doubled_stamp": doubled,
    }


def percentiles(values: np.ndarray) -> dict[str, float | int | None]:
    """Return count, p50, p95 and max of milliseconds; None where there are none."""
    if not values.size:
        return {"count": 0, "p50": None, "p95": None, "max": None}
    return {
        "count": int(values.size),
        "p50": float(np.percentile(values, 50)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
    }


def rate(times_ns: Iterable[int]) -> float:
    """Return events per second between the first and the last, 0 for fewer than two."""
    times = sorted(times_ns)
    return (len(times) - 1) * 1e9 / (times[-1] - times[0]) if len(times) > 1 else 0.0


def depth_figures(
    recording: Recording, results: Path, depth_topic: str, tolerance: int = DEPTH_TOLERANCE_NS
) -> dict[str, Any]:
    """Compare the recorded predictions with the recording's own depth.

    Returns:
        The figures of :class:`DepthComparison`, how the two were matched, and ``available``: False,
        with a reason, when there is nothing to compare.
    """
    if recording.topics.depth is None:
        return {"available": False, "reason": "the recording has no depth topic"}
    comparison = DepthComparison()
    frame = ""
    image_frame = recording.image_frame()
    gaps: list[float] = []
    with Bag(results) as bag:
        predictions = bag.messages([depth_topic])
        for prediction, truth in nearest_pairs(predictions, recording.depth_frames(), tolerance):
            measured, frame = truth.decode()
            comparison.add(prediction.stamp, read_depth(prediction), measured)
            gaps.append((truth.stamp - prediction.stamp) / 1e6)
    if not comparison.frames:
        reason = f"no depth image within {tolerance / 1e6:g} ms of a predicted one"
        return {"available": False, "reason": reason}
    if not comparison.scales:
        reason = f"in {comparison.frames} frames no pixel has both predicted and measured depth"
        return {"available": False, "reason": reason}
    return {
        "available": True,
        "topic": recording.topics.depth.name,
        "image_frame": image_frame,
        "depth_frame": frame,
        "registered": frame == image_frame,
        "tolerance_ms": tolerance / 1e6,
        "median_gap_ms": float(np.median(gaps)),
        "tolerant_shift": SHIFT,
        "tolerant_variation": VARIATION,
        **comparison.figures(),
    }


def read_depth(message: BagMessage) -> np.ndarray:
    """Return a recorded depth image as float32[H, W] metres, NaN where invalid."""
    return to_depth(*image_arguments(message.decode()))


def replay_figures(
    recording: Recording,
    sent: StampLog,
    received: StampLog,
    status: Mapping[str, Mapping[str, str]],
    results: Path,
    camera: str,
) -> dict[str, Any]:
    """Return all figures of a replay, ready for JSON.

    Args:
        recording: what was played.
        sent: the player's log.
        received: the recorder's log.
        status: the node's last diagnostics by status name.
        results: the recorded results.
        camera: namespace of the result topics.
    """
    own = next((v for k, v in status.items() if k.endswith(f": {camera}")), {})
    image_topics = [
        f"/{camera}/{name}"
        for name in ("segmentation/image", "depth/image", "normals/color")
        if f"/{camera}/{name}" in received.stamps
    ]
    sent_times = [time for times in sent.times.values() for time in times]
    first = received.times.get(image_topics[0], []) if image_topics else []
    account = frame_account(len(sent_times), own)
    account["recorded"] = len(first)
    return {
        "frames": account,
        "rate_in_hz": rate(sent_times),
        "rate_out_hz": rate(first),
        "latency_ms": {
            "end_to_end": end_to_end(sent, received, image_topics),
            "stages": stage_latencies(own),
        },
        "recorded_messages": {topic: len(stamps) for topic, stamps in received.stamps.items()},
        "depth": depth_figures(recording, results, f"/{camera}/depth/image"),
        "diagnostics": {name: dict(values) for name, values in status.items()},
    }
