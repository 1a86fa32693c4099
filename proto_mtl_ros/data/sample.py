# SPDX-License-Identifier: Apache-2.0
"""One frame with whatever labels it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from proto_mtl_ros.geometry import Camera


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
