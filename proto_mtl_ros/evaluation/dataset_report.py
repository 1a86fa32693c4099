# SPDX-License-Identifier: Apache-2.0
"""A data set on one page: its labels, how they overlap, what they show, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.dataset_statistics import (
    ENOUGH_OVERLAP,
    LabelCounts,
    PixelCounts,
)
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.drawing import (
    SheetRow,
    contact_sheet,
    draw_depth,
    draw_normals,
    tinted,
)
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.evaluation import charts
from proto_mtl_ros.evaluation.replay_pictures import (
    far_limit,
    jpeg,
)
from proto_mtl_ros.evaluation.report_style import STYLE
from proto_mtl_ros.evaluation.report_values import image
from proto_mtl_ros.files import (
    write_bytes,
    write_text,
)
from proto_mtl_ros.tasks import LabelSet

_PANEL_WIDTH = 360
_DRAWN = {"segmentation": "classes over image", "depth": "depth", "normals": "normals"}


def overlap_warning(counts: LabelCounts) -> str:
    """Return what to beware of where tasks share few frames; "" where they share enough."""
    pairs = counts.sparse_pairs
    if not pairs:
        return ""
    names = ", ".join(f"{a} and {b} {_percent(counts.overlap[(a, b)].jaccard)}" for a, b in pairs)
    return (
        f"Tasks share fewer than {_percent(ENOUGH_OVERLAP)} of their labelled frames ({names}): "
        "task affinity measured by gradients is not evidence there, it compares different frames "
        "as much as different tasks (arXiv 2604.07848)."
    )


def dataset_table(counts: LabelCounts, pixels: PixelCounts, label_set: LabelSet) -> str:
    """Return the figures as text for a terminal."""
    lines = [f"{counts.frames} frames", "", "| task | frames | of all |", "| --- | ---: | ---: |"]
    lines += [
        f"| {task} | {count} | {_percent(count / max(counts.frames, 1))} |"
        for task, count in counts.labelled.items()
    ]
    if counts.overlap:
        lines += [
            "",
            "| tasks | both | either | overlap (Jaccard) |",
            "| --- | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {a}, {b} | {o.both} | {o.either} | {o.jaccard:.3f} |"
            for (a, b), o in counts.overlap.items()
        ]
    if pixels.class_pixels.any():
        lines += ["", "| class | of labelled pixels |", "| --- | ---: |"]
        lines += [
            f"| {name} | {100 * share:.1f} % |"
            for name, share in zip(label_set.classes, pixels.class_shares)
        ]
    if pixels.depth_bins.any():
        quantiles = [f"{pixels.depth_quantile(q):.1f}" for q in (0.05, 0.5, 0.95)]
        lines += ["", "depth, 5 % / median / 95 % of pixels: " + " / ".join(quantiles) + " m"]
    warning = overlap_warning(counts)
    return "\n".join([*lines, "", f"WARNING: {warning}"] if warning else lines)


def write_dataset_page(
    path: Path,
    title: str,
    counts: LabelCounts,
    pixels: PixelCounts,
    label_set: LabelSet,
    samples: Sequence[Sample],
    notes: Sequence[str],
    facts: Mapping[str, str],
) -> None:
    """Write one self-contained HTML page; it appears whole or not at all.

    Args:
        samples: frames to show.
        notes: what the source assumes, a sentence each.
        facts: how the page was made, by name.
    """
    subtitle = ", ".join(f"{name} {value}" for name, value in facts.items())
    sections = [
        _tiles(counts, pixels),
        _notes([overlap_warning(counts), *notes]),
        _labels(counts),
        _contents(pixels, label_set),
        _pictures(samples, label_set),
    ]
    write_text(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>'
        f"{''.join(sections)}</main></body></html>",
    )


def write_dataset_picture(path: Path, samples: Sequence[Sample], label_set: LabelSet) -> None:
    """Write the frames below one another as a PNG."""
    rows = [sheet_row(sample) for sample in samples]
    sheet = contact_sheet(rows, label_set.classes, label_set.palette, far=far_limit(rows))
    write_bytes(path, encode_compressed(sheet, "png").tobytes())


def sheet_row(sample: Sample) -> SheetRow:
    """Return a frame with its labels for drawing."""
    return SheetRow(
        caption=sample.frame_id,
        rgb=sample.rgb,
        segmentation=sample.labels.get("segmentation"),
        depth=sample.labels.get("depth"),
        normals=sample.labels.get("normals"),
    )


def _percent(part: float) -> str:
    text = f"{100 * part:.0f}"
    return "<1 %" if text == "0" and part > 0 else f"{text} %"


def _unbroken(part: float) -> str:
    """Return a part of 1 in per cent for a narrow column of a table."""
    return escape(_percent(part)).replace(" ", "&nbsp;")


def _tiles(counts: LabelCounts, pixels: PixelCounts) -> str:
    labels = sum(counts.labelled.values())
    possible = counts.frames * len(counts.labelled)
    sizes = sorted(pixels.sizes.items(), key=lambda item: -item[1])
    tiles = [
        (str(counts.frames), "frames"),
        (
            str(labels),
            f"labels, {_percent(labels / max(possible, 1))} of all that could be",
        ),
    ]
    if counts.overlap:
        pair, least = min(counts.overlap.items(), key=lambda item: item[1].jaccard)
        tiles.append((_percent(least.jaccard), f"least overlap of two tasks: {' and '.join(pair)}"))
    if sizes:
        (width, height, fx), _ = sizes[0]
        more = f", and {len(sizes) - 1} other cameras" if len(sizes) > 1 else ""
        tiles.append((f"{width} x {height}", f"pixels at fx {fx:g}{more}"))
    body = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text in tiles
    )
    return f'<div class="tiles">{body}</div>'


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes if note)


def _labels(counts: LabelCounts) -> str:
    tasks = list(counts.labelled)
    rows = "".join(
        f'<tr><td>{escape(task)}</td><td class="n">{count}</td>'
        f'<td class="n">{_unbroken(count / max(counts.frames, 1))}</td>'
        f'<td style="width:35%">{_meter(count / max(counts.frames, 1))}</td></tr>'
        for task, count in counts.labelled.items()
    )
    together = "".join(
        f'<tr><td>{escape(", ".join(names) or "no label")}</td><td class="n">{count}</td></tr>'
        for names, count in counts.combinations.items()
    )
    heads = "".join(f'<th class="n">{escape(task)}</th>' for task in tasks)
    matrix = "".join(
        f"<tr><td>{escape(first)}</td>"
        + "".join(f'<td class="n">{_overlap(counts, first, second)}</td>' for second in tasks)
        + "</tr>"
        for first in tasks
    )
    overlap = (
        f'<div class="card"><table><tr><th>overlap</th>{heads}</tr>{matrix}</table>'
        '<p class="soft">Frames that have both labels, as a part of those that have either '
        "(Jaccard).</p></div>"
    )
    return (
        '<h2>Labels</h2><div class="columns"><div class="card"><table><tr><th>task</th>'
        f'<th class="n">frames</th><th class="n">of&nbsp;all</th><th></th></tr>{rows}</table></div>'
        f"{overlap if len(tasks) > 1 else ''}"
        '<div class="card"><table><tr><th>labels of a frame</th><th class="n">frames</th></tr>'
        f"{together}</table></div></div>"
    )


def _overlap(counts: LabelCounts, first: str, second: str) -> str:
    if first == second:
        return "-"
    pair = (first, second) if (first, second) in counts.overlap else (second, first)
    return _unbroken(counts.overlap[pair].jaccard)


def _meter(part: float, colour: str = "") -> str:
    style = f"width:{100 * part:.1f}%" + (f";background:{colour}" if colour else "")
    return f'<div class="meter"><i style="{style}"></i></div>'


def _contents(pixels: PixelCounts, label_set: LabelSet) -> str:
    cards = []
    if pixels.class_pixels.any():
        shares = pixels.class_shares
        most = float(shares.max())
        rows = "".join(
            f"<tr><td>{escape(label_set.classes[i])}</td>"
            f'<td class="n">{100 * shares[i]:.1f}&nbsp;%</td>'
            f'<td style="width:60%">{_meter(shares[i] / most, _colour(label_set, i))}</td></tr>'
            for i in np.argsort(-shares, kind="stable")
        )
        total = int(pixels.class_pixels.sum()) + pixels.unlabelled_pixels
        cards.append(
            f'<div class="card"><table><tr><th>class</th><th class="n">of labelled pixels</th>'
            f'<th></th></tr>{rows}</table><p class="soft">'
            f"{_percent(pixels.unlabelled_pixels / total)} of the masks' pixels have no class.</p>"
            "</div>"
        )
    shares_of_depth, edges = pixels.depth_histogram()
    if shares_of_depth:
        chart = charts.histogram(shares_of_depth, edges, "m", "pixels by depth")
        quantiles = [f"{pixels.depth_quantile(q):.1f}" for q in (0.05, 0.5, 0.95)]
        cards.append(
            f'<div class="card"><p>Depth: median {quantiles[1]} m, nine of ten pixels from '
            f"{quantiles[0]} to {quantiles[2]} m</p>{chart}"
            '<p class="soft">Parts per thousand of the pixels that have depth; the last bar holds '
            "what is farther, too.</p></div>"
        )
    if not cards:
        return ""
    return (
        f"<h2>What the labels show</h2>"
        f'<div class="columns">{"".join(cards)}</div>'
        f'<p class="soft">Counted on {pixels.frames} frames, spread evenly.</p>'
    )


def _colour(label_set: LabelSet, index: int) -> str:
    return "rgb({},{},{})".format(*label_set.palette[index])


def _pictures(samples: Sequence[Sample], label_set: LabelSet) -> str:
    if not samples:
        return ""
    rows = [sheet_row(sample) for sample in samples]
    far = far_limit(rows)
    used = [task for task in _DRAWN if any(task in sample.labels for sample in samples)]
    cells = [f"<div>{escape(name)}</div>" for name in ("image", *(_DRAWN[t] for t in used))]
    for row in rows:
        cells.append(
            f"<figure>{image(jpeg(row.rgb, _PANEL_WIDTH), row.caption)}"
            f"<time>{escape(row.caption)}</time></figure>"
        )
        drawn = _drawn(row, label_set, far)
        for task in used:
            cells.append(
                f"<figure>{image(jpeg(drawn[task], _PANEL_WIDTH), _DRAWN[task])}</figure>"
                if task in drawn
                else '<div class="card" style="display:grid;place-items:center">no label</div>'
            )
    grid = f'style="grid-template-columns:repeat({1 + len(used)},minmax(150px,1fr))"'
    return (
        f'<h2>Frames</h2><div class="card"><div class="moments" {grid}>{"".join(cells)}</div>'
        f'{_legend(samples, label_set)}<p class="soft">Depth: red is near, blue is {far:g} m. '
        "Normals: red grows to the right, green upwards, blue towards the camera. "
        "Black: no value.</p></div>"
    )


def _drawn(row: SheetRow, label_set: LabelSet, far: float) -> dict[str, np.ndarray]:
    drawn: dict[str, np.ndarray] = {}
    if row.segmentation is not None:
        drawn["segmentation"] = tinted(row.rgb, row.segmentation, label_set.palette)
    if row.depth is not None:
        drawn["depth"] = draw_depth(row.depth, 0.0, far)
    if row.normals is not None:
        drawn["normals"] = draw_normals(row.normals)
    return drawn


def _legend(samples: Sequence[Sample], label_set: LabelSet) -> str:
    masks = [s.labels["segmentation"] for s in samples if "segmentation" in s.labels]
    present = sorted({int(i) for mask in masks for i in np.unique(mask)})
    items = "".join(
        f'<span><i style="background:{_colour(label_set, i)}"></i>{escape(label_set.classes[i])}'
        "</span>"
        for i in present
        if i < len(label_set.classes)
    )
    return f'<div class="legend">{items}</div>' if items else ""
