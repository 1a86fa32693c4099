# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a replay: pictures and figures, nothing loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.drawing import SheetRow
from proto_mtl_ros.evaluation import charts
from proto_mtl_ros.evaluation.depth_error import fair_mask
from proto_mtl_ros.evaluation.replay_pictures import jpeg
from proto_mtl_ros.evaluation.report_depth import depth_section
from proto_mtl_ros.evaluation.report_frames import (
    extremes,
    slider,
)
from proto_mtl_ros.evaluation.report_parts import (
    class_legend_html,
    depth_scale_html,
    made_with,
    page,
    panels,
    tiles,
)
from proto_mtl_ros.evaluation.report_values import (
    image,
    milliseconds,
    number,
    percent,
)
from proto_mtl_ros.files import write_text

_PANEL_WIDTH = 400
_TIMES = 40
"""Times of images without a result that are spelled out; results.json has all."""

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


@dataclass(frozen=True)
class ReportFrames:
    """The moments of a replay that its report shows.

    Attributes:
        moments: a few, all at once.
        through: many, one at a time.
        best, worst: by depth error.
        far: metres at the far end of the depth colours.
    """

    moments: Sequence[SheetRow] = ()
    through: Sequence[SheetRow] = ()
    best: Sequence[SheetRow] = ()
    worst: Sequence[SheetRow] = ()
    far: float = 5.0


def write_report(
    path: Path,
    figures: Mapping[str, Any],
    frames: ReportFrames,
    classes: Sequence[str],
    palette: np.ndarray,
) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: of the HTML file.
        figures: of :func:`proto_mtl_ros.evaluation.replay_figures.replay_figures`, with "title",
            "recording" and "made_with" (text by name) beside them.
        frames: moments to show.
        classes: names of the class ids.
        palette: their colours, uint8[C, 3].
    """
    far = frames.far
    sections = [
        _tiles(figures),
        _moments(frames.moments, classes, palette, far),
        slider(frames.through, classes, palette, far),
        extremes("depth error", frames.best, frames.worst, palette, far),
        _frames(figures),
        _live(figures["live_and_offline"]),
        _latency(figures["latency_ms"]),
        _courses(figures),
        depth_section(figures["depth"]),
        made_with(figures["made_with"]),
    ]
    write_text(path, page(figures["title"], _subtitle(figures["recording"]), sections))


def _subtitle(recording: Mapping[str, Any]) -> str:
    kind = {"bag": "rosbag2", "video": "video", "images": "folder of images"}[recording["kind"]]
    return (
        f"{recording['path']} ({kind}): {recording['image_topic']}, "
        f"{recording['images']} images in {recording['duration_s']:.1f} s"
    )


def _tiles(figures: Mapping[str, Any]) -> str:
    frames = figures["frames"]
    latency = figures["latency_ms"]["end_to_end"]
    depth = figures["depth"]
    shown = [
        (f"{figures['rate_out_hz']:.1f} Hz", f"results, from {figures['rate_in_hz']:.1f} Hz in"),
        (
            f"{frames['processed']} of {frames['published']}",
            "images processed, the others are accounted for below",
        ),
        (
            f"{milliseconds(latency['p50'])} / {milliseconds(latency['p95'])}",
            "from image sent to last result received, p50 / p95",
        ),
    ]
    if depth["available"]:
        figures_of = depth[fair_mask(depth["registered"])]
        where = "" if depth["registered"] else ", where surroundings are smooth"
        shown.append(
            (
                f"{number(figures_of['abs_err'], 2)} m",
                f"mean depth error against the recording's own depth{where}; "
                f"{percent(figures_of['delta1'])} within a factor of 1.25",
            )
        )
    return tiles(shown)


def _moments(
    rows: Sequence[SheetRow], classes: Sequence[str], palette: np.ndarray, far: float
) -> str:
    if not rows:
        return "<h2>Pictures</h2><p>No result was recorded, so there is nothing to show.</p>"
    columns = ["input", "classes over input", "depth", "measured depth", "normals"]
    shown = [panels(row, palette, far) for row in rows]
    used = [name for name in columns if any(name in panel for panel in shown)]
    cells = [f"<div>{escape(name)}</div>" for name in used]
    for row, panel in zip(rows, shown):
        for name in used:
            caption = f"<time>{escape(row.caption)}</time>" if name == "input" else ""
            picture = image(jpeg(panel[name], _PANEL_WIDTH), name) if name in panel else ""
            cells.append(f"<figure>{picture}{caption}</figure>")
    grid = f'style="grid-template-columns:repeat({len(used)},minmax(150px,1fr))"'
    return (
        f'<h2>What the robot sees</h2><div class="card"><div class="moments" {grid}>'
        f"{''.join(cells)}</div>{class_legend_html(rows, classes, palette)}{depth_scale_html(far)}"
        '<p class="soft">Normals: red grows to the right, green upwards, blue towards the camera. '
        "Black: no value.</p></div>"
    )


def _frames(figures: Mapping[str, Any]) -> str:
    frames = figures["frames"]
    groups = {"drops": ("late", "dropped"), "bad": ("lost", "bad"), "skipped": ("idle", "skipped")}
    parts = [("processed", frames["processed"], "good")]
    rows = [("processed", frames["processed"], "results were published")]
    for group, (kind, word) in groups.items():
        for cause, count in frames[group].items():
            text = _CAUSES.get(cause, cause.replace("_", " "))
            parts.append((cause, count, kind))
            rows.append((f"{word}: {cause}", count, text))
    lost = frames["lost_in_transport"]
    parts.append(("lost in transport", lost, "lost"))
    rows.append(("lost in transport", lost, _CAUSES["lost_in_transport"]))
    if frames["unaccounted"]:
        rows.append(
            ("not accounted for", frames["unaccounted"], "the node's counters do not add up")
        )
    rows.append(("published", frames["published"], "sent by the player, the sum of the above"))
    latency = figures["latency_ms"]["end_to_end"]
    check = (
        f"Of the processed images {frames['recorded']} have their results in the recording. "
        f"Results whose stamp no image had: {latency['results_with_unknown_stamp']}; "
        f"with a stamp twice: {latency['results_with_doubled_stamp']}."
    )
    body = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{count}</td><td>{escape(text)}</td></tr>'
        for name, count, text in rows
    )
    if frames["info"]:
        causes = ", ".join(f"{cause} {count}" for cause, count in frames["info"].items())
        check += f" The node noted beside this count: {causes}."
    return (
        f'<h2>What became of every image</h2><div class="card">{charts.shares(parts)}'
        f'<table><tr><th>image</th><th class="n">count</th><th>meaning</th></tr>{body}</table>'
        f'<p class="soft">{escape(check)}</p></div>'
    )


_MAP_NAMES = {
    "segmentation/image": ("classes", "share of other classes"),
    "segmentation/confidence": ("confidence", "of 255"),
    "depth/image": ("depth", "m"),
    "normals/color": ("normals", "of 255 in a colour"),
}


def live_verdict(live: Mapping[str, Any]) -> str:
    """Say whether live results are those of the offline pass, from `LiveComparison.figures`."""
    if live["equal"] == live["compared"]:
        return (
            f"All {live['compared']} live results equal the offline pass over the same images, "
            "value by value."
        )
    return (
        f"{live['equal']} of {live['compared']} live results equal the offline pass over the same "
        f"images; the first that differs is of {live['different_at_s'][0]:.2f} s."
    )


def _live(live: Mapping[str, Any] | None) -> str:
    """Say whether the node's results are those of an offline pass, and when images were lost."""
    if live is None:
        return ""
    rows = ""
    for name, own in live["maps"].items():
        text, unit = _MAP_NAMES.get(name, (name, ""))
        largest = "another size" if own["largest"] is None else f"{own['largest']:.3g} {unit}"
        rows += (
            f'<tr><td>{escape(text)}</td><td class="n">{own["equal"]} of {own["frames"]}</td>'
            f"<td>{'' if own['equal'] == own['frames'] else escape(largest)}</td></tr>"
        )
    causes: dict[str, list[str]] = {}
    for second, cause in live["without_result_at_s"]:
        causes.setdefault(cause, []).append(f"{second:.2f}")
    missing = "".join(
        f'<tr><td>{escape(cause)}</td><td class="n">{len(at)}</td>'
        f"<td>{escape(_CAUSES.get(cause, cause.replace('_', ' ')))}</td>"
        f"<td>{escape(', '.join(at[:_TIMES]))}{' ...' if len(at) > _TIMES else ''}</td></tr>"
        for cause, at in causes.items()
    )
    table = (
        '<table><tr><th>images without a result</th><th class="n">count</th><th>meaning</th>'
        f"<th>at s</th></tr>{missing}</table>"
        if missing
        else "<p>Every image has its results.</p>"
    )
    return (
        f'<h2>Live against offline</h2><div class="card"><p>{escape(live_verdict(live))}</p>'
        '<table><tr><th>result</th><th class="n">equal</th><th>largest difference</th></tr>'
        f"{rows}</table>{table}</div>"
    )


