# SPDX-License-Identifier: Apache-2.0
"""A task from outside of the package: where the image shows the border between two classes."""

from dataclasses import replace

import cv2
import numpy as np

from proto_mtl_ros.data.nyuv2 import NYUv2
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.tasks import binary, register_task

register_task(binary("edges"))


@data_set("nyuv2-edges")
class NyuWithEdges(NYUv2):
    """NYUv2 whose segmentation labels give those of the edges."""

    tasks = (*NYUv2.tasks, "edges")

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        ids = sample.labels["segmentation"]
        borders = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8)) > 0
        edges = np.where(ids < 255, borders, 255).astype(np.uint8)
        return replace(sample, labels={**sample.labels, "edges": edges})
