# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a model on a recording: figures, courses, frames, a slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.evaluation import charts
from proto_mtl_ros.evaluation.depth_error import fair_mask
from proto_mtl_ros.evaluation.replay_pictures import far_limit
from proto_mtl_ros.evaluation.report_depth import by_distance
from proto_mtl_ros.evaluation.report_frames import (
    best_and_worst,
    extremes,
    slider,
)
from proto_mtl_ros.evaluation.report_parts import (
    made_with,
    page,
    tiles,
)
from proto_mtl_ros.evaluation.report_values import (
    milliseconds,
    number,
    percent,
)
from proto_mtl_ros.files import write_text

PICTURES = 36
"""Frames that the slider goes through, and so the page's size: about 60 kB each."""


_ALIGNMENTS = {"": "as it is", "_aligned": "scaled to fit", "_affine": "scaled and shifted to fit"}
_MASKS = {"all": "all pixels", "tolerant": "smooth surroundings"}

REGISTRATIONS = {
    "same camera": "The pixels of the measured depth are those of the image.",
    "extrinsics": "Measured depth was brought to the image by its camera matrix and extrinsics.",
    "none": "Measured depth is of another camera, and how that lies to the image is not known:"
    " edges are compared wrongly, so rely on the rows with smooth surroundings.",
}


def frames_to_show(figures: Mapping[str, Any]) -> tuple[list[int], list[int], list[int]]:
    """Return places (from 0) of frames for the slider, of the best and of the worst ones.

    Best and worst are those of the least and largest depth error, without a depth those of the
    highest and lowest confidence; none where there is neither.
    """
    course = figures["course"]
    count = figures["frames"]
    through = sorted({round(n * (count - 1) / max(1, PICTURES - 1)) for n in range(PICTURES)})
    errors: list[tuple[float, int]] = [
        (value, place) for place, value in enumerate(course["abs_err"]) if value is not None
    ] or [(-value, place) for place, value in enumerate(course["confidence"]) if value is not None]
    return through, *best_and_worst(errors)