def _courses(figures: Mapping[str, Any]) -> str:
    """Return latency and confidence over time; the depth error's course is in its section."""
    latency = figures["latency_ms"]["end_to_end"]["by_stamp"]
    live = figures["live_and_offline"] or {"confidence_by_s": []}
    shown = {
        "from image sent to last result received, ms": [
            ((stamp - latency[0][0]) / 1e9, value) for stamp, value in latency
        ],
        "mean confidence of the classes": live["confidence_by_s"],
    }
    cards = []
    for text, pairs in shown.items():
        chart = charts.course([x for x, _ in pairs], [y for _, y in pairs], "s", text)
        if chart:
            cards.append(f'<div class="card"><p>{escape(text)}</p>{chart}</div>')
    return f'<h2>Over time</h2><div class="columns">{"".join(cards)}</div>' if cards else ""


def _latency(latency: Mapping[str, Any]) -> str:
    stages = latency["stages"]
    longest = max((s["p95"] for s in stages.values()), default=0.0) or 1.0
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{s["p50"]:.1f}</td>'
        f'<td class="n">{s["p95"]:.1f}</td><td style="width:45%"><div class="meter">'
        f'<i class="p95" style="width:{100 * s["p95"] / longest:.1f}%"></i>'
        f'<i style="width:{100 * s["p50"] / longest:.1f}%"></i></div></td></tr>'
        for name, s in stages.items()
    )
    whole = latency["end_to_end"]
    bins = whole["histogram"] or {"counts": [], "edges_ms": []}
    chart = charts.histogram(
        bins["counts"],
        bins["edges_ms"],
        "ms",
        "images by time from sending to the last result",
    )
    return (
        '<h2>Latency</h2><div class="columns"><div class="card">'
        "<table><tr><th>stage in the node</th><th class=n>p50 ms</th><th class=n>p95 ms</th>"
        f"<th></th></tr>{rows}</table>"
        '<p class="soft">As the node reports them on /diagnostics. '
        "wait: from arrival until the engine was free.</p></div>"
        '<div class="card"><p>From image sent to last result received: '
        f"p50 {milliseconds(whole['p50'])}, p95 {milliseconds(whole['p95'])}, "
        f"longest {milliseconds(whole['max'])}</p>{chart}"
        '<p class="soft">Number of images by time. Measured outside the node, over '
        f"{whole['count']} images: transport both ways and the recorder's own work are in it."
        "</p></div></div>"
    )
