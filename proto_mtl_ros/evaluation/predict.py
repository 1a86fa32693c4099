# SPDX-License-Identifier: Apache-2.0
"""A model's maps of images, videos and recordings, as files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data import camera_file
from proto_mtl_ros.data.bags.bag import is_bag
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.pictures import decode_picture
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.folder import IMAGES, files_by_id
from proto_mtl_ros.data.map_file import (
    IMAGE_SUFFIXES,
    depth_suffix,
    read_upright,
    write_depth,
    write_image,
    write_normals,
    write_segmentation,
)
from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.drawing.maps import overlay
from proto_mtl_ros.errors import DataError, ProtoMtlError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.runtime import Predictor

_MAPS = ("segmentation", "depth", "normals")
SAVED = ("ids", "depth", "normals", "overlay")
_ROWS = 8
"""Of the contact sheet."""

Frame = tuple[str, np.ndarray, Camera | None]
Show = Callable[[np.ndarray], object]


@dataclass
class Frames:
    """The images of a source in their order, each with a name and its camera, None: not known. What
    cannot be read is left out, see ``damaged``. ``hfov``: degrees along the longer side.
    """

    source: Path
    camera: Camera | None = None
    hfov: float | None = None
    count: int = 0
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._recording, self._files = None, dict[str, Path]()
        if not self.source.exists():
            raise DataError(f"there is nothing at {self.source}; check the path")
        if self.source.suffix.lower() in IMAGE_SUFFIXES and self.source.is_file():
            self._files = {self.source.stem: self.source}
        elif self.source.is_dir() and not is_bag(self.source):
            own = self.source / "camera.json"
            if (self.source / IMAGES).is_dir():  # a data set, whose other folders hold maps
                self.source /= IMAGES
            self._files = files_by_id(self.source, IMAGE_SUFFIXES)
            if self.camera is None and self.hfov is None and own.is_file():
                self.camera = camera_file.read_camera(own)
            if not self._files:
                raise DataError(f"{self.source} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        else:
            self._recording = open_recording(self.source, camera=self.camera)
        self.count = len(self._files) or (self._recording.frames if self._recording else 0)

    def __iter__(self) -> Iterator[Frame]:
        for name, path in self._files.items():
            try:
                rgb, turns = read_upright(path)
                yield name, rgb, self._camera_of(rgb, turns)
            except DataError as error:
                self.damaged.append(str(error))
        if self._recording is None:
            return
        known = self._recording.camera or None
        if isinstance(self._recording, BagRecording) and self.hfov is None:
            known = Calibration.of(self._recording).camera
        self.camera = known if isinstance(known, Camera) else None
        for message in self._recording.messages():
            if message.topic == self._recording.topics.image.name:
                try:
                    rgb = decode_picture(message)
                except ProtoMtlError as error:
                    self.damaged.append(f"{message.stamp}: {error}")
                    continue
                yield str(message.stamp), rgb, self._camera_of(rgb, 0)

    def _camera_of(self, rgb: np.ndarray, turns: int) -> Camera | None:
        if self.camera is None and self.hfov is None:
            return None
        degrees = self.hfov or camera_file.DEGREES
        return camera_file.camera_of_image(self.camera, rgb, turns, self.source, degrees)


def predict(
    predictor: Predictor,
    frames: Frames,
    out: Path,
    save: Collection[str] = SAVED,
    show: Show | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[int, bool]:
    """Write the maps of all frames below ``out``, a folder for each kind of ``save``, and
    ``contact_sheet.png`` of some; return how many frames there were, and whether depth is metric.

    ids: PNG, 255 unlabelled. depth: PNG of 16 bits in millimetres, ``.npy`` of metres beyond 65 m.
    normals: PNG, (n + 1) / 2 * 255. overlay: JPEG. DataError where no frame can be read.
    """
    palette = np.array(predictor.bundle.manifest.palette)
    step, rows, number, metric = max(1, frames.count // _ROWS), list[SheetRow](), 0, True
    for number, (name, rgb, camera) in enumerate(frames, 1):
        prediction = predictor.predict(rgb, camera)
        metric = metric and prediction.metric
        maps: dict[str, Any] = {key: prediction.get(key) for key in _MAPS}
        ids, depth, drawn = maps["segmentation"], maps["depth"], None
        if ids is not None and (show or "overlay" in save):
            drawn = overlay(rgb, ids, palette)
        if drawn is not None and show:
            show(drawn)
        files = (
            ("ids", ".png", ids, write_segmentation),
            ("depth", ".png" if depth is None else depth_suffix(depth), depth, write_depth),
            ("normals", ".png", maps["normals"], write_normals),
            ("overlay", ".jpg", drawn, write_image),
        )
        for kind, suffix, map_, write in files:
            if map_ is not None and kind in save:
                write(out / kind / f"{name}{suffix}", map_)
        if (number - 1) % step == 0 and len(rows) < _ROWS:
            rows.append(SheetRow(name, rgb, **maps))
        done(1)
    if not number:
        raise DataError(f"no image of {frames.source} can be read: {frames.damaged[:1]}")
    classes = predictor.bundle.manifest.classes
    write_image(out / "contact_sheet.png", contact_sheet(rows, classes, palette))
    return number, metric
