# SPDX-License-Identifier: Apache-2.0
"""Which TensorRT engine a model needs on this machine, and how it comes to be.

Building takes seconds on a desktop and minutes on a Jetson. It happens in a child process: what
it takes of the GPU and of memory goes with it, a crash of the builder is a line of text, and a node
keeps running on another engine meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from proto_mtl_ros.errors import (
    EngineError,
    one_line,
)
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.runtime.backend import EngineNotBuilt
from proto_mtl_ros.runtime.bundle import (
    ONNX,
    Bundle,
)
from proto_mtl_ros.runtime.engine_cache import (
    EngineCache,
    EngineKey,
)
from proto_mtl_ros.runtime.half import (
    VERSION,
    half_graph,
)
from proto_mtl_ros.runtime.tensorrt_build import (
    PROGRESS,
    BuildRequest,
    installed_library,
    library_version,
)

PRECISIONS = ("fp16", "fp32", "int8")
"""What engines can be built for, the usual one first; int8 where the bundle has its graph."""


@dataclass(frozen=True)
class EnginePlan:
    """One engine: of which model, for which machine, how built.

    Attributes:
        bundle: the model.
        graph: the file of the bundle that is built.
        key: all that the engine depends on.
        request: for the builder; its files are filled in when it builds.
        cache: where engines lie.
    """

    bundle: Bundle
    graph: str
    key: EngineKey
    request: BuildRequest
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
        level: int = 3,
        build_for: str = "",
        cache: EngineCache | None = None,
    ) -> EnginePlan:
        """Plan the engine of a model.

        Args:
            bundle: the model.
            gpu, capability: name and compute capability of the GPU that shall run it.
            precision: one of ``PRECISIONS``.
            size: (height, width) of the input, by default the model's.
            max_batch: largest number of images at once.
            level: how hard the builder optimises, 0 to 5.
            build_for: compute capability to build for where that is not this machine's.
            cache: where engines lie.

        Raises:
            EngineError: TensorRT is not installed, or an argument is not one that it knows.
            BundleError: the bundle has no graph of that precision.
        """
        library = installed_library()
        if library is None:
            raise EngineError(
                "TensorRT is not installed: JetPack brings it, elsewhere it comes from NVIDIA's"
                " package index"
            )
        if precision not in PRECISIONS:
            raise EngineError(f"no TensorRT engine in {precision}: use {', '.join(PRECISIONS)}")
        graph = bundle.graph_path(precision, "tensorrt").name
        if not 1 <= max_batch <= 64 or not 0 <= level <= 5:
            raise EngineError(f"batch {max_batch} is not in 1..64, or level {level} not in 0..5")
        height, width = size or bundle.manifest.input_size
        multiple = bundle.manifest.size_multiple
        if height % multiple or width % multiple or min(height, width) < multiple:
            raise EngineError(f"input size {height} x {width}: use multiples of {multiple}")
        one, most = (1, height, width, 3), (max_batch, height, width, 3)
        request = BuildRequest("", "", library, one, one, most, build_for, level=level)
        key = EngineKey(
            model=bundle.name,
            onnx=bundle.manifest.files[graph],
            library=library_version(library),
            gpu=gpu,
            capability=capability,
            precision=precision,
            shapes=request.shapes,
            options=request.options if precision == "fp32" else f"{request.options} half={VERSION}",
        )
        return cls(bundle, graph, key, request, cache or EngineCache())

    @property
    def path(self) -> Path:
        """Where the engine lies, or would."""
        return self.cache.path(self.key)

    def find(self) -> bytes:
        """Return the engine.

        Raises:
            EngineNotBuilt: with what changed since the last one.
        """
        content = self.cache.find(self.key)
        if content is None:
            raise EngineNotBuilt(self, self.cache.why_missing(self.key))
        return content

    def build(
        self, report: Callable[[float, str], None], stop: Callable[[], bool] = lambda: False
    ) -> Path:
        """Build the engine in a child process and store it; return its path.

        Args:
            report: called with a share of 1 and what is being done.
            stop: asked at every line of progress; true ends the child.

        Raises:
            EngineError: building failed, was stopped, or the engine cannot be stored.
        """
        with ScratchFolder("engine") as folder:
            graph = (self.bundle.path / self.graph).read_bytes()
            if self.key.precision != "fp32":  # what an int8 graph leaves in float is fp16
                report(0.0, "making the fp16 graph")
                graph = half_graph(graph)
            (folder / ONNX).write_bytes(graph)
            request = replace(
                self.request, onnx=str(folder / ONNX), engine=str(folder / "built.engine")
            )
            (folder / "request.json").write_text(request.to_json())
            self._run(folder / "request.json", report, stop)
            return self.cache.store(self.key, (folder / "built.engine").read_bytes())

    def _run(
        self, request: Path, report: Callable[[float, str], None], stop: Callable[[], bool]
    ) -> None:
        command = [sys.executable, "-m", "proto_mtl_ros.runtime.tensorrt_build", str(request)]
        with (
            (request.parent / "errors").open("w+") as errors,
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
            status = child.wait()
            if status:
                errors.seek(0)
                lines = [line for line in errors.read().splitlines() if line.strip()]
                why = lines[-1] if lines else f"the builder ended with status {status}"
                raise EngineError(f"building the engine failed: {one_line(why)}")
