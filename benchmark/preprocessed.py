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
  frames, or given.
- NYUv2 was cropped to where its depth is valid and resized to 288x384. The camera is that of the
  crop which the data set's own toolbox uses, 561x427 at (40, 44), or given.
- Cityscapes "depth" is no depth but the disparity image of 16 bits divided by 65535 (its largest
  value, 32257, appears as 0.4922). With p = value * 65535 and the data set's rule d = (p - 1) / 256
  pixels, depth = baseline * fx / d, where fx and d belong to the full width of 2048. Baseline and
  fx are the nominal 0.209313 m and 2262.52 px; they differ by a few per cent between the cars, so
  these metres do, too. Give ``baseline_fx`` in metre pixels to use another product.

A pack becomes a folder to train from, here with the labels that MTPSL lets each frame use:

python -m benchmark.preprocessed <pack> --out my_data --labels one_label.pth
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmark.mtpsl_labels import import_mtpsl
from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.data.camera_file import camera_for, camera_of
from proto_mtl_ros.data.cityscapes import BASELINE, FARTHEST, disparity_to_depth
from proto_mtl_ros.data.cityscapes import CAMERA as CITYSCAPES_CAMERA
from proto_mtl_ros.data.folder_writer import write_folder
from proto_mtl_ros.data.label_set import CITYSCAPES7, CITYSCAPES19
from proto_mtl_ros.data.manifest import write_manifest
from proto_mtl_ros.data.map_file import NormalAxes, read_array, unit_vectors
from proto_mtl_ros.data.nyuv2 import CAMERA as NYUV2_CAMERA
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample, of_image_size
from proto_mtl_ros.data.table import NoSplitError
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.files import check_inside
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.tasks import IGNORE_INDEX, NYU13, LabelSet

BASELINE_FX = BASELINE * CITYSCAPES_CAMERA.fx


@dataclass(frozen=True)
class Layout:
    """One of the published packs: task -> folders that may hold its maps, folder -> what its ids
    mean, and the camera of the image that was resized to the stored size.
    """

    folders: Mapping[str, tuple[str, ...]]
    label_sets: Mapping[str, LabelSet]
    camera: Camera


LAYOUTS = {
    "nyuv2": Layout(
        {"segmentation": ("label",), "depth": ("depth",), "normals": ("normal",)},
        {"label": NYU13},
        NYUV2_CAMERA.cropped(40, 44, 561, 427),
    ),
    "cityscapes": Layout(
        {"segmentation": ("label_7", "label", "label_19"), "depth": ("depth",)},
        {"label_7": CITYSCAPES7, "label": CITYSCAPES7, "label_19": CITYSCAPES19},
        CITYSCAPES_CAMERA,
    ),
}


def layout_of(root: Path, layout: str) -> str:
    if layout in LAYOUTS:
        return layout
    if layout != "auto":
        raise DataError(f"unknown layout {layout!r}; there are: auto, {', '.join(LAYOUTS)}")
    if (root / "normal").is_dir():
        return "nyuv2"
    if (root / "label_7").is_dir() or (root / "label_19").is_dir():
        return "cityscapes"
    raise DataError(
        f"{root} has neither normal nor label_7: say which it is with layout nyuv2 or cityscapes"
    )


def label_folders(root: Path, layout: Layout, label: str | None) -> dict[str, Path]:
    found = {}
    for task, names in layout.folders.items():
        if task == "segmentation" and label is not None:
            if label not in layout.label_sets or not (root / label).is_dir():
                raise DataError(
                    f"{root} has no class ids {label!r}; those it may have: "
                    f"{', '.join(layout.label_sets)}"
                )
            names = (label,)
        there = [root / name for name in names if (root / name).is_dir()]
        if there:
            found[task] = there[0]
    return found


_AXES_FROM_FRAMES = 8
_LEAST_COSINE, _LEAST_LEAD = 0.75, 0.05


