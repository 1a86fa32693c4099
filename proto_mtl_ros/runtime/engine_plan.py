# SPDX-License-Identifier: Apache-2.0
"""Which TensorRT engine a model needs on this machine, and how it comes to be.

Building takes seconds on a desktop and minutes on a Jetson. It happens in a child process: what
it takes of the GPU and of memory goes with it, a crash of the builder is a line of text, and a node
keeps running on another engine meanwhile.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.own_path import module_command
from proto_mtl_ros.runtime.backend import EngineNotBuilt
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine_cache import EngineCache, EngineKey
from proto_mtl_ros.runtime.half import VERSION, half_graph
from proto_mtl_ros.runtime.tensorrt_build import PROGRESS, import_library, installed_library

PRECISIONS = ("fp16", "fp32", "int8")
"""What engines can be built for, the usual one first; int8 where the bundle has its graph."""


@dataclass(frozen=True)
class EnginePlan:
    """One engine: of which model, for which machine, how built."""

    bundle: Bundle
    graph: str  # the file of the bundle that is built
    key: EngineKey
    library: str  # the module that builds it
    build_for: str  # compute capability, where it is not this machine's
    cache: EngineCache

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        gpu: str,
        capability: str,
        precision: str = PRECISIONS[0],
        size: tuple[int, int] | None = None,
        max_batch: int = 1,
        build_for: str = "",
        cache: EngineCache | None = None,
    ) -> EnginePlan:
        """Plan the engine for a GPU of this name and compute capability; size is (height, width).

        EngineError: TensorRT is not installed, or an argument is not one that it knows.
        BundleError: the bundle has no graph of that precision.
        """
        library = installed_library()
        version = import_library(library).__version__
        if precision not in PRECISIONS:
            raise EngineError(f"no TensorRT engine in {precision}: use {', '.join(PRECISIONS)}")
        graph = bundle.graph_path(precision, "tensorrt").name
        if not 1 <= max_batch <= 64:
            raise EngineError(f"batch {max_batch} is not in 1..64")
        height, width = size or bundle.manifest.input_size
        multiple = bundle.manifest.size_multiple
        if height % multiple or width % multiple or min(height, width) < multiple:
            raise EngineError(f"input size {height} x {width}: use multiples of {multiple}")
        options = f"for={build_for or 'own'}"
        key = EngineKey(
            model=bundle.name,
            onnx=bundle.manifest.files[graph],
            library=f"{library} {version}",
            gpu=gpu,
            capability=capability,
            precision=precision,
            shapes=f"1x{height}x{width} {max_batch}x{height}x{width}",
            options=options if precision == "fp32" else f"{options} half={VERSION}",
        )
        return cls(bundle, graph, key, library, build_for, cache or EngineCache())

    @property
    def path(self) -> Path:
        """Where the engine lies, or would."""
        return self.cache.path(self.key)

    def find(self) -> bytes:
        """Return the engine, or raise EngineNotBuilt with what changed since the last one."""
        content = self.cache.find(self.key)
        if content is None:
            raise EngineNotBuilt(self, self.cache.why_missing(self.key))
        return content

    def build(
        self, report: Callable[[float, str], None], stop: Callable[[], bool] = lambda: False
    ) -> Path:
        """Build the engine in a child process and store it; return its path.

        ``report`` gets a share of 1 and what is being done; ``stop`` is asked each time.
        EngineError: building failed, was stopped, or the engine cannot be stored.
        """
        with ScratchFolder("engine") as folder:
            graph = (self.bundle.path / self.graph).read_bytes()
            if self.key.precision != "fp32":  # what an int8 graph leaves in float is fp16
                report(0.0, "making the fp16 graph")
                graph = half_graph(graph)
            onnx, engine = folder / "model.onnx", folder / "built.engine"
            onnx.write_bytes(graph)
            words = (str(onnx), str(engine), self.library, self.key.shapes, self.build_for)
            self._run(words, folder / "errors", report, stop)
            return self.cache.store(self.key, engine.read_bytes())

    @staticmethod
    def _run(
        words: tuple[str, ...],
        log: Path,
        report: Callable[[float, str], None],
        stop: Callable[[], bool],
    ) -> None:
        command = module_command("proto_mtl_ros.runtime.tensorrt_build", *words)
        with (
            log.open("w+") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
        ):
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    if stop():
                        raise EngineError("building the engine was stopped")
                    if line.startswith(PROGRESS):
                        share, _, what = line.removeprefix(PROGRESS).strip().partition(" ")
                        report(float(share), what)
            except BaseException:
                child.kill()
                raise
            if status := child.wait():
                errors.seek(0)
                lines = [line for line in errors.read().splitlines() if line.strip()]
                why = lines[-1] if lines else f"the builder ended with status {status}"
                raise EngineError(f"building the engine failed: {one_line(why)}")
