# SPDX-License-Identifier: Apache-2.0
"""What every engine does around its network: checks before and after, warm-up, closing."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from proto_mtl_ros.errors import (
    EngineError,
    one_line,
)
from proto_mtl_ros.runtime.bundle import INPUT
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt
from proto_mtl_ros.runtime.manifest import ModelManifest


def promised_outputs(manifest: ModelManifest) -> dict[str, tuple[np.dtype, int]]:
    """Return name -> (type, channels) of the maps that a bundle's graph must give."""
    return {
        map_.name: (map_.dtype, map_.channels)
        for task in manifest.task_objects()
        for map_ in task.maps
    }


class LoadedEngine:
    """Base of the engines; see ``engine.Engine``. One of them adds ``_run`` and ``_release``.

    Attributes:
        title: of the backend, as messages spell it.
    """

    name: str
    title: str

    def __init__(
        self, manifest: ModelManifest, device: str, precision: str, fallback: str | None = None
    ) -> None:
        self.device = device
        self.precision = precision
        self.fallback = fallback
        self.not_built: EngineNotBuilt | None = None
        self.choice = f"{self.name} {precision} on {device}"
        self._manifest = manifest
        self._outputs = promised_outputs(manifest)
        self._closed = False

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See ``engine.Engine``."""
        if self._closed:
            raise EngineError("the engine was closed: create another one")
        images = _checked(images, self._manifest.size_multiple)
        try:
            maps = self._run(images)
        except EngineError:
            raise
        except Exception as error:  # the backends' exceptions share no base
            raise EngineError(
                f"{self.title} failed on {list(images.shape)}: {one_line(error)}"
            ) from None
        self._check_maps(maps, images.shape[:3])
        return maps

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """See ``engine.Engine``."""
        start = time.perf_counter()
        height, width = size or self._manifest.input_size
        self.infer(np.full((batch, height, width, 3), 127, np.uint8))
        return time.perf_counter() - start

    def close(self) -> None:
        """See ``engine.Engine``."""
        if not self._closed:
            self._closed = True
            self._release()

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps of contiguous uint8[B, H, W, 3] images, in memory of their own."""
        raise NotImplementedError

    def _release(self) -> None:
        """Free the network."""
        raise NotImplementedError

    def _check_graph(
        self,
        graph: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        spelling: Mapping[str, str],
    ) -> None:
        """Check that a graph takes and gives what the bundle promises.

        Args:
            graph: what messages call it.
            inputs, outputs: name -> type, as the backend spells it.
            spelling: the backend's name of a type -> numpy's.

        Raises:
            EngineError: it does not.
        """
        if {name: spelling.get(kind) for name, kind in inputs.items()} != {INPUT: "uint8"}:
            found = ", ".join(f"{name} {kind}" for name, kind in inputs.items())
            raise EngineError(
                f"{graph} takes {found or 'nothing'}, not {INPUT} uint8: export the model again"
            )
        for name, (dtype, _) in self._outputs.items():
            kind = outputs.get(name, "nothing")
            if spelling.get(kind) != dtype.name:
                raise EngineError(
                    f"{graph} gives {name} as {kind}, not {dtype}: export the model again"
                )

    def _check_maps(self, maps: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
        for name, (dtype, channels) in self._outputs.items():
            wanted = shape if channels == 1 else (*shape, channels)
            found = maps.get(name)
            if found is None:
                raise EngineError(f"the network gives no {name}: export the model again")
            if found.dtype != dtype or found.shape != wanted:
                raise EngineError(
                    f"the network gives {name} as {found.dtype}{list(found.shape)}, not"
                    f" {dtype}{list(wanted)}: export the model again"
                )


def _checked(images: np.ndarray, multiple: int) -> np.ndarray:
    """Return ``images`` contiguous, after checking that a deployed graph can take them."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise EngineError(
            f"the network takes uint8[B, H, W, 3], not {images.dtype}{list(images.shape)}"
        )
    height, width = images.shape[1:3]
    if height % multiple or width % multiple:
        raise EngineError(
            f"the network takes heights and widths that are multiples of {multiple}, not"
            f" {width}x{height}: change the input size"
        )
    return np.ascontiguousarray(images)
