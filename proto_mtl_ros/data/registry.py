# SPDX-License-Identifier: Apache-2.0
"""The kinds of data sets there are, by name. A new one adds a file and two lines here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proto_mtl_ros.data.class_map import ClassMapped
from proto_mtl_ros.data.source import FrameSource
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import LabelSet

Opener = Callable[..., FrameSource]
_COMMON = {"root", "split", "manifest", "frame_ids", "limit"}


def _nyuv2() -> Opener:
    from proto_mtl_ros.data.nyuv2 import NYUv2

    return NYUv2


def _preprocessed() -> Opener:
    from proto_mtl_ros.data.preprocessed import Preprocessed

    return Preprocessed


def _folder() -> Opener:
    from proto_mtl_ros.data.folder import Folder

    return Folder


def _bag() -> Opener:
    from proto_mtl_ros.data.bags.frames import BagFrames

    return BagFrames


def _joined() -> Opener:
    return open_joined


# the modules are imported when they are needed: one of them needs the library for recordings
KINDS: dict[str, Callable[[], Opener]] = {
    "nyuv2": _nyuv2,
    "preprocessed": _preprocessed,
    "folder": _folder,
    "bag": _bag,
    "joined": _joined,
}
"""Kind -> what returns its opener, which takes (root, split, manifest, frame_ids, **options)."""


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
        root: folder (of ``bag``: recording, of ``joined``: YAML file) of the data set.
        split: name of the split, usually ``train`` or ``val``.
        manifest: label manifest; None: every label may be used.
        frame_ids: keep only these frames, in this order.
        class_map: name of a class of the data set -> name of a class of ``label_set``; classes
            that it leaves out become unlabelled.
        label_set: the classes that labels are wanted in; None: the data set's own.
        options: what this kind takes beside these, see ``options_of``.

    Raises:
        DataError: there is no such kind or option, the classes do not fit, or the data set
            cannot be used.
        BagError: the recording cannot be read.
    """
    if not Path(root).exists():
        raise DataError(f"there is no data set at {root}; check the path")
    known = options_of(kind)
    for name in options or {}:
        if name not in known:
            there = f"it has: {', '.join(known)}" if known else "it has none"
            raise DataError(f"kind {kind} has no option {name!r}; {there}")
    opener = KINDS[kind]()
    try:
        source = opener(root, split, manifest=manifest, frame_ids=frame_ids, **(options or {}))
    except TypeError as error:
        # an option of the wrong type, such as a text where a number is needed
        raise DataError(f"an option of kind {kind} cannot be used: {error}") from error
    if class_map is not None and label_set is None:
        raise DataError("a class_map needs the label set that it maps to; state label_set")
    if label_set is not None:
        return ClassMapped(source, label_set, class_map)
    return source


def options_of(kind: str) -> tuple[str, ...]:
    """Return the names of the options of a kind.

    Raises:
        DataError: there is no such kind; the message names those there are.
    """
    if kind not in KINDS:
        raise DataError(f"unknown kind of data set {kind!r}; there are: {', '.join(KINDS)}")
    names = inspect.signature(KINDS[kind]()).parameters
    return tuple(name for name in names if name not in _COMMON)


def open_joined(
    root: Path | str,
    split: str,
    manifest: Path | str | None = None,
    frame_ids: Sequence[str] | None = None,
) -> FrameSource:
    """Open the data sets that a YAML file lists as one; its form is told in :mod:`.joined`.

    Raises:
        DataError: the file or one of the data sets cannot be used.
    """
    from proto_mtl_ros.data.joined import JoinConfig, Joined

    config = JoinConfig.read(Path(root))
    sources = {
        entry.name: open_source(
            entry.kind,
            entry.root,
            (entry.split or {}).get(split, split),
            manifest=entry.manifest,
            options=entry.options,
        )
        for entry in config.sources
    }
    class_maps = {entry.name: entry.class_map for entry in config.sources}
    return Joined(sources, config.common_label_set(), class_maps, manifest, frame_ids)
