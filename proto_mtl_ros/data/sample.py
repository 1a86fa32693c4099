# SPDX-License-Identifier: Apache-2.0
"""A frame with whatever labels it has, and what a training or a report asks of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from proto_mtl_ros.data.label_set import NO_CLASSES
from proto_mtl_ros.data.manifest import manifest_for
from proto_mtl_ros.data.table import select_frames
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.tasks import IGNORE_INDEX, TASKS, LabelSet


@dataclass(frozen=True)
class Sample:
    """A frame: rgb uint8 [H, W, 3], the camera at this size, and the label maps it has, task -> map
    of the image's size. Label manifests are keyed by the id.
    """

    frame_id: str
    rgb: np.ndarray
    camera: Camera
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)


class FrameSource(Protocol):
    """Frames of one split of a data set with whatever labels they have.

    Reading is by index and without a state, so any order, repetition or process may do it. Ids are
    stable and unique, in the order of the indices; ``tasks`` are those that any frame may have a
    label for.
    """

    frame_ids: list[str]
    label_set: LabelSet
    tasks: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Return the frame with the labels that its manifest lets it use; DataError for a damaged
        file.
        """
        ...

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame may use a label of, without decoding an image; DataError
        where there is no such frame.
        """
        ...


class DataSet(ABC):
    """Base of the kinds of data sets: a ``FrameSource`` whose frames are chosen by name.

    A kind sets ``tasks``, ``label_set``, ``notes`` (what its user should know, a sentence each) and
    ``calibrated`` (whether the cameras are known) where they differ from these, calls ``choose``
    when it knows its frames, and gives ``labelled`` and ``__getitem__``.
    """

    label_set: LabelSet = NO_CLASSES
    tasks: tuple[str, ...] = tuple(TASKS)
    notes: tuple[str, ...] = ()
    calibrated: bool = True

    def choose(
        self,
        known: Sequence[str],
        frame_ids: Sequence[str] | None,
        manifest: Path | str | None,
        where: object,
    ) -> None:
        """Keep ``frame_ids`` of the known ones, None for all; ``where`` names the data set.
        DataError where a frame is not known, or the manifest lacks it.
        """
        self.frame_ids = select_frames(known, frame_ids, where)
        self.manifest = manifest_for(manifest, self.frame_ids)
        self._known, self._where = frozenset(self.frame_ids), where

    @abstractmethod
    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        """Return the tasks that a frame has a label for, of those that it may use."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __len__(self) -> int:
        return len(self.frame_ids)

    def has(self, frame_id: str) -> tuple[str, ...]:
        if frame_id not in self._known:
            raise DataError(f"{self._where} has no frame {frame_id!r} in this split")
        row = dict.fromkeys(self.tasks, True) if self.manifest is None else self.manifest[frame_id]
        here = self.labelled(frame_id, [task for task in self.tasks if row.get(task)])
        return tuple(task for task in self.tasks if task in here)


def notes_of(source: FrameSource) -> tuple[str, ...]:
    """Return what a source assumes or left out that its user should know, a sentence each."""
    return tuple(getattr(source, "notes", ()))


def of_image_size(label: np.ndarray, rgb: np.ndarray, where: object) -> np.ndarray:
    """Return a label map; DataError where it has another size than its image."""
    if label.shape[:2] != rgb.shape[:2]:
        raise DataError(
            f"{where} is {label.shape[1]}x{label.shape[0]}, its image "
            f"{rgb.shape[1]}x{rgb.shape[0]}; labels must have the size of the image"
        )
    return label


def class_lookup(
    source: LabelSet, target: LabelSet, class_map: Mapping[str, str] | None
) -> np.ndarray:
    """Return uint8 [256]: the id in ``target`` of every id in ``source``; 255 for what the map does
    not name. DataError where sets differ without a map, or it names an unknown class.
    """
    if class_map is None:
        if source.classes == target.classes:
            class_map = {name: name for name in source.classes}
        else:
            raise DataError(
                f"the classes of {source.name} ({_names(source)}) are not those of {target.name} "
                f"({_names(target)}): give a class_map from the former to the latter"
            )
    lookup = np.full(256, IGNORE_INDEX, np.uint8)
    for name, wanted in class_map.items():
        if name not in source.classes:
            raise DataError(f"class_map: {source.name} has no class {name!r}; {_names(source)}")
        if wanted not in target.classes:
            raise DataError(
                f"class_map: {name} -> {wanted!r}, but {target.name} has no such class; "
                f"{_names(target)}"
            )
        lookup[source.classes.index(name)] = target.classes.index(wanted)
    return lookup


class ClassMapped:
    """A source whose segmentation labels count in another label set; see ``class_lookup``."""

    def __init__(
        self, source: FrameSource, label_set: LabelSet, class_map: Mapping[str, str] | None
    ) -> None:
        self.source, self.label_set = source, label_set
        self.frame_ids, self.tasks, self.notes = source.frame_ids, source.tasks, notes_of(source)
        if "segmentation" in source.tasks:  # others have no classes to map
            self._lookup = class_lookup(source.label_set, label_set, class_map)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        if "segmentation" not in sample.labels:
            return sample
        ids = self._lookup[sample.labels["segmentation"]]
        return replace(sample, labels={**sample.labels, "segmentation": ids})

    def has(self, frame_id: str) -> tuple[str, ...]:
        return self.source.has(frame_id)


def _names(label_set: LabelSet) -> str:
    return ", ".join(label_set.classes) or "it has none"
