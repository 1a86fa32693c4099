# SPDX-License-Identifier: Apache-2.0
"""The protocol that all inference backends keep, and the choice of one of them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from proto_mtl_ros.errors import (
    EngineError,
    ProtoMtlError,
    one_line,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.cuda import (
    Cuda,
    CudaError,
)
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt

PRECISIONS = ("fp32", "fp16", "int8")
"""Of a network's arithmetic."""


@runtime_checkable
class Engine(Protocol):
    """A loaded network. It belongs to one thread at a time: none of its methods may overlap.

    Attributes:
        name: of the backend.
        device: where it really runs, "cpu" or "cuda:<index>".
        precision: of the arithmetic, for example "fp32".
        choice: why this backend and device, one line for the log.
        fallback: why it is not what was asked for, or None. Worth a warning.
        not_built: a faster engine that has to be built first, or None.
    """

    name: str
    device: str
    precision: str
    choice: str
    fallback: str | None
    not_built: EngineNotBuilt | None

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
class EngineOptions:
    """How a network shall run.

    Attributes:
        device: "cpu", "cuda", "cuda:<index>", or "auto" for a GPU if there is one.
        threads: CPU threads of the network; 0 leaves it to the backend.
        precision: one of ``PRECISIONS``, or "auto" for the fastest that the model has.
        input_size: (height, width) that is going to be used, None for the model's own. Backends
            that build engines build them for it.
        max_batch: most images that are going to be inferred at once.
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


@dataclass(frozen=True)
class Backend:
    """A backend that this release has.

    Attributes:
        name: as users write it.
        module: in this package, imported only when it is used.
        requires: modules of which one must be installed, for each of the tuples.
        install: what to install to get them.
    """

    name: str
    module: str
    requires: tuple[tuple[str, ...], ...]
    install: str

    def installed(self) -> bool:
        """Tell whether its libraries are installed, without importing them."""
        return all(any(map(importlib.util.find_spec, names)) for names in self.requires)


BACKENDS = (
    Backend(
        "tensorrt",
        "tensorrt",
        (("tensorrt", "tensorrt_rtx"),),
        "install TensorRT (JetPack brings it, elsewhere it comes from NVIDIA's package index)",
    ),
    Backend("onnxruntime", "onnxruntime", (("onnxruntime",),), "pip install onnxruntime"),
    Backend(
        "onnxruntime-tensorrt",
        "onnxruntime_tensorrt",
        (("onnxruntime",), ("tensorrt", "tensorrt_libs")),
        "pip install onnxruntime-gpu, with TensorRT of its version",
    ),
    Backend("openvino", "openvino", (("openvino",),), "pip install openvino"),
    Backend("torch", "torch", (("torch",), ("safetensors",)), "pip install torch safetensors"),
    Backend(
        "torch-compile",
        "torch_compile",
        (("torch",), ("safetensors",)),
        "pip install torch safetensors",
    ),
)

FASTEST = {
    "cuda": (
        ("tensorrt", "int8"),
        ("tensorrt", "fp16"),
        ("torch", "fp16"),
        ("onnxruntime", "fp32"),
        ("torch", "fp32"),
    ),
    "cpu": (
        ("openvino", "int8"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("torch", "fp32"),
    ),
}
"""Kind of device -> backend and precision, the fastest first."""


def available_backends() -> list[str]:
    """Return the installed backends. None of them is imported."""
    return [backend.name for backend in BACKENDS if backend.installed()]


def create_engine(
    bundle: Bundle,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 0,
    avoid: str = "",
    **more: Any,
) -> Engine:
    """Load the network of ``bundle``.

    Args:
        bundle: a verified bundle.
        backend: one of ``available_backends()``, or "auto" for the fastest that works.
        device, threads, more: see ``EngineOptions``. A GPU that is asked for and cannot be used is
            replaced by the CPU, and ``engine.fallback`` says why.
        avoid: a backend that "auto" takes only where no other works, as it has failed before.

    Raises:
        EngineNotBuilt: the backend is named, and its engine has to be built first.
        EngineError: an unknown backend, device or precision, one that is not installed, a model
            without a graph of that precision, a graph that is not what the bundle promises, or a
            bundle that was replaced meanwhile.
    """
    options = EngineOptions(device, threads, **more)
    if backend != "auto":
        engine = _explained(_load(_named(backend), bundle, options), "as asked for")
    else:
        engine = _fastest(bundle, options, avoid)
    if not bundle.is_current():  # the graph may be another one's than the classes
        engine.close()
        raise EngineError(f"{bundle.path} was replaced while it was loaded: load it again")
    return engine


def _fastest(bundle: Bundle, options: EngineOptions, avoid: str) -> Engine:
    installed = {backend.name: backend for backend in BACKENDS if backend.installed()}
    if not installed:
        ways = " or ".join(backend.install for backend in BACKENDS)
        raise EngineError(f"no inference backend is installed: {ways}")
    failures: list[str] = []
    not_built: EngineNotBuilt | None = None
    for kind in _kinds(options, failures):
        place = f"cuda:{options.gpu}" if kind == "cuda" else "cpu"
        for name, precision in sorted(FASTEST[kind], key=lambda choice: choice[0] == avoid):
            if name not in installed or options.precision not in ("auto", precision):
                continue
            if precision == "int8" and not bundle.has_int8:
                continue
            wanted = replace(options, device=place, precision=precision)
            try:
                engine = _load(installed[name], bundle, wanted)
            except ProtoMtlError as error:
                failures.append(str(error))
                if isinstance(error, EngineNotBuilt):
                    not_built = error
                continue
            if kind == "cuda" and engine.device == "cpu":
                failures.append(engine.fallback or f"{name} runs on the CPU")
                engine.close()
                continue
            if failures:
                engine.fallback = "; ".join(failures)
            engine.not_built = not_built
            why = "works" if failures else "is installed"
            return _explained(engine, f"auto: the fastest that {why}")
    if failures:
        raise EngineError("no backend can run the model: " + "; ".join(failures))
    remedy = "use precision auto"
    if options.precision == "int8" and not bundle.has_int8:
        remedy = "the model has no such graph; make it with `proto-mtl export --precision int8`"
    raise EngineError(f"no installed backend runs {bundle.name} in {options.precision}: {remedy}")


def _kinds(options: EngineOptions, failures: list[str]) -> list[str]:
    """Return the kinds of devices to try; why not the GPU goes to ``failures`` if it was wanted."""
    if options.device == "cpu":
        return ["cpu"]
    try:
        Cuda(options.gpu)
    except CudaError as error:
        if options.device != "auto":
            failures.append(f"{error}; running on the CPU")
        return ["cpu"]
    return ["cuda", "cpu"]


def _load(backend: Backend, bundle: Bundle, options: EngineOptions) -> Engine:
    try:
        module = importlib.import_module(f"{__package__}.{backend.module}")
    except Exception as error:  # a broken library raises more than ImportError
        raise EngineError(
            f"backend {backend.name} cannot be imported ({one_line(error)}): {backend.install}"
        ) from None
    return module.load(bundle, options)


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
