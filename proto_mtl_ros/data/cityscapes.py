# SPDX-License-Identifier: Apache-2.0
"""Cityscapes as its owners publish it: classes, and depth from disparity.

    leftImg8bit/<split>/<city>/<id>_leftImg8bit.png   gtFine/.../<id>_gtFine_labelIds.png
    disparity/.../<id>_disparity.png                  camera/.../<id>_camera.json

Cordts et al.: "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; for
research, see its licence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from proto_mtl_ros.data.camera_file import camera_for
from proto_mtl_ros.data.folder import files_by_id
from proto_mtl_ros.data.label_set import CITYSCAPES19
from proto_mtl_ros.data.map_file import decoded, read_image
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample
from proto_mtl_ros.data.table import NoSplitError
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import read_json
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.tasks import IGNORE_INDEX

CAMERA = Camera(
    np.array([[2262.52, 0, 1096.98], [0, 2265.3017905988554, 513.137], [0, 0, 1]]), 2048, 1024
)
"""The nominal one; those of the cars differ by a few per cent."""
BASELINE = 0.209313
"""Metres, nominal."""
FARTHEST = 250.0
"""Metres; disparities below two pixels are noise."""

_TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LOOKUP = np.full(256, IGNORE_INDEX, np.uint8)
_LOOKUP[list(_TRAINED)] = np.arange(len(_TRAINED))
_IMAGES, _IDS, _DISPARITY = "leftImg8bit", "gtFine_labelIds", "disparity"


@data_set("cityscapes", looks_like=lambda root: (root / _IMAGES).is_dir())
class Cityscapes(DataSet):
    """Frames of one split with the labels that are there; frame ids are ``<city>/<id>``."""

    label_set = CITYSCAPES19

    def __init__(
        self,
        root: Path | str,
        split: str,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        here = {name: self._files(name, split) for name in (_IMAGES, _IDS, _DISPARITY, "camera")}
        if not here[_IMAGES]:
            raise NoSplitError(f"{self.root / _IMAGES / split} holds no *_{_IMAGES}.png")
        self._images, self._cameras = here[_IMAGES], here["camera"]
        maps = {"segmentation": here[_IDS], "depth": here[_DISPARITY]}
        self._maps = {task: files for task, files in maps.items() if files}
        self.tasks = tuple(self._maps)
        self.choose(list(self._images), frame_ids, manifest, self.root)
        self.notes = tuple(
            f"no {folder}/{split}: {said}"
            for folder, said, there in (
                ("gtFine", "no classes", here[_IDS]),
                ("disparity", "no depth", here[_DISPARITY]),
                ("camera", "the nominal camera and baseline", self._cameras),
            )
            if not there
        )

    def _files(self, name: str, split: str) -> dict[str, Path]:
        folder = self.root / name.partition("_")[0] / split
        found = files_by_id(folder, (".json",) if name == "camera" else (".png",))
        ending = f"_{name}"
        return {i.removesuffix(ending): p for i, p in found.items() if i.endswith(ending)}

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        return [task for task in may if frame_id in self._maps.get(task, ())]

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        rgb = read_image(self._images[frame_id])
        height, width = rgb.shape[:2]
        camera, baseline = self._camera(frame_id)
        labels: dict[str, np.ndarray] = {}
        for task in self.has(frame_id):
            path = self._maps[task][frame_id]
            stored = decoded(path, cv2.IMREAD_UNCHANGED)
            if stored.ndim != 2 or stored.dtype != (np.uint16 if task == "depth" else np.uint8):
                raise DataError(f"{path} has other pixels than the data set; fetch it again")
            if task == "depth":
                label = disparity_to_depth(stored, baseline * camera.fx)
            else:
                label = _LOOKUP[stored]
            labels[task] = resize(label, width, height, "nearest")
        return Sample(frame_id, rgb, camera_for(camera, width, height, frame_id), labels)

    def _camera(self, frame_id: str) -> tuple[Camera, float]:
        """Return the camera of the full size, and metres between the two."""
        path = self._cameras.get(frame_id)
        if path is None:
            return CAMERA, BASELINE
        content: Any = read_json(path, DataError)
        try:
            fx, fy, cx, cy = (float(content["intrinsic"][k]) for k in ("fx", "fy", "u0", "v0"))
            matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            camera = Camera(matrix, CAMERA.width, CAMERA.height)
            return camera, float(content["extrinsic"]["baseline"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is no camera of Cityscapes: {error!r}") from None


def disparity_to_depth(stored: np.ndarray, baseline_fx: float) -> np.ndarray:
    """Return metres float32, 0 where invalid or too far, of disparity as 16 bits store it: pixels
    of the full width = (value - 1) / 256, 0 = none.
    """
    pixels = (stored.astype(np.float64) - 1) / 256
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = baseline_fx / pixels
    valid = np.isfinite(depth) & (pixels > 0) & (depth <= FARTHEST)
    return np.where(valid, depth, 0).astype(np.float32)
