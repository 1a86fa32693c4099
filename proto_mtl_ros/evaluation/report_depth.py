# SPDX-License-Identifier: Apache-2.0
"""The section of a report that compares predicted with measured depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from proto_mtl_ros.evaluation import charts
from proto_mtl_ros.evaluation.report_values import (
    number,
    percent,
)


def depth_section(depth: Mapping[str, Any]) -> str:
    """Return the section for the figures of ``replay_figures.depth_figures``."""
    heading = "<h2>Depth against the recording's own depth</h2>"
    if not depth["available"]:
        return f'{heading}<div class="card"><p>Not compared: {escape(depth["reason"])}.</p></div>'
    names = {
        "all": "all pixels",
        "all_aligned": "all pixels, median of each frame scaled to fit",
        "tolerant": "smooth surroundings",
        "tolerant_aligned": "smooth surroundings, scaled to fit",
    }
    body = "".join(
        f'<tr><td>{text}</td><td class="n">{number(depth[key]["abs_err"])}</td>'
        f'<td class="n">{number(depth[key]["rel_err"])}</td>'
        f'<td class="n">{number(depth[key]["rmse"])}</td>'
        f'<td class="n">{percent(depth[key]["delta1"])}</td></tr>'
        for key, text in names.items()
    )
    pixels = depth["compared_pixels"]
    part = pixels["tolerant"] / max(pixels["all"], 1)
    stamps = [stamp for stamp, _ in depth["abs_err_m_by_stamp"]]
    errors = [error for _, error in depth["abs_err_m_by_stamp"]]
    seconds = [(stamp - stamps[0]) / 1e9 for stamp in stamps]
    chart = charts.course(seconds, errors, "s", "mean absolute depth error by time")
    return (
        f'{heading}<div class="card">{_registration(depth)}<div class="columns"><div>'
        '<table><tr><th>compared</th><th class="n">abs error m</th><th class="n">rel error</th>'
        f'<th class="n">RMSE m</th><th class="n">&delta; &lt; 1.25</th></tr>{body}</table></div>'
        f'<div>{chart}<p class="soft">Mean absolute error in metres by time, all pixels.</p></div>'
        f'</div><p class="soft">{depth["frames"]} frames against {escape(depth["topic"])}, nearest '
        f"stamp within {depth['tolerance_ms']:g} ms (median gap {depth['median_gap_ms']:.1f} ms); "
        f"{pixels['all']} pixels that both have. Smooth surroundings: measured depth varies by "
        f"less than {100 * (depth['tolerant_variation'] - 1):.0f} % within "
        f"{100 * depth['tolerant_shift']:.0f} % of the image width, {percent(part)} of the "
        f"pixels. Predicted depth times {depth['median_scale']:.2f} fits the measured one best "
        "(median of the frames).</p></div>"
        f"{by_distance(depth['bands'])}"
    )


def by_distance(bands: Sequence[Mapping[str, Any]]) -> str:
    """Return the section on errors by measured distance, of the bands of a ``DepthComparison``."""
    rows = ""
    for band in bands:
        if not band["pixels"]:
            continue
        start, end = band["from_m"], band["to_m"]
        text = f"{start:g} to {end:g} m" if end else f"{start:g} m on"
        rows += (
            f'<tr><td>{text}</td><td class="n">{band["pixels"]}</td>'
            f'<td class="n">{number(band["all"]["abs_err"])}</td>'
            f'<td class="n">{number(band["all"]["rel_err"])}</td>'
            f'<td class="n">{number(band["all_aligned"]["rel_err"])}</td></tr>'
        )
    return (
        '<h2>By distance</h2><div class="card"><table><tr><th>measured depth</th>'
        '<th class="n">pixels</th><th class="n">abs error m</th><th class="n">rel error</th>'
        f'<th class="n">rel error, scaled to fit</th></tr>{rows}</table></div>'
    )


def _registration(depth: Mapping[str, Any]) -> str:
    if depth["registered"]:
        return (
            f"<p>Depth is registered to colour: both are in <code>{escape(depth['image_frame'])}"
            "</code>.</p>"
        )
    return (
        f'<p class="note">Depth (<code>{escape(depth["depth_frame"] or "no frame")}</code>) is not '
        f"in the frame of the images (<code>{escape(depth['image_frame'] or 'no frame')}</code>), "
        "and the recording holds no transform between them. Pixels are compared as if it were, "
        "so edges are compared wrongly: rely on the rows with smooth surroundings.</p>"
    )
