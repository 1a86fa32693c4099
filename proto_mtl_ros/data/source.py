# SPDX-License-Identifier: Apache-2.0
"""What a training, an evaluation or a report asks of a data set."""

from __future__ import annotations

from typing import Protocol

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.tasks import LabelSet


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
        """Return the frame with the labels that it has and that its manifest lets it use.

        Raises:
            DataError: a file is missing or damaged, or maps of one frame differ in size.
        """
        ...

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame has a label for, after its manifest, in the order of
        ``tasks``. Decodes no image.

        Raises:
            DataError: there is no such frame.
        """
        ...


def notes_of(source: FrameSource) -> tuple[str, ...]:
    """Return what a source assumes or left out that its user should know, a sentence each."""
    return tuple(getattr(source, "notes", ()))
