# SPDX-License-Identifier: Apache-2.0
"""What a training was worth, on a page: before and after, worst frames, curves, how to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from proto_mtl_ros.evaluation.before_after import BeforeAfter
from proto_mtl_ros.evaluation.charts import time_series
from proto_mtl_ros.evaluation.report import colour, machine_facts, picture, write_report
from proto_mtl_ros.runtime.bundle import Bundle

_HEADS = ("input", "label", "before", "after", "error after")


def launch_line(model: Path | str) -> str:
    """Return the command that runs a model on a robot."""
    return f"ros2 launch proto_mtl_ros perception.launch.py model:={model}"


def write_learning_report(
    path: Path,
    bundle: Bundle,
    found: BeforeAfter,
    notes: Sequence[str],
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """Write the page; it appears whole or not at all.

    ``notes`` are what was planned and what to beware of, a sentence each; ``curves`` have values
    over steps, by title.
    """
    manifest = bundle.manifest
    charts = [time_series(points, title, "step") for title, points in curves.items()]
    heads = [head for head in _HEADS if any(head in own for _, own in found.panels)]
    rows = [
        {"caption": caption, "panels": [picture(own[h]) if h in own else None for h in heads]}
        for caption, own in found.panels
    ]
    write_report(
        path,
        "learning.html",
        name=bundle.name,
        found=found,
        notes=[*notes, *found.beware],
        launch=launch_line(f"./{os.path.relpath(bundle.path, path.parent)}"),
        frames={"heads": heads, "far": None,
                "legend": [(c, colour(p)) for c, p in zip(manifest.classes, manifest.palette)]},
        rows=rows,
        charts=[one for one in charts if one is not None],
        facts={"trained on": manifest.training.data, **machine_facts()},
    )  # fmt: skip
