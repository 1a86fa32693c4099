# SPDX-License-Identifier: Apache-2.0
"""A data set on one page: its labels, how they overlap, what they show, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.dataset_statistics import ENOUGH_OVERLAP, LabelCounts, PixelCounts
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.evaluation.charts import histogram
from proto_mtl_ros.evaluation.report import (
    colour,
    drawn_frames,
    far_limit,
    number,
    percent,
    write_report,
)
from proto_mtl_ros.files import write_bytes
from proto_mtl_ros.tasks import LabelSet

_QUANTILES = (0.05, 0.5, 0.95)


def overlap_warning(counts: LabelCounts) -> str:
    """Return what to beware of where tasks share few frames; "" where they share enough."""
    pairs = counts.sparse_pairs
    if not pairs:
        return ""
    names = ", ".join(f"{a} and {b} {percent(counts.overlap[(a, b)].jaccard)}" for a, b in pairs)
    return (
        f"Tasks share fewer than {percent(ENOUGH_OVERLAP)} of their labelled frames ({names}): "
        "task affinity measured by gradients is not evidence there, it compares different frames "
        "as much as different tasks (arXiv 2604.07848)."
    )


def dataset_table(counts: LabelCounts, pixels: PixelCounts, label_set: LabelSet) -> str:
    """Return the figures as text for a terminal."""
    lines = [f"{counts.frames} frames", "", "| task | frames | of all |", "| --- | ---: | ---: |"]
    lines += [
        f"| {task} | {count} | {percent(count / max(counts.frames, 1))} |"
        for task, count in counts.labelled.items()
    ]
    if counts.overlap:
        lines += ["", "| tasks | both | either | overlap (Jaccard) |"]
        lines += ["| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {a}, {b} | {o.both} | {o.either} | {o.jaccard:.3f} |"
            for (a, b), o in counts.overlap.items()
        ]
    if pixels.class_pixels.any():
        lines += ["", "| class | of labelled pixels |", "| --- | ---: |"]
        shares = zip(label_set.classes, pixels.class_shares)
        lines += [f"| {name} | {100 * share:.1f} % |" for name, share in shares]
    if pixels.depth_bins.any():
        quantiles = " / ".join(number(pixels.depth_quantile(q), 1) for q in _QUANTILES)
        lines += ["", f"depth, 5 % / median / 95 % of pixels: {quantiles} m"]
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
    order = np.argsort(-pixels.class_shares, kind="stable") if pixels.class_pixels.any() else ()
    total = int(pixels.class_pixels.sum()) + pixels.unlabelled_pixels
    rows = [sheet_row(sample) for sample in samples]
    write_report(
        path,
        "dataset.html",
        title=title,
        subtitle=", ".join(f"{name} {value}" for name, value in facts.items()),
        tiles=_tiles(counts, pixels),
        notes=[overlap_warning(counts), *notes],
        counts=counts,
        classes=[
            (label_set.classes[i], colour(label_set.palette[i]), float(pixels.class_shares[i]))
            for i in order
        ],
        unlabelled=pixels.unlabelled_pixels / max(total, 1),
        depths=histogram(*pixels.depth_histogram(), "pixels by depth", "depth in m"),
        quantiles=[pixels.depth_quantile(q) for q in _QUANTILES],
        counted=pixels.frames,
        frames=drawn_frames({"examples": rows}, label_set.classes, np.array(label_set.palette)),
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


def _tiles(counts: LabelCounts, pixels: PixelCounts) -> list[tuple[str, str]]:
    labels = sum(counts.labelled.values())
    part = labels / max(counts.frames * len(counts.labelled), 1)
    tiles = [
        (str(counts.frames), "frames"),
        (str(labels), f"labels, {percent(part)} of all that could be"),
    ]
    if counts.overlap:
        pair, least = min(counts.overlap.items(), key=lambda item: item[1].jaccard)
        tiles.append((percent(least.jaccard), f"least overlap of two tasks: {' and '.join(pair)}"))
    if pixels.sizes:
        (width, height, fx), _ = pixels.sizes.most_common(1)[0]
        others = len(pixels.sizes) - 1
        more = f", and {others} other cameras" if others else ""
        tiles.append((f"{width} x {height}", f"pixels at fx {fx:g}{more}"))
    return tiles
