# SPDX-License-Identifier: Apache-2.0
"""Building a TensorRT engine from a bundle's graph: one path for TensorRT 10.3 to 11 and RTX.

    python -m proto_mtl_ros.runtime.tensorrt_build ONNX ENGINE LIBRARY SHAPES CAPABILITY

The network is strongly typed: the graph itself says what is computed in which precision, and no
builder flag does. Newer releases know no other way, older ones take it too. Building needs no
robot process: it runs in a child, whose lines of progress the parent reads.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import EngineError, ProtoMtlError, one_line
from proto_mtl_ros.files import write_bytes
from proto_mtl_ros.runtime.bundle import INPUT
from proto_mtl_ros.runtime.machine import TENSORRT as LIBRARIES
from proto_mtl_ros.runtime.orphans import end_with_parent

PROGRESS = "progress "
"""Prefix of a line of progress on standard output: a share of 1, then what is done."""

_REMEDY = "JetPack brings it, elsewhere it comes from NVIDIA's package index"


def installed_library() -> str:
    """Return the first of ``LIBRARIES`` that is installed; EngineError without one."""
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is not None:
            return name
    raise EngineError(f"TensorRT is not installed: {_REMEDY}")


def import_library(name: str) -> Any:
    """Return the module of one of ``LIBRARIES``; EngineError, one line, where it cannot be used."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a stub without its libraries raises more than ImportError
        raise EngineError(f"{name} cannot be imported ({one_line(error)}): {_REMEDY}") from None
    if not hasattr(module, "Builder"):
        raise EngineError(f"{name} is installed without its libraries: install it from NVIDIA")
    return module


def build(
    onnx: Path, library: str, shapes: str, capability: str, report: Callable[[float, str], None]
) -> bytes:
    """Build and return a serialised engine; see ``EngineKey`` and ``EnginePlan`` for the words.

    EngineError: the library is missing, does not take the graph, or cannot build it here.
    """
    trt = import_library(library)
    log = logger(trt)
    builder = trt.Builder(log)
    if builder is None:
        raise EngineError(f"{library} cannot start a builder: {log.last}")
    flags = trt.NetworkDefinitionCreationFlag
    wanted = 1 << int(flags.STRONGLY_TYPED)
    # TensorRT 10 asks for this, in 11 it is the only way and has no name any more
    if hasattr(flags, "EXPLICIT_BATCH"):
        wanted |= 1 << int(flags.EXPLICIT_BATCH)
    network = builder.create_network(wanted)
    parser = trt.OnnxParser(network, log)
    report(0.0, "reading the graph")
    if not parser.parse_from_file(str(onnx)):
        why = log.last
        if parser.num_errors:
            error = parser.get_error(0)
            why = f"{error.node_operator()} {error.node_name()}: {error.desc()}"
        raise EngineError(
            f"{library} does not take {onnx.name}: {one_line(why)}; export the model again"
        )
    config = builder.create_builder_config()
    if capability:
        _build_for(trt, config, capability)
    smallest, largest = ((*map(int, part.split("x")), 3) for part in shapes.split())
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, smallest, smallest, largest)
    config.add_optimization_profile(profile)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _progress_monitor(trt, report)
    report(0.05, "building")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{library} could not build the engine: {one_line(log.last)}")
    report(1.0, "built")
    return bytes(memoryview(plan))


def _build_for(trt: Any, config: Any, capability: str) -> None:
    """Choose the GPU generation by its name in the library, such as SM86 for 8.6."""
    name = "SM" + capability.replace(".", "")
    targets = getattr(trt, "ComputeCapability", None)
    if not hasattr(targets, name):
        known = sorted(key for key in getattr(targets, "__members__", {}) if key.startswith("SM"))
        more = f", or for {', '.join(known)}" if known else ""
        raise EngineError(f"this TensorRT builds only for the GPU of the machine{more}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(targets, name), 0)


def logger(trt: Any) -> Any:
    """Return a logger for TensorRT that keeps the last error in ``last`` and says nothing else."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last = "it did not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = message

    return Logger()


def _progress_monitor(trt: Any, report: Callable[[float, str], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Reports the outermost phase; inner ones come and go."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._outer = ""

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = max(1, steps)
            if not parent:
                self._outer = phase

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == self._outer:
                report(0.05 + 0.95 * min(1.0, step / self._steps[phase]), phase)
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


def main(onnx: str, engine: str, library: str, shapes: str, capability: str) -> int:
    """Build; the last line on standard error says why not."""

    def report(share: float, what: str) -> None:
        print(f"{PROGRESS}{share:.3f} {what}", flush=True)

    end_with_parent(signal.SIGKILL)  # a builder at work hears nothing else
    try:
        content = build(Path(onnx), library, shapes, capability, report)
        write_bytes(Path(engine), content, mode=0o600)
    except (ProtoMtlError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
