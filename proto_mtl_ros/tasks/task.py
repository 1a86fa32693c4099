# SPDX-License-Identifier: Apache-2.0
"""What a task is: one object that knows its labels, its maps, its figures and its topics.

numpy and OpenCV only. What needs torch (loss, decoding, teacher) is registered by kind in
``model.torch_tasks``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from proto_mtl_ros.geometry import Camera, Letterbox

IGNORE_INDEX = 255
"""Segmentation id of a pixel without a class, in labels and in published masks."""

Maps = Mapping[str, np.ndarray]
"""Maps of one image by name."""

MakePixels = Callable[[Maps, np.ndarray, "TopicSettings"], np.ndarray]
"""From maps, the image uint8 [H, W, 3] and the settings."""


class Metric(Protocol):
    """Accumulates predictions against labels."""

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add one frame."""

    def compute(self) -> dict[str, float]:
        """Return the figures; NaN where nothing was valid."""


@dataclass(frozen=True)
class OutputMap:
    """A map [H, W], or [H, W, channels] of more than one channel, that a deployed graph gives."""

    name: str
    dtype: np.dtype
    channels: int = 1

    def shape(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """Return its shape for images [B, H, W, 3]."""
        return images[:3] if self.channels == 1 else (*images[:3], self.channels)


@dataclass(frozen=True)
class TopicSettings:
    """What a result is made by, beside its maps; depths in metres, 0 = no limit."""

    palette: np.ndarray
    min_depth: float = 0.0
    max_depth: float = 0.0


@dataclass(frozen=True)
class ResultTopic:
    """A topic below a camera's namespace.

    Attributes:
        needs: the maps it is made from; what no wanted topic needs is not computed.
        make: None where an image is the map as it is, and where the node makes the message itself.
    """

    name: str
    type: str
    text: str
    needs: tuple[str, ...] = ()
    encoding: str = ""
    make: MakePixels | None = field(default=None, compare=False)


def image_topic(
    name: str, encoding: str, text: str, needs: str, make: MakePixels | None = None
) -> ResultTopic:
    """Return a topic of images; without ``make`` they are the map ``needs`` as it is."""
    return ResultTopic(name, "sensor_msgs/Image", f"{encoding}: {text}", (needs,), encoding, make)


@dataclass(frozen=True)
class View:
    """Where an image lies in the network's input, and how its maps are wanted."""

    letterbox: Letterbox
    full_size: bool = True  # maps at the image's size; otherwise at the network's, without padding
    factor: float = 1.0  # from depth of the canonical camera to depth of the real one
    camera: Camera | None = None  # of the maps' pixels
    threshold: int = 0  # confidence 0..255 below which an id becomes 255; 0 = off

    @cached_property
    def rays(self) -> np.ndarray | None:
        """Viewing rays of the maps' pixels, float32 [H, W, 3]; None without a camera."""
        return None if self.camera is None else self.camera.rays()

    def fit(self, values: np.ndarray, interpolation: str) -> np.ndarray:
        """Return a network map [h, w, ...] without its padding, at the wanted size."""
        box = self.letterbox
        fitted = box.undo(values, interpolation) if self.full_size else values[box.window]
        return np.ascontiguousarray(fitted)


@dataclass(frozen=True)
class Task(ABC):
    """One prediction per pixel.

    Attributes:
        name: key of the task in samples, predictions and reports; also the name of its map.
        channels: of the raw prediction [B, channels, h, w].
        metrics: names of the figures that its ``Metric`` gives, the primary one first.
        higher_is_better: whether more is better of the primary figure.
        canonical: what is predicted grows with the focal length, as depth does; the network gives
            it for the model's canonical camera.
        confident: whether the model says how sure it is; then there is a map more.
    """

    name: str
    channels: int
    metrics: tuple[str, ...]
    higher_is_better: bool = False
    canonical: bool = False
    confident: bool = False

    @property
    def confidence(self) -> str:
        """Name of the map of 255 x the probability of being right."""
        return f"{self.name}_confidence"

    @property
    def maps(self) -> tuple[OutputMap, ...]:
        """What the deployed graph gives for it, in order."""
        own = (OutputMap(self.name, np.dtype(np.float32), self.channels),)
        return (*own, OutputMap(self.confidence, np.dtype(np.uint8))) if self.confident else own

    @property
    @abstractmethod
    def topics(self) -> tuple[ResultTopic, ...]:
        """What the node publishes of it."""

    @abstractmethod
    def valid(self, label: np.ndarray) -> np.ndarray:
        """Return bool [H, W]: the pixels of ``label`` that carry a label."""

    def empty_label(self, height: int, width: int) -> np.ndarray:
        """Return a label map [H, W] or [H, W, C] in which no pixel is valid."""
        return np.zeros((height, width, self.channels)[: 2 + (self.channels > 1)], np.float32)

    @abstractmethod
    def metric(self) -> Metric:
        """Return an empty metric."""

    def fit(self, maps: Maps, wanted: frozenset[str], view: View) -> dict[str, np.ndarray]:
        """Return those of the task's maps that are wanted, at the size that the view asks for."""
        fitted: dict[str, np.ndarray] = {}
        if self.name in wanted and self.name in maps:
            fitted[self.name] = self.fit_map(maps[self.name], view)
        if self.confidence in wanted and self.confidence in maps:
            fitted[self.confidence] = view.fit(maps[self.confidence], "nearest")
        return fitted

    def fit_map(self, values: np.ndarray, view: View) -> np.ndarray:
        """Return the map that the network gives for it, at the size that the view asks for."""
        return view.fit(values, "linear")

    @abstractmethod
    def draw(self, values: np.ndarray) -> np.ndarray:
        """Return a label or a map as colours, uint8 [H, W, 3]; what is invalid is black."""

    def mirrored(self, label: np.ndarray) -> np.ndarray:
        """Return the label of the image mirrored left to right."""
        return np.ascontiguousarray(label[:, ::-1])

    def from_canonical(self, values: np.ndarray, factor: float) -> np.ndarray:
        """Return values of the canonical camera for a real one."""
        return values * np.float32(factor) if self.canonical else values

    def to_canonical(self, values: np.ndarray, factor: float) -> np.ndarray:
        """Return values of a real camera for the canonical one."""
        return values / np.float32(factor) if self.canonical else values

    def invalid(self, maps: Maps) -> dict[str, float]:
        """Return cause -> share of the network's pixels (0..1) that have no value.

        An overflow in half precision, a damaged model or a faulty device gives NaN, infinity, or
        ids that no class has. They are published as invalid, never as measurements, and counted.
        """
        finite = np.isfinite(maps[self.name])
        if finite.all():
            return {}
        good = finite if finite.ndim == 2 else finite.all(axis=-1)
        return {f"invalid_{self.name}": 1.0 - float(good.mean())}
