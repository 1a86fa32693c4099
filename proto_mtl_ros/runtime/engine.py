# SPDX-License-Identifier: Apache-2.0
"""The choice of a backend, and the engine that it loads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proto_mtl_ros import plugins
from proto_mtl_ros.errors import EngineError, ProtoMtlError, one_line
from proto_mtl_ros.runtime import onnxruntime, openvino, tensorrt, torch  # noqa: F401 (register)
from proto_mtl_ros.runtime.backend import (
    BACKENDS,
    PRECISIONS,
    Engine,
    EngineNotBuilt,
    EngineOptions,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.cuda import Cuda, CudaError

__all__ = ["PRECISIONS", "Engine", "EngineOptions", "available_backends", "create_engine"]


def available_backends() -> list[str]:
    """Return the installed backends, without importing their libraries."""
    plugins.load()
    return [name for name, backend in BACKENDS.items() if backend.installed()]


def create_engine(
    bundle: Bundle,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 0,
    avoid: str = "",
    **more: Any,
) -> Engine:
    """Load the network of a bundle.

    Args:
        backend: one of ``available_backends()``, or "auto" for the fastest that works.
        device, threads, more: see ``EngineOptions``. A GPU that is asked for and cannot be used is
            replaced by the CPU, and ``engine.fallback`` says why.
        avoid: a backend that "auto" takes only where no other works, as it has failed before.

    Raises:
        EngineNotBuilt: the backend is named, and its engine has to be built first.
        EngineError: an option that cannot be used, a graph that is not what the bundle promises,
            or a bundle that was replaced meanwhile.
    """
    options = EngineOptions(device, threads, **more)
    installed = available_backends()
    if backend == "auto":
        engine = _fastest(bundle, options, installed, avoid)
    elif backend in installed:
        engine = _explained(_load(backend, bundle, options), "as asked for")
    else:
        use = f"use one of {', '.join(['auto', *installed])}"
        if backend in BACKENDS:
            how = BACKENDS[backend].install
            raise EngineError(f"backend {backend} is not installed: {how}, or {use}")
        raise EngineError(f"there is no backend {backend!r} in this release: {use}")
    if not bundle.is_current():  # the graph may be another one's than the classes
        engine.close()
        raise EngineError(f"{bundle.path} was replaced while it was loaded: load it again")
    return engine


def _fastest(bundle: Bundle, options: EngineOptions, installed: list[str], avoid: str) -> Engine:
    if not installed:
        ways = " or ".join(backend.install for backend in BACKENDS.values())
        raise EngineError(f"no inference backend is installed: {ways}")
    failures: list[str] = []
    not_built: EngineNotBuilt | None = None
    for kind in _kinds(options, failures):
        ranked = sorted(
            (name == avoid, rank, name, precision)
            for name in installed
            for (of, precision), rank in BACKENDS[name].ranks.items()
            if of == kind and options.precision in ("auto", precision)
        )
        for _, _, name, precision in ranked:
            if precision == "int8" and not bundle.has_int8:
                continue
            place = f"cuda:{options.gpu}" if kind == "cuda" else "cpu"
            try:
                engine = _load(name, bundle, replace(options, device=place, precision=precision))
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


def _load(name: str, bundle: Bundle, options: EngineOptions) -> Engine:
    try:
        return BACKENDS[name].load(bundle, options)
    except ProtoMtlError:
        raise
    except Exception as error:  # a broken library raises more than ImportError
        raise EngineError(
            f"backend {name} cannot be used ({one_line(error)}): {BACKENDS[name].install}"
        ) from None


def _explained(engine: Engine, reason: str) -> Engine:
    engine.choice = f"{engine.name} {engine.precision} on {engine.device} ({reason})"
    return engine