def write_bag_report(
    path: Path,
    figures: Mapping[str, Any],
    rows: Mapping[int, SheetRow],
    classes: Sequence[str],
    palette: np.ndarray,
    facts: Mapping[str, str],
) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: of the HTML file.
        figures: what results.json holds.
        rows: place of a frame -> what to show of it, of the frames of ``frames_to_show``.
        classes, palette: of the model.
        facts: what it was made with, by name.
    """
    through, best, worst = frames_to_show(figures)
    far = far_limit(list(rows.values()))
    recording = figures["recording"]
    sections = [
        _tiles(figures),
        slider([rows[place] for place in through], classes, palette, far),
        extremes(
            "depth error" if figures["depth"] is not None else "confidence",
            [rows[p] for p in best],
            [rows[p] for p in worst],
            palette,
            far,
        ),
        _courses(figures["course"]),
        _depth(figures, any(row.depth is not None for row in rows.values())),
        _segmentation(figures["segmentation"], classes),
        made_with(facts),
    ]
    subtitle = (
        f"{figures['model']['name']} on {figures['frames']} frames of {recording['path']}"
        f" ({recording['seconds']:.1f} s), {recording['image_topic']}"
    )
    write_text(path, page("A model on a recording", subtitle, sections))


def _tiles(figures: Mapping[str, Any]) -> str:
    shown = [
        (milliseconds(figures["ms"]["infer"]["p50"]), "network, p50"),
        (percent(figures["confidence"]), "mean confidence of the classes"),
    ]
    depth = figures["depth"]
    if depth is not None:
        mask = fair_mask(figures["recording"]["registration"] != "none")
        where = "" if mask == "all" else ", where surroundings are smooth"
        shown += [
            (
                f"{number(depth[mask]['abs_err'], 2)} m",
                f"mean depth error{where}; {percent(depth[mask]['delta1'])} within a factor of"
                " 1.25",
            ),
            (
                f"{number(depth[mask + '_aligned']['abs_err'], 2)} m",
                f"each frame scaled to fit, by {number(depth['median_scale'], 2)} in the median",
            ),
        ]
    if figures["normals"] is not None:
        own = figures["normals"]
        shown.append((f"{own['mean_deg']:.1f} deg", "normals against those of measured depth"))
    if figures["segmentation"] is not None:
        shown.append((number(figures["segmentation"]["miou"]), "mIoU against the label images"))
    steady = figures["stability"]
    if "flicker" in steady:
        shown.append((f"{100 * steady['flicker']:.1f} %", "of pixels change class along the flow"))
    return tiles(shown)


def _courses(course: Mapping[str, Sequence[float | None]]) -> str:
    shown = {
        "abs_err": "mean absolute depth error, m",
        "scale": "scale that fits the frame best",
        "normals_deg": "normals against those of measured depth, degrees",
        "confidence": "mean confidence",
        "flicker": "share of pixels that change class along the flow",
        "jitter": "depth that changes along the flow, |log|",
        "consistency_deg": "normals against those of predicted depth, degrees",
        "ms": "milliseconds of a frame",
    }
    cards = []
    for name, text in shown.items():
        pairs = [
            (x, y)
            for x, y in zip(course["seconds"], course[name], strict=True)
            if x is not None and y is not None
        ]
        chart = charts.course([x for x, _ in pairs], [y for _, y in pairs], "s", text)
        if chart:
            cards.append(f'<div class="card"><p>{escape(text)}</p>{chart}</div>')
    return f'<h2>Over time</h2><div class="columns">{"".join(cards)}</div>'


def _depth(figures: Mapping[str, Any], predicted: bool) -> str:
    depth = figures["depth"]
    heading = "<h2>Depth against the recording's own depth</h2>"
    if depth is None:
        topic = figures["recording"]["depth_topic"]
        why = "no frame has depth in common"
        if topic is None or not predicted:
            why = (
                f"the {'recording has no depth topic' if predicted else 'model predicts no depth'}"
            )
        return f'{heading}<div class="card"><p>Not compared: {escape(why)}.</p></div>'
    rows = "".join(
        f"<tr><td>{_MASKS[mask]}, {text}</td>"
        + "".join(
            f'<td class="n">{number(depth[mask + key][figure])}</td>'
            for figure in ("abs_err", "rel_err", "rmse", "delta1", "delta2", "delta3")
        )
        + "</tr>"
        for mask in _MASKS
        for key, text in _ALIGNMENTS.items()
    )
    metric = (
        "Predicted depth is in metres, corrected for this camera's focal length."
        if figures["metric"]
        else "No calibrated camera_info: predicted depth is as if the model's own camera had taken"
        " the images, and its scale means nothing."
    )
    registration = REGISTRATIONS[figures["recording"]["registration"]]
    return (
        f'{heading}<div class="card"><p>{escape(registration)} {escape(metric)}</p>'
        '<table><tr><th>compared</th><th class="n">abs error m</th><th class="n">rel error</th>'
        '<th class="n">RMSE m</th><th class="n">&delta; &lt; 1.25</th>'
        f'<th class="n">1.25&sup2;</th><th class="n">1.25&sup3;</th></tr>{rows}</table></div>'
        f"{by_distance(depth['bands'])}"
    )


def _segmentation(own: Mapping[str, Any] | None, classes: Sequence[str]) -> str:
    if own is None:
        return ""
    confusion = np.array(own["confusion"], np.float64)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    heads = "".join(f"<th>{escape(name)}</th>" for name in classes)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(
            f'<td class="n" style="background:rgba(11,122,117,{share:.2f})">'
            f"{round(100 * share) or ''}</td>"
            for share in row
        )
        + f'<td class="n">{number(own["iou"][name], 2)}</td></tr>'
        for name, row in zip(classes, shares, strict=True)
        if confusion[classes.index(name)].any()
    )
    return (
        '<h2>Classes</h2><div class="card" style="overflow-x:auto">'
        f"<p>mIoU {number(own['miou'])}, {percent(own['pixel_accuracy'])} of the pixels. Rows are"
        " what the labels say, columns what the model says, in per cent of the row.</p>"
        f"<table><tr><th></th>{heads}<th>IoU</th></tr>{body}</table></div>"
    )
