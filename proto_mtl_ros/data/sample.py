# SPDX-License-Identifier: Apache-2.0
"""One frame with whatever labels it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..geometry import Camera
from ..tasks import Task


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


def as_arrays(sample: Sample, tasks: Sequence[Task], canonical_fx: float) -> dict[str, object]:
    """Return what a batch is made of: arrays of fixed shape for every task.

    ``image`` uint8 [H, W, 3]; one entry per task with its label map, empty where not labelled
    (depth is canonical: metres * canonical_fx / fx); ``labelled`` bool [T]; ``depth_factor``
    float32, which turns canonical depth into metres; ``frame_id``.
    """
    height, width = sample.rgb.shape[:2]
    factor = sample.camera.fx / canonical_fx
    arrays: dict[str, object] = {"image": np.ascontiguousarray(sample.rgb)}
    for task in tasks:
        label = sample.labels.get(task.name)
        if label is None:
            label = task.empty_label(height, width)
        elif task.name == "depth":
            label = np.where(task.valid(label), label / np.float32(factor), 0).astype(np.float32)
        arrays[task.name] = np.ascontiguousarray(label)
    arrays["labelled"] = np.array([task.name in sample.labels for task in tasks])
    arrays["depth_factor"] = np.float32(factor)
    arrays["frame_id"] = sample.frame_id
    return arrays
