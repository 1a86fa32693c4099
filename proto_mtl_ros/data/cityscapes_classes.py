# SPDX-License-Identifier: Apache-2.0
"""The classes of Cityscapes and their groups, with the colours that the data set draws them in."""

from proto_mtl_ros.tasks import LabelSet

CITYSCAPES7 = LabelSet(
    "cityscapes7",
    ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    (
        (128, 64, 128), (70, 70, 70), (153, 153, 153), (107, 142, 35), (70, 130, 180),
        (220, 20, 60), (0, 0, 142),
    ),
)  # fmt: skip

CITYSCAPES19 = LabelSet(
    "cityscapes19",
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    ),
    (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
