# SPDX-License-Identifier: Apache-2.0
"""A frame with whatever labels it has, and what a training or a report asks of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from proto_mtl_ros.data.label_set import NO_CLASSES
from proto_mtl_ros.data.manifest import allowed, manifest_for
from proto_mtl_ros.data.table import select_frames
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.tasks import TASKS, LabelSet


@dataclass(frozen=True)
class Sample:
    """A frame of a data set.

    Attributes:
        frame_id: stable name of the frame; label manifests are keyed by it.
        rgb: uint8 [H, W, 3].
        camera: the camera at this image size.
        labels: task name to label map at the image's size; a task that is absent is not labelled.
    """

    frame_id: str
    rgb: np.ndarray
    camera: Camera
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)


class FrameSource(Protocol):
    """Frames of one split of a data set with whatever labels they have.

    Reading is by index and without a state, so any order, repetition or process may do it.

    Attributes:
        frame_ids: stable and unique names of the frames, in the order of the indices.
        label_set: the classes that segmentation labels count in.
        tasks: names of the tasks that any frame may have a label for.
    """

    @property
    def frame_ids(self) -> list[str]: ...

    @property
    def label_set(self) -> LabelSet: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Return the frame with the labels that it has and that its manifest lets it use; raises
        DataError where a file is missing or damaged.
        """
        ...

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame has a label for, after its manifest, in the order of
        ``tasks``. Decodes no image; raises DataError where there is no such frame.
        """
        ...


class DataSet(ABC):
    """Base of the kinds of data sets: a ``FrameSource`` whose frames are chosen by name.

    A kind sets ``tasks``, ``label_set`` and ``notes`` where they differ from these, calls
    ``choose`` when it knows its frames, and gives ``labelled`` and ``__getitem__``.

    Attributes:
        notes: what it assumes or left out that its user should know, a sentence each.
    """

    label_set: LabelSet = NO_CLASSES
    tasks: tuple[str, ...] = tuple(TASKS)
    notes: tuple[str, ...] = ()

    def choose(
        self,
        known: Sequence[str],
        frame_ids: Sequence[str] | None,
        manifest: Path | str | None,
        where: object,
    ) -> None:
        """Keep ``frame_ids`` of the known ones, None for all; ``where`` names the data set.

        Raises:
            DataError: a frame is not known, or the manifest lacks it.
        """
        self.frame_ids = select_frames(known, frame_ids, where)
        self.manifest = manifest_for(manifest, self.frame_ids)
        self._known, self._where = frozenset(self.frame_ids), where

    @abstractmethod
    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        """Return the tasks that a frame has a label for, of those that it may use."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """See ``FrameSource``."""

    def __len__(self) -> int:
        return len(self.frame_ids)

    def has(self, frame_id: str) -> tuple[str, ...]:
        """See ``FrameSource``."""
        if frame_id not in self._known:
            raise DataError(f"{self._where} has no frame {frame_id!r} in this split")
        here = self.labelled(frame_id, allowed(self.manifest, frame_id, self.tasks))
        return tuple(task for task in self.tasks if task in here)


def notes_of(source: FrameSource) -> tuple[str, ...]:
    """Return what a source assumes or left out that its user should know, a sentence each."""
    return tuple(getattr(source, "notes", ()))


def of_image_size(label: np.ndarray, rgb: np.ndarray, where: object) -> np.ndarray:
    """Return a label map after a check that it has the size of its image; raises DataError."""
    if label.shape[:2] != rgb.shape[:2]:
        raise DataError(
            f"{where} is {label.shape[1]}x{label.shape[0]}, its image "
            f"{rgb.shape[1]}x{rgb.shape[0]}; labels must have the size of the image"
        )
    return label