@data_set("preprocessed", looks_like=lambda root: (root / "train" / "image").is_dir())
class Preprocessed(DataSet):
    """Frames of one split, ``train`` or ``val``; frame ids are ``<split>-<number>``.

    ``layout`` is ``nyuv2`` or ``cityscapes``, ``auto`` judges by the folders. ``label`` is the
    folder of the class ids, such as ``label_19``; ``camera`` (fx, fy, cx, cy, width, height)
    replaces the assumed one; ``normal_axes`` are such as ``x,-y,-z``, ``auto`` compares with the
    depth; ``baseline_fx``, metre pixels, turns Cityscapes' disparity into metres.
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
        pack = LAYOUTS[self.layout]
        self._folders = label_folders(self.root, pack, label)
        self._there = {task: _numbered(folder) for task, folder in self._folders.items()}
        self.tasks = tuple(self._folders)
        ids = self._folders.get("segmentation")
        self.label_set = pack.label_sets[ids.name] if ids else next(iter(pack.label_sets.values()))
        self.choose(list(self._numbers), frame_ids, manifest, self.root)
        if not baseline_fx > 0:
            raise DataError(f"baseline_fx is {baseline_fx}; it is baseline times fx, positive")
        self._baseline_fx = baseline_fx
        self._camera = self._stored_camera(camera)
        self._axes: NormalAxes | None = None
        if "normals" in self.tasks:
            self._axes = self._find_axes(normal_axes)
        self.notes = tuple(self._say(camera is None, normal_axes == "auto"))

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        return [task for task in may if self._numbers[frame_id] in self._there.get(task, ())]

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
            where = self._folders[task] / f"{number}.npy"
            labels[task] = of_image_size(self._label(task, number), rgb, where)
        return Sample(frame_id, rgb, self._camera, labels)

    def _label(self, task: str, number: int) -> np.ndarray:
        path = self._folders[task] / f"{number}.npy"
        array = read_array(path)
        if task == "segmentation":
            return ids_of(array, len(self.label_set.classes), path)
        if task == "depth":
            depth = flat(array, path)
            return (
                depth
                if self.layout == "nyuv2"
                else disparity_to_depth(depth * 65535, self._baseline_fx)
            )
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
    found: dict[int, None] = {}
    for path in folder.glob("*.npy"):
        if path.stem.isdecimal() and path.stem.isascii() and len(path.stem) < 10:
            check_inside(path, folder.parents[1], DataError)
            found[int(path.stem)] = None
    return dict(sorted(found.items()))


def rgb_of(image: np.ndarray, path: Path) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{path} has shape {image.shape}; images are [H, W, 3]")
    if image.dtype == np.uint8:
        return image
    if not np.isfinite(image).all() or image.min() < -0.01 or image.max() > 1.01:
        raise DataError(
            f"{path} has values from {image.min():g} to {image.max():g}; "
            "images are floats from 0 to 1 or uint8"
        )
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def ids_of(array: np.ndarray, classes: int, path: Path) -> np.ndarray:
    label = flat(array, path)
    void = (label == -1) | (label == IGNORE_INDEX)
    if not (void | ((label >= 0) & (label < classes) & (label == np.floor(label)))).all():
        raise DataError(
            f"{path} has values from {label.min():g} to {label.max():g}; class ids are 0 to "
            f"{classes - 1}, -1 = void"
        )
    return np.where(void, IGNORE_INDEX, label).astype(np.uint8)


def flat(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise DataError(f"{path} has shape {array.shape}; one channel [H, W] is needed")
    return array.astype(np.float32)


def find_normal_axes(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], camera: Camera, where: object
) -> NormalAxes:
    """Return the axes of stored unit normals, of a few frames with their depth in metres; DataError
    where none agree, or two agree equally well.

    Data sets store normals in every handedness. Normals of the depth map are in the optical frame,
    so the signed permutation of the stored components that agrees with them best is the right one.
    """
    correlation, pixels = np.zeros((3, 3)), 0
    for depth, stored in frames:
        derived = depth_to_normals(depth, camera)
        both = derived.any(-1) & stored.any(-1)
        correlation += derived[both].astype(np.float64).T @ stored[both].astype(np.float64)
        pixels += int(both.sum())
    scores = sorted(
        (
            (sum(s * correlation[i, o] for i, (o, s) in enumerate(zip(order, signs))), order, signs)
            for order in permutations(range(3))
            for signs in product((1, -1), repeat=3)
        ),
        reverse=True,
    )
    best, second = scores[0][0] / max(pixels, 1), scores[1][0] / max(pixels, 1)
    if best < _LEAST_COSINE or best - second < _LEAST_LEAD:
        raise DataError(
            f"the axes of the normals of {where} cannot be told from its depth (agreement "
            f"{best:.2f}, next best {second:.2f}): give normal_axes, such as x,y,z or x,-y,-z"
        )
    return NormalAxes(scores[0][1], scores[0][2])  # type: ignore[arg-type]


def main(
    pack: Annotated[Path, typer.Argument(help="Folder with train/image and val/image.")],
    out: Annotated[Path, typer.Option(help="Folder to write; can be continued.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Label file of MTPSL (.pth, .npy, .csv, .txt) of the split train."),
    ] = None,
) -> None:
    """Write the splits of a pack as a folder to train from, and which labels a frame may use."""
    for split in ("train", "val"):
        if not (pack / split).is_dir():
            continue
        source = Preprocessed(pack, split)
        with typer.progressbar(length=len(source), label=f"{split} to {out.name}") as bar:
            write_folder(source, out, split, done=bar.update)
        if labels is not None and split == "train":
            rows = import_mtpsl(labels, source.frame_ids, source.tasks)
            write_manifest(out / "labels.csv", rows)
            typer.echo(f"labels: --manifest {out / 'labels.csv'}")
        for note in source.notes:
            typer.echo(f"note: {note}")


if __name__ == "__main__":
    run_tool("benchmark.preprocessed", main)
