# SPDX-License-Identifier: Apache-2.0
"""The protocol that all inference backends keep, and the choice of one of them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from proto_mtl_ros.errors import EngineError, ProtoMtlError, one_line

from .bundle import Bundle
from .manifest import ModelManifest

OUTPUTS: dict[str, tuple[tuple[str, np.dtype, int], ...]] = {
    "segmentation": (
        ("segmentation", np.dtype(np.uint8), 1),
        ("confidence", np.dtype(np.uint8), 1),
    ),
    "depth": (("depth", np.dtype(np.float32), 1),),
    "normals": (("normals", np.dtype(np.float32), 3),),
}
"""Task -> (name, type, channels) of the maps that the deployed graph gives for it."""


@runtime_checkable
class Engine(Protocol):
    """A loaded network. It belongs to one thread at a time: none of its methods may overlap.

    Attributes:
        name: of the backend.
        device: where it really runs, "cpu" or "cuda:<index>".
        precision: of the arithmetic, for example "fp32".
        choice: why this backend and device, one line for the log.
        fallback: why it is not what was asked for, or None. Worth a warning.
    """

    name: str
    device: str
    precision: str
    choice: str
    fallback: str | None

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the deployed graph.

        Args:
            images: uint8[B, H, W, 3] RGB, H and W multiples of the model's ``size_multiple``.

        Returns:
            "segmentation" and "confidence" uint8[B, H, W], "depth" float32[B, H, W] in metres of
            the canonical camera, "normals" float32[B, H, W, 3]; those of the model's tasks. The
            arrays are the caller's.

        Raises:
            EngineError: images of another type or shape, or the backend failed.
        """
        ...

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """Run once on grey images so that the first real frame is not slow.

        Args:
            batch: number of images.
            size: (height, width), by default the model's input size.

        Returns:
            Seconds that it took.
        """
        ...

    def close(self) -> None:
        """Free the network's memory; ``infer`` raises EngineError from then on."""
        ...


@dataclass(frozen=True)
class Backend:
    """A backend that this release has.

    Attributes:
        name: as users write it; also the module in this package, imported only when it is used.
        requires: modules that must be installed.
        install: what to install to get them.
    """

    name: str
    requires: tuple[str, ...]
    install: str

    def installed(self) -> bool:
        """Tell whether its libraries are installed, without importing them."""
        return all(importlib.util.find_spec(module) is not None for module in self.requires)


BACKENDS = (
    Backend("onnxruntime", ("onnxruntime",), "pip install onnxruntime"),
    Backend("openvino", ("openvino",), "pip install openvino"),
    Backend("torch", ("torch", "safetensors"), "pip install torch safetensors"),
)
"""In the order of their speed on a CPU."""


def available_backends() -> list[str]:
    """Return the installed backends, the fastest first. None of them is imported."""
    return [backend.name for backend in BACKENDS if backend.installed()]


def create_engine(
    bundle: Bundle, backend: str = "auto", device: str = "auto", threads: int = 0
) -> Engine:
    """Load the network of ``bundle``.

    Args:
        bundle: a verified bundle.
        backend: one of ``available_backends()``, or "auto" for the fastest that works.
        device: "cpu", "cuda", "cuda:<index>", or "auto" for a GPU if the backend has one ready.
            A GPU that is asked for and cannot be used is replaced by the CPU, and
            ``engine.fallback`` says why.
        threads: CPU threads of the network; 0 leaves it to the backend.

    Raises:
        EngineError: an unknown backend or device, one that is not installed, or a graph that is
            not what the bundle promises.
    """
    _check_device(device)
    if threads < 0:
        raise EngineError(f"threads is {threads}: give 0 (automatic) or more")
    if backend != "auto":
        return _explained(_load(_named(backend), bundle, device, threads), "as asked for")
    return _fastest(bundle, device, threads)


def _fastest(bundle: Bundle, device: str, threads: int) -> Engine:
    candidates = [backend for backend in BACKENDS if backend.installed()]
    if not candidates:
        ways = " or ".join(backend.install for backend in BACKENDS)
        raise EngineError(f"no inference backend is installed: {ways}")
    failures: list[str] = []
    engines: list[Engine] = []
    for backend in candidates:
        try:
            engines.append(_load(backend, bundle, device, threads))
        except ProtoMtlError as error:
            failures.append(str(error))
            continue
        # Only a GPU that was asked for by name is reason enough to look at a slower backend.
        if not device.startswith("cuda") or engines[-1].device != "cpu":
            break
    if not engines:
        raise EngineError("no backend can run the model: " + "; ".join(failures))
    best = next((engine for engine in engines if engine.device != "cpu"), engines[0])
    for engine in engines:
        if engine is not best:
            engine.close()
    if failures:
        best.fallback = "; ".join([*([best.fallback] if best.fallback else []), *failures])
    first = best.name == candidates[0].name
    return _explained(best, f"auto: the fastest that {'is installed' if first else 'works'}")


def _load(backend: Backend, bundle: Bundle, device: str, threads: int) -> Engine:
    try:
        module = importlib.import_module(f"{__package__}.{backend.name}")
    except Exception as error:  # a broken library raises more than ImportError
        raise EngineError(
            f"backend {backend.name} cannot be imported ({one_line(error)}): {backend.install}"
        ) from None
    return module.load(bundle, device, threads)


def _explained(engine: Engine, reason: str) -> Engine:
    engine.choice = f"{engine.name} {engine.precision} on {engine.device} ({reason})"
    return engine


def _named(name: str) -> Backend:
    for backend in BACKENDS:
        if backend.name == name:
            if not backend.installed():
                raise EngineError(
                    f"backend {name} is not installed: {backend.install}, or {_use()}"
                )
            return backend
    raise EngineError(f"there is no backend {name!r} in this release: {_use()}")


def _use() -> str:
    return f"use one of {', '.join(['auto', *available_backends()])}"


def _check_device(device: str) -> None:
    kind, colon, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not index.isdigit())):
        raise EngineError(f"there is no device {device!r}: use auto, cpu, cuda or cuda:<index>")


def check_images(images: np.ndarray, multiple: int) -> np.ndarray:
    """Return ``images`` contiguous, after checking that a deployed graph can take them.

    Raises:
        EngineError: not uint8[B, H, W, 3] with H and W multiples of ``multiple``.
    """
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


def promised_outputs(manifest: ModelManifest) -> dict[str, tuple[np.dtype, int]]:
    """Return name -> (type, channels) of the maps that a bundle's graph must give."""
    return {
        name: (dtype, channels)
        for task in manifest.tasks
        for name, dtype, channels in OUTPUTS.get(task, ())
    }


def check_outputs(
    maps: dict[str, np.ndarray], promised: dict[str, tuple[np.dtype, int]], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Return ``maps`` after checking their types and shapes against what was promised.

    Raises:
        EngineError: the graph is not one of this project's, or is broken.
    """
    for name, (dtype, channels) in promised.items():
        shape = images.shape[:3] if channels == 1 else (*images.shape[:3], channels)
        found = maps[name]
        if found.dtype != dtype or found.shape != shape:
            raise EngineError(
                f"the network gives {name} as {found.dtype}{list(found.shape)}, not"
                f" {dtype}{list(shape)}: export the model again"
            )
    return maps


def grey_images(manifest: ModelManifest, batch: int, size: tuple[int, int] | None) -> np.ndarray:
    """Return uint8[batch, H, W, 3] images for a warm-up run."""
    height, width = size or manifest.input_size
    return np.full((batch, height, width, 3), 127, np.uint8)
