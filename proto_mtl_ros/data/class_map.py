# SPDX-License-Identifier: Apache-2.0
"""Joining label sets: a source's classes by name into those of another set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from proto_mtl_ros.data.sample import FrameSource, Sample, notes_of
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import IGNORE_INDEX, LabelSet


def class_lookup(
    source: LabelSet, target: LabelSet, class_map: Mapping[str, str] | None
) -> np.ndarray:
    """Return uint8 [256]: the id in ``target`` of every id in ``source``; 255 for what the map
    does not name. DataError where sets differ without a map, or it names an unknown class.
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
        self,
        source: FrameSource,
        label_set: LabelSet,
        class_map: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.label_set = label_set
        self.frame_ids = source.frame_ids
        self.tasks = source.tasks
        self.notes = notes_of(source)
        # a source without segmentation has no classes to map
        self._lookup = (
            class_lookup(source.label_set, label_set, class_map)
            if "segmentation" in source.tasks
            else None
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        if self._lookup is None or "segmentation" not in sample.labels:
            return sample
        labels = {**sample.labels, "segmentation": self._lookup[sample.labels["segmentation"]]}
        return Sample(sample.frame_id, sample.rgb, sample.camera, labels)

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame may use a label of."""
        return self.source.has(frame_id)


def _names(label_set: LabelSet) -> str:
    return ", ".join(label_set.classes) or "it has none"
