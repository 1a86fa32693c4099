# SPDX-License-Identifier: Apache-2.0
"""A person's photos, with the masks that were drawn for some of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

import numpy as np

from proto_mtl_ros.data import camera_file
from proto_mtl_ros.data.drawn.masks import image_names, read_masks
from proto_mtl_ros.data.folder import files_by_id
from proto_mtl_ros.data.map_file import IMAGE_SUFFIXES, read_upright
from proto_mtl_ros.data.sample import DataSet, Sample
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import resize


class Photos(DataSet):
    """All photos of a folder; the masks are those of ``read_masks``, joined by name.

    A mask of another size than its photo, but of its shape, is resized; one that was drawn in a
    labelling tool is upright, as is the photo that its EXIF orientation turns. The camera is a
    file, or sees ``hfov`` degrees along the longer side, or is not known.
    """

    tasks: tuple[str, ...] = ("segmentation",)

    def __init__(
        self, photos: Path, masks: Path, hfov: float | None = None, camera: Path | None = None
    ) -> None:
        self.root = photos
        for path in (photos, masks):
            if not path.exists():
                raise DataError(f"there is nothing at {path}; check the path")
        found = read_masks(masks)
        self.label_set, self._as_stored = found.label_set, found.as_stored
        here = files_by_id(photos, IMAGE_SUFFIXES)
        if masks.is_dir() and photos.resolve() in masks.resolve().parents:
            here = {i: path for i, path in here.items() if masks not in path.parents}
        self._files = here
        if not self._files:
            raise DataError(f"{photos} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        self.choose(list(self._files), None, None, photos)
        self._masks: dict[str, Callable[[], np.ndarray]] = {}
        strangers: list[str] = []
        places = self._places()
        for name, mask in found.masks.items():
            frame_id = next((places[one] for one in image_names(name) if places.get(one)), None)
            if frame_id is None:
                strangers.append(name)
            elif frame_id in self._masks:
                raise DataError(f"{masks}: two masks are of the photo {frame_id}: keep one of them")
            else:
                self._masks[frame_id] = mask
        if not self._masks:
            raise DataError(
                f"no mask of {masks} is named as a photo of {photos}: the first is {strangers[0]}, "
                f"the first photo {self._files[self.frame_ids[0]].name}"
            )
        jpeg = sum(p.suffix.lower() in (".jpg", ".jpeg") for p in self._files.values())
        self.image_kind = "jpg" if 2 * jpeg > len(self._files) else "png"
        self._hfov = hfov or camera_file.DEGREES
        self._camera = None if camera is None else camera_file.read_camera(camera)
        camera_file.ideal_camera(1, 1, self._hfov)  # refuses what is no angle
        self.calibrated = hfov is not None or camera is not None
        self.notes = found.notes
        if strangers:
            self.notes += (f"{len(strangers)} masks belong to no photo (first: {strangers[0]}).",)
        if not self.calibrated:
            self.notes += (
                "No camera is known: classes and normals can be learnt, depth in metres cannot;"
                " --hfov or --camera states it.",
            )

    def _places(self) -> dict[str, str | None]:
        """Return what a mask may call a photo -> its id; None where two are called so."""
        places: dict[str, str | None] = {}
        for frame_id in self.frame_ids:
            name = PurePosixPath(frame_id).name
            places[name] = None if name in places else frame_id
        return {**places, **{frame_id: frame_id for frame_id in self.frame_ids}}

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        return self.tasks if frame_id in self._masks else ()

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        path = self._files[frame_id]
        rgb, turns = read_upright(path)
        camera = camera_file.camera_of_image(self._camera, rgb, turns, path, self._hfov)
        labels: dict[str, np.ndarray] = {}
        if frame_id in self._masks:
            ids = self._masks[frame_id]()
            labels["segmentation"] = self._fitted(ids, rgb, turns, path)
        return Sample(frame_id, rgb, camera, labels)

    def _fitted(self, ids: np.ndarray, rgb: np.ndarray, turns: int, path: Path) -> np.ndarray:
        height, width = rgb.shape[:2]
        if turns % 2 and (ids.shape[0] > ids.shape[1]) != (height > width):
            ids = np.rot90(ids, -turns)
        elif turns == 2 and self._as_stored:
            ids = np.rot90(ids, 2)
        if abs(ids.shape[1] * height - ids.shape[0] * width) > max(width, height):
            raise DataError(
                f"{path} is {width}x{height}, its mask {ids.shape[1]}x{ids.shape[0]}: another shape"
            )
        return resize(np.ascontiguousarray(ids), width, height, "nearest")
