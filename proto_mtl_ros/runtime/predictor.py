# SPDX-License-Identifier: Apache-2.0
"""From pictures and cameras to maps in metres: what lies between an engine and its user."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.geometry import (
    Camera,
    Letterbox,
    canonical_factor,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine
from proto_mtl_ros.runtime.loaded_engine import (
    OUTPUTS,
    promised_outputs,
)
from proto_mtl_ros.runtime.map_check import (
    invalid_shares,
    without_unknown_classes,
)
from proto_mtl_ros.runtime.maps import (
    fit_depth,
    fit_ids,
    fit_map,
    fit_normals,
)

MAPS = tuple(name for maps in OUTPUTS.values() for name, _, _ in maps)
"""All maps that a prediction can have."""

OUTPUT_SIZES = ("input", "network")


@dataclass(frozen=True)
class Prediction:
    """The maps of one picture, all of one size; None for those not asked for or not in the model.

    Attributes:
        segmentation: class ids uint8[H, W], 255 = unlabelled.
        confidence: of the ids, uint8[H, W], 255 = certain.
        depth: float32[H, W], metres along the optical axis, NaN = none.
        normals: float32[H, W, 3], unit, optical frame, (0, 0, 0) = none; facing the camera where
            the camera is known.
        camera: of the maps' pixels, or None when it is unknown.
        metric: whether depth was scaled for the camera; without one it is as if the picture came
            from the model's canonical camera.
        timings: milliseconds of "preprocess", "infer" (of the whole batch) and "postprocess".
        invalid: shares of the network's pixels that had no value, see ``map_check``.
    """

    segmentation: np.ndarray | None = None
    confidence: np.ndarray | None = None
    depth: np.ndarray | None = None
    normals: np.ndarray | None = None
    camera: Camera | None = None
    metric: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    invalid: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _View:
    """One picture of a batch: where it lies in the network's input, and through which camera."""

    letterbox: Letterbox
    camera: Camera | None
    factor: float


@dataclass(frozen=True)
class Prepared:
    """One picture on its way through a predictor.

    Attributes:
        view: where it lies in the network's input.
        names: of the maps that are wanted.
        pixels: the network's input, uint8[h, w, 3].
        timings: milliseconds of the steps so far.
        maps: what the network gave, at its own size; empty before it ran.
    """

    view: _View
    names: Set[str]
    pixels: np.ndarray
    timings: dict[str, float]
    maps: dict[str, np.ndarray] = field(default_factory=dict)


