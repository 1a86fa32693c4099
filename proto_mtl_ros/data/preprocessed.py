# SPDX-License-Identifier: Apache-2.0
"""The preprocessed NYUv2 and Cityscapes that multi-task papers share: numbered ``.npy`` files.

    {train,val}/image/i.npy    float [H, W, 3], 0 to 1
    {train,val}/label/i.npy    class ids as float or integer [H, W], -1 = void (Cityscapes: label_7
                               or label_19 as well)
    {train,val}/depth/i.npy    [H, W, 1]: NYUv2 metres, 0 = invalid; Cityscapes disparity, see below
    {train,val}/normal/i.npy   [H, W, 3], NYUv2 alone

They were published with MTAN (Liu, Johns, Davison: "End-to-End Multi-Task Learning with Attention",
CVPR 2019) without the code that made them, so some of it is inferred here, and ``notes`` says so:

- The axes of the normals are nowhere stated. They are found by comparison with the depth of a few
  frames (:mod:`.normal_axes`), or given.
- NYUv2 was cropped to where its depth is valid and resized to 288x384. The camera is that of the
  crop which the data set's own toolbox uses, 561x427 at (40, 44), or given.
- Cityscapes "depth" is no depth but the disparity image of 16 bits divided by 65535 (its largest
  value, 32257, appears as 0.4922). With p = value * 65535 and the data set's rule d = (p - 1) / 256
  pixels, depth = baseline * fx / d, where fx and d belong to the full width of 2048. Baseline and
  fx are the nominal 0.209313 m and 2262.52 px; they differ by a few per cent between the cars, so
  these metres do, too. Give ``baseline_fx`` in metre pixels to use another product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.bounded import check_inside
from proto_mtl_ros.data.camera_file import camera_for, camera_of
from proto_mtl_ros.data.frame_list import NoSplitError, select_frames
from proto_mtl_ros.data.manifest import allowed, manifest_for
from proto_mtl_ros.data.map_file import read_array, unit_vectors
from proto_mtl_ros.data.normal_axes import NormalAxes, find_normal_axes
from proto_mtl_ros.data.preprocessed_array import (
    BASELINE_FX,
    FARTHEST,
    disparity_to_depth,
    flat,
    ids_of,
    rgb_of,
)
from proto_mtl_ros.data.preprocessed_layout import LAYOUTS, label_folders, label_set_of, layout_of
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import Camera

_AXES_FROM_FRAMES = 8


class Preprocessed:
    """Frames of one split; frame ids are ``<split>-<number>``.

    Args:
        root: folder with ``train`` and ``val``.
        split: ``train`` or ``val``.
        manifest: label manifest; None: every label.
        frame_ids: keep only these frames, in this order.
        layout: ``nyuv2`` or ``cityscapes``; ``auto`` judges by the folders.
        label: the folder of the class ids, such as ``label_19``.
        camera: fx, fy, cx, cy, width and height of the images in place of the assumed camera.
        normal_axes: such as ``x,-y,-z``; ``auto`` compares with the depth.
        baseline_fx: metre pixels that turn Cityscapes' disparity into metres.

    Raises:
        DataError: the folder cannot be used; the message says what to do.
    """

    def __init__(
        self,
        root: Path | str,
        split: str,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
        *,
        layout: str = "auto",
        label: str | None = None,
        camera: Mapping[str, Any] | None = None,
        normal_axes: str = "auto",
        baseline_fx: float = BASELINE_FX,
    ) -> None:
        self.root = Path(root) / split
        if not self.root.is_dir():
            raise NoSplitError(f"{root} has no folder {split}; --data must be the one with train")
        images = _numbered(self.root / "image")
        if not images:
            raise DataError(
                f"{self.root / 'image'} holds no numbered .npy files; "
                "--data must be the folder with train/image and val/image"
            )
        self._numbers = {f"{split}-{number:04d}": number for number in images}
        self.layout = layout_of(self.root, layout)
        self._folders = label_folders(self.root, LAYOUTS[self.layout], label)
        self._there = {task: _numbered(folder) for task, folder in self._folders.items()}
        self.tasks = tuple(self._folders)
        self.label_set = label_set_of(LAYOUTS[self.layout], self._folders)
        self.frame_ids = select_frames(list(self._numbers), frame_ids, self.root)
        self.manifest = manifest_for(manifest, self.frame_ids)
        self._known = frozenset(self.frame_ids)
        if not baseline_fx > 0:
            raise DataError(f"baseline_fx is {baseline_fx}; it is baseline times fx, positive")
        self._baseline_fx = baseline_fx
        self._camera = self._stored_camera(camera)
        self._axes = self._find_axes(normal_axes) if "normals" in self.tasks else None
        self.notes = tuple(self._say(camera is None, normal_axes == "auto"))

    def __len__(self) -> int:
        return len(self.frame_ids)

    def has(self, frame_id: str) -> tuple[str, ...]:
        """Return the tasks that the frame has a label for and may use."""
        if frame_id not in self._known:
            raise DataError(f"{self.root} has no frame {frame_id!r}")
        number = self._numbers[frame_id]
        may = allowed(self.manifest, frame_id, self.tasks)
        return tuple(task for task in may if number in self._there[task])

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        number = self._numbers[frame_id]
        path = self.root / "image" / f"{number}.npy"
        rgb = rgb_of(read_array(path), path)
        if rgb.shape[:2] != (self._camera.height, self._camera.width):
            raise DataError(
                f"{path} is {rgb.shape[1]}x{rgb.shape[0]}, the first image "
                f"{self._camera.width}x{self._camera.height}; all must have one size"
            )
        labels: dict[str, np.ndarray] = {}
        for task in self.has(frame_id):
            labels[task] = self._label(task, number)
            if labels[task].shape[:2] != rgb.shape[:2]:
                raise DataError(
                    f"{self._folders[task] / f'{number}.npy'} is "
                    f"{labels[task].shape[1]}x{labels[task].shape[0]}, its image "
                    f"{rgb.shape[1]}x{rgb.shape[0]}; labels must have the size of the image"
                )
        return Sample(frame_id, rgb, self._camera, labels)

    def _label(self, task: str, number: int) -> np.ndarray:
        path = self._folders[task] / f"{number}.npy"
        array = read_array(path)
        if task == "segmentation":
            return ids_of(array, len(self.label_set.classes), path)
        if task == "depth":
            depth = flat(array, path)
            return depth if self.layout == "nyuv2" else disparity_to_depth(depth, self._baseline_fx)
        if array.ndim != 3 or array.shape[2] != 3:
            raise DataError(f"{path} has shape {array.shape}; normals are [H, W, 3]")
        vectors = unit_vectors(array.astype(np.float32))
        return vectors if self._axes is None else self._axes.optical(vectors)

    def _stored_camera(self, given: Mapping[str, Any] | None) -> Camera:
        number = next(iter(self._numbers.values()))
        path = self.root / "image" / f"{number}.npy"
        height, width = rgb_of(read_array(path), path).shape[:2]
        if given is not None:
            return camera_for(camera_of(given, "camera"), width, height, path)
        # the published files changed the aspect ratio by some per cent, which fx and fy follow
        return LAYOUTS[self.layout].camera.resized(width, height)

    def _find_axes(self, text: str) -> NormalAxes:
        if text != "auto":
            return NormalAxes.parse(text)
        both = sorted(set(self._there.get("depth", ())) & set(self._there["normals"]))
        if not both:
            raise DataError(
                f"{self.root} has no depth that the axes of its normals could be told from: "
                "give normal_axes, such as x,y,z or x,-y,-z"
            )
        step = max(1, len(both) // _AXES_FROM_FRAMES)
        # self._axes is not there yet, so the labels come as they are stored
        self._axes = None
        frames = (
            (self._label("depth", number), self._label("normals", number))
            for number in both[::step][:_AXES_FROM_FRAMES]
        )
        return find_normal_axes(frames, self._camera, self.root)

    def _say(self, assumed_camera: bool, found_axes: bool) -> list[str]:
        notes = []
        if assumed_camera:
            camera = self._camera
            notes.append(
                f"Camera assumed: fx {camera.fx:.1f}, fy {camera.fy:.1f}, cx {camera.cx:.1f}, "
                f"cy {camera.cy:.1f} at {camera.width}x{camera.height}."
            )
        if self._axes is not None:
            how = "found by comparison with the depth" if found_axes else "as given"
            notes.append(f"Stored normals read as right, down, forward = {self._axes} ({how}).")
        if self.layout == "cityscapes" and "depth" in self.tasks:
            notes.append(
                "Depth computed from disparity with baseline * fx = "
                f"{self._baseline_fx:.1f} m px; beyond {FARTHEST:.0f} m it is invalid."
            )
        return notes


def _numbered(folder: Path) -> dict[int, None]:
    """Return the numbers of the files ``i.npy`` in their order."""
    if not folder.is_dir():
        return {}
    found: dict[int, None] = {}
    for path in folder.glob("*.npy"):
        if path.stem.isdecimal() and path.stem.isascii() and len(path.stem) < 10:
            check_inside(path, folder.parents[1], DataError)
            found[int(path.stem)] = None
    return dict(sorted(found.items()))
