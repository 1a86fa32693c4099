# SPDX-License-Identifier: Apache-2.0
"""The kinds of data sets there are, by name. A new one is one file with a decorated class:

@data_set("mine", looks_like=lambda root: (root / "mine.txt").is_file())
class Mine(DataSet):
    def __init__(self, root, split, manifest=None, frame_ids=None, *, option=1): ...
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from proto_mtl_ros import plugins
from proto_mtl_ros.data.sample import ClassMapped, FrameSource
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import LabelSet

_COMMON = {"root", "split", "manifest", "frame_ids"}

# imported when they are asked for: one of them needs the library for recordings
_BUILT_IN = {
    "bag": "bags.frames",
    "joined": "joined",
    "nyuv2": "nyuv2",
    "nyuv2_mat": "nyuv2_mat",
    "cityscapes": "cityscapes",
    "folder": "folder",
}

Opener = TypeVar("Opener", bound=Callable[..., FrameSource])


@dataclass(frozen=True)
class Kind:
    """A kind of data sets: what opens one, and what tells one from others by its place."""

    opener: Callable[..., FrameSource]
    looks_like: Callable[[Path], bool]


_KINDS: dict[str, Kind] = {}


def data_set(
    name: str, looks_like: Callable[[Path], bool] = lambda root: False
) -> Callable[[Opener], Opener]:
    """Register what opens a split of a kind of data sets. It takes (root, split, manifest,
    frame_ids) and, by name alone, the options of the kind; a kind without ``looks_like`` has to be
    named.
    """

    def register(opener: Opener) -> Opener:
        _KINDS[name] = Kind(opener, looks_like)
        return opener

    return register


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds."""
    plugins.load()
    return tuple(dict.fromkeys((*_BUILT_IN, *_KINDS)))


def _kind(name: str) -> Kind:
    if name not in (*_KINDS, *_BUILT_IN):
        plugins.load()
    if name not in _KINDS and name in _BUILT_IN:
        importlib.import_module(f"proto_mtl_ros.data.{_BUILT_IN[name]}")
    if name not in _KINDS:
        raise DataError(f"unknown kind of data set {name!r}; there are: {', '.join(kinds())}")
    return _KINDS[name]


def kind_of(root: Path) -> str:
    """Return the kind of data set that a path looks like; raises DataError."""
    _check_there(root)
    found = next((name for name in kinds() if _kind(name).looks_like(root)), None)
    if found is None:
        raise DataError(f"{root} looks like no data set: name its kind ({', '.join(kinds())})")
    return found


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
    """Open one split of a data set; ``auto`` is the kind that its place looks like.

    ``root`` is its folder (of ``bag`` a recording, of ``joined`` a YAML file). Without ``manifest``
    every label may be used; ``frame_ids`` are kept in this order. With ``label_set`` labels come in
    those classes: by name, or by ``class_map``, whose missing ones become unlabelled. DataError
    where there is no such kind or option, or the data set cannot be used; BagError for a recording.
    """
    _check_there(Path(root))
    kind = kind_of(Path(root)) if kind == "auto" else kind
    check_options(kind, options or {})
    opener = _kind(kind).opener
    try:
        source = opener(root, split, manifest=manifest, frame_ids=frame_ids, **(options or {}))
    except TypeError as error:
        # an option of the wrong type, such as a text where a number is needed
        raise DataError(f"an option of kind {kind} cannot be used: {error}") from error
    if class_map is not None and label_set is None:
        raise DataError("a class_map needs the label set that it maps to; state label_set")
    return source if label_set is None else ClassMapped(source, label_set, class_map)


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a kind does not have, or a kind that there is not; raises DataError."""
    names = inspect.signature(_kind(kind).opener).parameters
    known = [name for name in names if name not in _COMMON]
    for name in options:
        if name not in known:
            there = f"it has: {', '.join(known)}" if known else "it has none"
            raise DataError(f"kind {kind} has no option {name!r}; {there}")


def _check_there(root: Path) -> None:
    if not root.exists():
        raise DataError(f"there is no data set at {root}; check the path")
