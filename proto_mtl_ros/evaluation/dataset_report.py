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
    filled,
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
    return filled(
        "dataset.txt",
        counts=counts,
        pixels=pixels,
        classes=list(zip(label_set.classes, pixels.class_shares.tolist())),
        quantiles=[pixels.depth_quantile(q) for q in _QUANTILES],
        warning=overlap_warning(counts),
    ).rstrip()


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

    ``samples`` are the frames to show, ``notes`` what the source assumes, a sentence each, and
    ``facts``, by name, how the page was made.
    """
    total = int(pixels.class_pixels.sum()) + pixels.unlabelled_pixels
    order = np.argsort(-pixels.class_shares, kind="stable") if pixels.class_pixels.any() else ()
    rows = [sheet_row(sample) for sample in samples]
    write_report(
        path,
        "dataset.html",
        title=title,
        facts=facts,
        notes=[overlap_warning(counts), *notes],
        counts=counts,
        least=min(counts.overlap.items(), key=lambda item: item[1].jaccard, default=None),
        pixels=pixels,
        cameras=pixels.sizes.most_common(),
        classes=[
            (label_set.classes[i], colour(label_set.palette[i]), float(pixels.class_shares[i]))
            for i in order
        ],
        unlabelled=pixels.unlabelled_pixels / max(total, 1),
        depths=histogram(*pixels.depth_histogram(), "pixels by depth", "depth in m"),
        quantiles=[pixels.depth_quantile(q) for q in _QUANTILES],
        frames=drawn_frames({"examples": rows}, label_set.classes, np.array(label_set.palette)),
    )


def write_dataset_picture(path: Path, samples: Sequence[Sample], label_set: LabelSet) -> None:
    """Write the frames below one another as a PNG."""
    rows = [sheet_row(sample) for sample in samples]
    sheet = contact_sheet(rows, label_set.classes, label_set.palette)
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