class Predictor:
    """Runs an engine on pictures of any size. It belongs to one thread at a time, as engines do.

    Attributes:
        bundle: the model.
        engine: that runs it.
        input_size: (height, width) of the network's input.
        output_size: "input" for maps at the picture's size, "network" for the network's
            resolution without the padding.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        input_size: tuple[int, int] | None = None,
        output_size: str = "input",
        confidence_threshold: float = 0.0,
    ) -> None:
        """Check the sizes; nothing is run yet.

        Args:
            bundle: the model, for its sizes and its canonical camera.
            engine: created from the same bundle.
            input_size: (height, width) to run the network at, by default the one it was trained
                for; multiples of the manifest's ``size_multiple``.
            output_size: "input" or "network".
            confidence_threshold: 0..1; ids of a lower confidence become 255. May be changed.

        Raises:
            EngineError: a value that is not allowed.
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
        self._maps = tuple(promised_outputs(manifest))

    @property
    def confidence_threshold(self) -> float:
        """Ids of a lower confidence (0..1) become 255; 0 turns this off."""
        return self._confidence_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise EngineError(f"confidence threshold {value} is not in 0..1")
        self._confidence_threshold = float(value)

    def warm_up(self, batch: int = 1) -> float:
        """Run the network once at this predictor's input size; return the seconds it took."""
        return self.engine.warm_up(batch, self.input_size)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def predict(
        self, rgb: np.ndarray, camera: Camera | None = None, outputs: Collection[str] | None = None
    ) -> Prediction:
        """Predict the maps of one picture.

        Args:
            rgb: uint8[H, W, 3].
            camera: of this picture and its size; None when unknown.
            outputs: names of the maps that are needed, None for all; the others cost nothing
                after the network.

        Raises:
            EngineError: a picture, camera or name that cannot be used, or the engine failed.
        """
        wanted = None if outputs is None else frozenset(outputs)
        return self.predict_batch([rgb], [camera], wanted)[0]

    def predict_batch(
        self,
        images: Sequence[np.ndarray],
        cameras: Sequence[Camera | None] | None = None,
        outputs: Set[str] | Sequence[Set[str] | None] | None = None,
    ) -> list[Prediction]:
        """Predict the maps of several pictures, of equal or different sizes, in one run.

        Args:
            images: uint8[H, W, 3] each.
            cameras: one for each picture, None for an unknown one.
            outputs: a set of names for all pictures, or a sequence of one set for each.

        Raises:
            EngineError: see ``predict``.
        """
        if not images:
            return []
        cameras = [None] * len(images) if cameras is None else cameras
        wanted = [outputs] * len(images) if outputs is None or isinstance(outputs, Set) else outputs
        if len(cameras) != len(images) or len(wanted) != len(images):
            raise EngineError(
                f"{len(images)} pictures come with {len(cameras)} cameras and {len(wanted)} sets"
                " of outputs: give one of each for every picture"
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
        """Bring one picture to the network's input; see ``predict`` for what it takes."""
        names = self._checked(outputs)
        start = time.perf_counter()
        view = self._view(image, camera)
        pixels = view.letterbox.apply(image)
        return Prepared(view, names, pixels, {"preprocess": _milliseconds(start)})

    def run(self, prepared: Sequence[Prepared]) -> list[Prepared]:
        """Run the network once for some pictures and return them with its maps.

        Raises:
            EngineError: the engine failed.
        """
        start = time.perf_counter()
        inputs = [one.pixels for one in prepared]
        maps = self.engine.infer(inputs[0][None] if len(inputs) == 1 else np.stack(inputs))
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
        """Bring the maps of one picture to the output size."""
        start = time.perf_counter()
        view = inferred.view
        maps, classes = inferred.maps, len(self.bundle.classes)
        invalid = invalid_shares(maps, inferred.names, classes)
        if "invalid_class" in invalid:
            known = without_unknown_classes(maps["segmentation"], classes)
            maps = {**maps, "segmentation": known}
        fitted = self._fit(maps, view, inferred.names)
        return Prediction(
            **fitted,
            camera=view.camera,
            metric=view.camera is not None,
            timings={**inferred.timings, "postprocess": _milliseconds(start)},
            invalid=invalid,
        )

    def _checked(self, outputs: Set[str] | None) -> Set[str]:
        if outputs is None:
            return frozenset(self._maps)
        unknown = sorted(set(outputs) - set(MAPS))
        if unknown:
            raise EngineError(f"there is no map {unknown[0]!r}: use {', '.join(MAPS)}")
        return outputs

    def _view(self, image: np.ndarray, camera: Camera | None) -> _View:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise EngineError(
                f"a picture is uint8[H, W, 3], not {image.dtype}{list(image.shape)}: convert it"
            )
        height, width = image.shape[:2]
        letterbox = Letterbox.fit(width, height, self.input_size[1], self.input_size[0])
        if camera is None:
            return _View(letterbox, None, 1.0)
        if (camera.width, camera.height) != (width, height):
            raise EngineError(
                f"the camera is calibrated for {camera.width}x{camera.height} and the picture has"
                f" {width}x{height}: give the camera of this picture"
            )
        seen = letterbox.camera(camera)
        factor = canonical_factor(seen.fx, self.bundle.manifest.canonical_fx)
        if self.output_size == "network":
            camera = camera.resized(letterbox.new_w, letterbox.new_h)
        return _View(letterbox, camera, factor)

    def _fit(
        self, maps: dict[str, np.ndarray], view: _View, wanted: Set[str]
    ) -> dict[str, np.ndarray]:
        """Bring the wanted maps to the output size."""
        box, full_size = view.letterbox, self.output_size == "input"
        fitted: dict[str, np.ndarray] = {}
        if "segmentation" in wanted and "segmentation" in maps:
            threshold = round(self.confidence_threshold * 255)
            fitted["segmentation"] = fit_ids(
                maps["segmentation"], maps.get("confidence"), threshold, box, full_size
            )
        if "confidence" in wanted and "confidence" in maps:
            # Of the same network pixel as the id beside it, so nearest, too.
            fitted["confidence"] = np.ascontiguousarray(
                fit_map(maps["confidence"], box, full_size, "nearest")
            )
        if "depth" in wanted and "depth" in maps:
            fitted["depth"] = fit_depth(maps["depth"], view.factor, box, full_size)
        if "normals" in wanted and "normals" in maps:
            rays = None if view.camera is None else view.camera.rays()
            fitted["normals"] = fit_normals(maps["normals"], rays, box, full_size)
        return fitted


def _milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1000.0
