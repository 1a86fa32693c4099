# SPDX-License-Identifier: Apache-2.0
"""What every inference backend is: one class in one file, which states its own rank."""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.runtime.bundle import INPUT, Bundle
from proto_mtl_ros.runtime.manifest import ModelManifest

PRECISIONS = ("fp32", "fp16", "int8")


class EngineNotBuilt(EngineError):
    """There is no engine for this machine yet, but an ``engine_plan.EnginePlan`` to build it."""

    def __init__(self, plan: Any, why: str) -> None:
        super().__init__(
            f"no TensorRT engine of {plan.bundle.name} for this GPU ({why}): build it with"
            f" `proto-mtl engine build --model {plan.bundle.name}`"
        )
        self.plan, self.why = plan, why


@dataclass(frozen=True)
class EngineOptions:
    """How a network shall run.

    Attributes:
        device: "cpu", "cuda", "cuda:<index>", or "auto" for a GPU if there is one.
        threads: of the network on the CPU; 0 leaves it to the backend.
        precision: one of ``PRECISIONS``, or "auto" for the fastest that the model has.
        input_size, max_batch: (height, width), None for the model's own, and most images at once,
            that engines are built for.
    """

    device: str = "auto"
    threads: int = 0
    precision: str = "auto"
    input_size: tuple[int, int] | None = None
    max_batch: int = 1

    def __post_init__(self) -> None:
        kind, colon, index = self.device.partition(":")
        known = kind in ("auto", "cpu", "cuda")
        if not known or (colon and (kind != "cuda" or not index.isdigit())):
            raise EngineError(
                f"there is no device {self.device!r}: use auto, cpu, cuda or cuda:<index>"
            )
        if self.threads < 0:
            raise EngineError(f"threads is {self.threads}: give 0 (automatic) or more")
        if self.precision not in ("auto", *PRECISIONS):
            names = ", ".join(("auto", *PRECISIONS))
            raise EngineError(f"there is no precision {self.precision!r}: use one of {names}")

    @property
    def gpu(self) -> int:
        """Index of the GPU that is asked for, or the first."""
        return int(self.device.partition(":")[2] or 0)


class Engine(ABC):
    """A loaded network. It belongs to one thread at a time: none of its methods may overlap.

    A backend imports its library when an engine is made, not before.

    Attributes:
        name, title: of the backend, as users write it and as messages spell it.
        requires: tuples of modules; one of each tuple must be installed.
        install: how to get them.
        ranks: kind of device and precision -> place among all backends, the least is the fastest.
        device: where it really runs, "cpu" or "cuda:<index>".
        choice: why this backend and device, one line for the log.
        fallback: why it is not what was asked for, or None. Worth a warning.
        not_built: a faster engine that has to be built first, or None.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    requires: ClassVar[tuple[tuple[str, ...], ...]]
    install: ClassVar[str]
    ranks: ClassVar[Mapping[tuple[str, str], int]] = {}

    def __init__(
        self, manifest: ModelManifest, device: str, precision: str, fallback: str | None = None
    ) -> None:
        self.device = device
        self.precision = precision
        self.fallback = fallback
        self.not_built: EngineNotBuilt | None = None
        self.choice = f"{self.name} {precision} on {device}"
        self._manifest = manifest
        self._outputs = {one.name: one for task in manifest.task_objects() for one in task.maps}
        self._closed = False

    @classmethod
    def installed(cls) -> bool:
        """Tell whether its libraries are installed, without importing them."""
        return all(any(map(importlib.util.find_spec, names)) for names in cls.requires)

    @classmethod
    def load(cls, bundle: Bundle, options: EngineOptions) -> Engine:
        """Return an engine of ``bundle``; see ``engine.create_engine``."""
        return cls(bundle, options)  # type: ignore[call-arg, arg-type]

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps of the model's tasks by name, see ``Task.maps``; depth is canonical.

        ``images`` are uint8[B, H, W, 3] RGB, H and W multiples of the model's ``size_multiple``;
        EngineError where they are not, or the backend fails. The maps are the caller's.
        """
        if self._closed:
            raise EngineError("the engine was closed: create another one")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            raise EngineError(
                f"the network takes uint8[B, H, W, 3], not {images.dtype}{list(images.shape)}"
            )
        multiple, (height, width) = self._manifest.size_multiple, images.shape[1:3]
        if height % multiple or width % multiple:
            raise EngineError(
                f"the network takes heights and widths that are multiples of {multiple}, not"
                f" {width}x{height}: change the input size"
            )
        try:
            maps = self._run(np.ascontiguousarray(images))
        except EngineError:
            raise
        except Exception as error:  # the backends' exceptions share no base
            raise EngineError(
                f"{self.title} failed on {list(images.shape)}: {one_line(error)}"
            ) from None
        for name, output in self._outputs.items():
            found = maps.get(name)
            wanted = images.shape[:3] + ((output.channels,) if output.channels > 1 else ())
            if found is None or found.dtype != output.dtype or found.shape != wanted:
                given = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
                raise EngineError(
                    f"the network gives {name} as {given}, not {output.dtype}{list(wanted)}:"
                    " export the model again"
                )
        return maps

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """Run once on grey images of (height, width), so that the first real frame is not slow.

        Return the seconds that it took.
        """
        start = time.perf_counter()
        height, width = size or self._manifest.input_size
        self.infer(np.full((batch, height, width, 3), 127, np.uint8))
        return time.perf_counter() - start

    def cancel(self) -> None:  # noqa: B027 (most cannot)
        """Let ``infer``, at work in another thread, fail soon, where the backend can."""

    def close(self) -> None:
        """Free the network's memory; ``infer`` raises EngineError from then on."""
        if not self._closed:
            self._closed = True
            self._release()

    @abstractmethod
    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps of contiguous uint8[B, H, W, 3] images, in memory of their own."""

    @abstractmethod
    def _release(self) -> None:
        """Free the network."""

    def _check_graph(
        self,
        graph: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        spelling: Mapping[str, str],
    ) -> None:
        """Raise EngineError unless a graph takes and gives what the bundle promises.

        ``inputs`` and ``outputs`` are name -> type as the backend spells it, ``spelling`` the
        backend's name of a type -> numpy's.
        """
        if {name: spelling.get(kind) for name, kind in inputs.items()} != {INPUT: "uint8"}:
            found = ", ".join(f"{name} {kind}" for name, kind in inputs.items())
            raise EngineError(
                f"{graph} takes {found or 'nothing'}, not {INPUT} uint8: export the model again"
            )
        for name, output in self._outputs.items():
            kind = outputs.get(name, "nothing")
            if spelling.get(kind) != output.dtype.name:
                raise EngineError(
                    f"{graph} gives {name} as {kind}, not {output.dtype}: export the model again"
                )


BACKENDS: dict[str, type[Engine]] = {}
"""The backends there are, by name."""


def register_backend(backend: Any) -> Any:
    """Add a subclass of ``Engine``; used as a decorator, by this package and by plugins."""
    BACKENDS[backend.name] = backend
    return backend
