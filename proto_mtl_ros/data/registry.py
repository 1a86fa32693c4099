# SPDX-License-Identifier: Apache-2.0
"""The kinds of data sets there are, by name. A new one adds a file and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..tasks import LabelSet
from .nyuv2 import NYUv2
from .source import FrameSource

KINDS: dict[str, Callable[..., FrameSource]] = {"nyuv2": NYUv2}
"""Kind -> class; each takes (root, split, manifest=, frame_ids=, **options)."""


def open_source(
    kind: str,
    root: Path | str,
    split: str,
    *,
    manifest: Path | str | None = None,
    frame_ids: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    label_set: LabelSet | None = None,
    options: Mapping[str, Any] | None = None,
) -> FrameSource:
    """Open one split of a data set.

    Args:
        kind: a key of ``KINDS``.
        root: folder (or file) of the data set.
        split: name of the split, usually ``train`` or ``val``.
        manifest: label manifest; None: every label may be used.
        frame_ids: keep only these frames, in this order.
        class_map: name of a class of the data set -> name of a class of ``label_set``.
        label_set: the classes that labels are wanted in; None: the data set's own.
        options: what this kind takes beside these.

    Raises:
        DataError: there is no such kind or option, or the data set cannot be used.
    """
    if kind not in KINDS:
        raise DataError(f"unknown kind of data set {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind](root, split, manifest=manifest, frame_ids=frame_ids, **(options or {}))
