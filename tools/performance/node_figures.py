# SPDX-License-Identifier: Apache-2.0
"""Figures of one load on the node: what came, how late, what became of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.stamp_log import StampLog


@dataclass(frozen=True)
class LoadFigures:
    """One load.

    ``latency_ms``: "p50", "p95", "p99" from just before an image is published to the arrival of its
    last result; empty when nothing came.
    """

    sent: int  # images
    answered: int  # images of which every result arrived
    processed: int  # images that the node says it has published results of
    lost_in: int  # images that never reached the node
    lost_out: int  # results that the node published and that did not arrive
    rate: float  # answered images a second, all cameras together
    latency_ms: dict[str, float]
    share: dict[str, float]  # process -> of one core, mean over the load
    memory_mib: dict[str, float]  # process -> at the end; what processes share is divided

    @property
    def loss(self) -> float:
        """Share of the images that got no result, whatever the cause."""
        return 1.0 - self.answered / max(self.sent, 1)


def latencies(sent: StampLog, heard: StampLog, topics: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return milliseconds from image to last result, float64 [n], of the images answered in full.

    Args:
        sent: images by camera.
        heard: results by topic; those of other loads are passed over.
        topics: camera -> topics of its results.
    """
    found = []
    for camera, names in topics.items():
        arrivals = [_times(heard, name) for name in names]
        for stamp, time in _times(sent, camera).items():
            if all(stamp in arrived for arrived in arrivals):
                found.append(1e-6 * (max(arrived[stamp] for arrived in arrivals) - time))
    return np.array(found)


def _times(log: StampLog, name: str) -> dict[int, int]:
    return dict(zip(log.stamps.get(name, ()), log.times.get(name, ()), strict=True))


def load_figures(
    sent: StampLog,
    heard: StampLog,
    topics: Mapping[str, Sequence[str]],
    before: Mapping[str, Mapping[str, str]],
    after: Mapping[str, Mapping[str, str]],
    **measured: Any,
) -> LoadFigures:
    """Return the figures of one load.

    Args:
        sent, heard, topics: see ``latencies``.
        before, after: camera -> what /diagnostics said of it.
        measured: the fields that are measured at the processes.
    """
    images = sum(map(len, sent.stamps.values()))
    values = latencies(sent, heard, topics)
    counted = {
        what: {c: int(after[c][what]) - int(before[c].get(what, 0)) for c in topics}
        for what in ("received", "processed")
    }
    lost_out = sum(
        max(0, counted["processed"][camera] - len(images_of & _times(heard, name).keys()))
        for camera, names in topics.items()
        for images_of in [_times(sent, camera).keys()]
        for name in names
    )
    times = [time for of_camera in sent.times.values() for time in of_camera]
    seconds = 1e-9 * (max(times) - min(times)) * images / max(images - len(topics), 1)
    return LoadFigures(
        sent=images,
        answered=len(values),
        processed=sum(counted["processed"].values()),
        lost_in=images - sum(counted["received"].values()),
        lost_out=lost_out,
        rate=len(values) / max(seconds, 1e-9),
        latency_ms={f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)}
        if len(values)
        else {},
        **measured,
    )
