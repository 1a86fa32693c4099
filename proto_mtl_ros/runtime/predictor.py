# SPDX-License-Identifier: Apache-2.0
"""From images and cameras to maps in metres: what lies between an engine and its user."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.geometry import Camera, Letterbox, canonical_factor
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine
from proto_mtl_ros.tasks import View, known_tasks

OUTPUT_SIZES = ("input", "network")

_VIEWS = 16
"""Sizes and cameras that are remembered."""


@dataclass(frozen=True, eq=False)
class Prediction(Mapping[str, np.ndarray]):
    """The maps of one image by name, all of one size: those asked for that the model gives.

    "segmentation": class ids uint8 [H, W], 255 = unlabelled; "confidence": of the ids, uint8
    [H, W], 255 = certain; "depth": float32 [H, W], metres along the optical axis, NaN = none;
    "normals": float32 [H, W, 3], unit, optical frame, (0, 0, 0) = none, facing the camera where
    the camera is known; those of other tasks as the tasks say.

    Attributes:
        camera: of the maps' pixels, or None when it is unknown.
        metric: whether depth was scaled for the camera; without one it is as if the image came
            from the model's canonical camera.
        timings: milliseconds of "preprocess", "infer" (of the whole batch) and "postprocess".
        invalid: shares of the network's pixels that had no value, by cause.
    """

    maps: Mapping[str, np.ndarray]
    camera: Camera | None = None
    metric: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    invalid: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)


@dataclass(frozen=True)
class Prepared:
    """One image on its way through a predictor."""

    view: View
    names: frozenset[str]  # of the maps that are wanted
    pixels: np.ndarray  # the network's input, uint8[h, w, 3]
    timings: dict[str, float]
    maps: dict[str, np.ndarray] = field(default_factory=dict)  # what the network gave


class Predictor:
    """Runs an engine on images of any size. It belongs to one thread at a time, as engines do."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        input_size: tuple[int, int] | None = None,
        output_size: str = "input",
        confidence_threshold: float = 0.0,
    ) -> None:
        """Check the sizes; EngineError where one is not allowed. Nothing is run yet.

        Args:
            engine: created from the same bundle.
            input_size: (height, width) to run the network at, by default the one it was trained
                for; multiples of the manifest's ``size_multiple``.
            output_size: "input" for maps at the image's size, "network" for the network's
                resolution without the padding.
        """
        manifest = bundle.manifest
        self.bundle = bundle
        self.engine = engine
        self.input_size: tuple[int, int] = tuple(input_size or manifest.input_size)  # type: ignore[assignment]
        multiple = manifest.size_multiple
        if len(self.input_size) != 2 or any(s < 1 or s % multiple for s in self.input_size):
            raise EngineError(
                f"input size {list(self.input_size)} is not two multiples of {multiple}:"
                f" use for example {list(manifest.input_size)} (height, width)"
            )
        if output_size not in OUTPUT_SIZES:
            raise EngineError(f"there is no output size {output_size!r}: use input or network")
        self.output_size = output_size
        self.confidence_threshold = confidence_threshold
        self.in_engine = False  # the engine is at work, and not what is before and after it
        self._tasks = [
            (task, frozenset(map_.name for map_ in task.maps)) for task in manifest.task_objects()
        ]
        self._maps = tuple(map_.name for task, _ in self._tasks for map_ in task.maps)
        self._known = tuple(map_.name for task in known_tasks().values() for map_ in task.maps)
        self._views: dict[object, tuple[View, Camera | None]] = {}

    @property
    def confidence_threshold(self) -> float:
        """Ids of a lower confidence (0..1) become 255; 0 turns this off."""
        return self._confidence_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise EngineError(f"confidence threshold {value} is not in 0..1")
        self._confidence_threshold = float(value)

    def __call__(
        self, rgb: np.ndarray, camera: Camera | np.ndarray | float | None = None
    ) -> Prediction:
        """Predict all maps of one image.

        Args:
            rgb: uint8[H, W, 3].
            camera: that took it: a ``Camera``, its matrix [3, 3], or the degrees that an ideal one
                sees from left to right. Without it depth is that of the model's canonical camera.
        """
        if camera is not None and not isinstance(camera, Camera):
            height, width = rgb.shape[:2]
            matrix = np.asarray(camera, np.float64)
            if matrix.ndim == 0:
                focal = width / 2 / np.tan(np.radians(matrix) / 2)
                matrix = np.array(
                    [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
                )
            camera = Camera(matrix, width, height)
        return self.predict(rgb, camera)

    def warm_up(self, batch: int = 1) -> float:
        """Run the network once at the predictor's input size; return the seconds that it took."""
        return self.engine.warm_up(batch, self.input_size)

    def close(self) -> None:
        self.engine.close()

    def predict(
        self, rgb: np.ndarray, camera: Camera | None = None, outputs: Collection[str] | None = None
    ) -> Prediction:
        """Predict the maps of one image uint8[H, W, 3].

        Args:
            camera: of this image and its size; None when unknown.
            outputs: names of the maps that are needed, None for all; the others cost nothing.

        Raises:
            EngineError: an image, camera or name that cannot be used, or the engine failed.
        """
        wanted = None if outputs is None else frozenset(outputs)
        return self.predict_batch([rgb], [camera], wanted)[0]

    def predict_batch(
        self,
        images: Sequence[np.ndarray],
        cameras: Sequence[Camera | None] | None = None,
        outputs: Set[str] | Sequence[Set[str] | None] | None = None,
    ) -> list[Prediction]:
        """Predict the maps of several images of any sizes in one run; see ``predict``.

        ``cameras`` has one for each image, ``outputs`` is one set of names or has one for each.
        """
        if not images:
            return []
        cameras = [None] * len(images) if cameras is None else cameras
        wanted = [outputs] * len(images) if outputs is None or isinstance(outputs, Set) else outputs
        if len(cameras) != len(images) or len(wanted) != len(images):
            raise EngineError(
                f"{len(images)} images come with {len(cameras)} cameras and {len(wanted)} sets"
                " of outputs: give one of each for every image"
            )
        prepared = [self.prepare(*one) for one in zip(images, cameras, wanted, strict=True)]
        return [self.finish(one) for one in self.run(prepared)]

    # The three steps of a prediction, for those who let them overlap: only ``run`` uses the engine,
    # the other two may be called from any thread.

    def prepare(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        outputs: Set[str] | None = None,
    ) -> Prepared:
        """Bring one image to the network's input; see ``predict`` for what it takes."""
        unknown = sorted(set(outputs or ()) - set(self._known))
        if unknown:
            raise EngineError(f"there is no map {unknown[0]!r}: use {', '.join(self._known)}")
        names = frozenset(self._maps if outputs is None else outputs)
        start = time.perf_counter()
        view = self._view(image, camera)
        pixels = view.letterbox.apply(image)
        return Prepared(view, names, pixels, {"preprocess": _milliseconds(start)})

    def run(self, prepared: Sequence[Prepared]) -> list[Prepared]:
        """Run the network once for some images and return them with its maps; EngineError."""
        start = time.perf_counter()
        inputs = [one.pixels for one in prepared]
        batch = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)
        self.in_engine = True
        try:
            maps = self.engine.infer(batch)
        finally:
            self.in_engine = False
        spent = _milliseconds(start)
        return [
            # A view, not a copy, of the batch: maps that nobody wants are not even touched.
            replace(
                one,
                maps={name: values[index] for name, values in maps.items()},
                timings={**one.timings, "infer": spent},
            )
            for index, one in enumerate(prepared)
        ]

    def finish(self, inferred: Prepared) -> Prediction:
        """Bring the maps of one image to the output size."""
        start = time.perf_counter()
        view, maps = inferred.view, inferred.maps
        fitted: dict[str, np.ndarray] = {}
        invalid: dict[str, float] = {}
        for task, names in self._tasks:
            if names & inferred.names:
                if task.name in maps and task.name in inferred.names:
                    invalid |= task.invalid(maps)
                fitted |= task.fit(maps, inferred.names, view)
        return Prediction(
            fitted,
            view.camera,
            view.camera is not None,
            {**inferred.timings, "postprocess": _milliseconds(start)},
            invalid,
        )

    def _view(self, image: np.ndarray, camera: Camera | None) -> View:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise EngineError(
                f"an image is uint8[H, W, 3], not {image.dtype}{list(image.shape)}: convert it"
            )
        height, width = image.shape[:2]
        # A camera keeps its size and its calibration, and so its view and the rays of its pixels.
        key = (height, width, id(camera), self._confidence_threshold)
        view, of = self._views.get(key, (None, None))
        if view is None or of is not camera:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            view = self._new_view(height, width, camera)
            self._views[key] = view, camera
        return view

    def _new_view(self, height: int, width: int, camera: Camera | None) -> View:
        letterbox = Letterbox.fit(width, height, self.input_size[1], self.input_size[0])
        full_size, threshold = self.output_size == "input", round(self.confidence_threshold * 255)
        if camera is None:
            return View(letterbox, full_size, threshold=threshold)
        if (camera.width, camera.height) != (width, height):
            raise EngineError(
                f"the camera is calibrated for {camera.width}x{camera.height} and the image has"
                f" {width}x{height}: give the camera of this image"
            )
        seen = letterbox.camera(camera)
        factor = canonical_factor(seen.fx, self.bundle.manifest.canonical_fx)
        if not full_size:
            camera = camera.resized(letterbox.new_w, letterbox.new_h)
        return View(letterbox, full_size, factor, camera, threshold)


def _milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1000.0
