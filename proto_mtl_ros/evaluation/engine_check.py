# SPDX-License-Identifier: Apache-2.0
"""Engines against a reference: what they compute, and in what time."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np

from proto_mtl_ros.errors import EngineError, ProtoMtlError, one_line
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import PRECISIONS, Engine, available_backends, create_engine
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt

TOLERANCES = {
    "fp32": {"segmentation": 0.002, "confidence": 0.01, "depth": 0.001, "normals": 0.001},
    "fp16": {"segmentation": 0.01, "confidence": 0.02, "depth": 0.01, "normals": 0.01},
    "int8": {"segmentation": 0.06, "confidence": 0.1, "depth": 0.06, "normals": 0.1},
}
"""Precision -> largest accepted disagreement with fp32 by output: see ``compare``; of the maps of
other tasks as of normals. What it costs in accuracy is another question, which ``quantisation``
asks of labels."""

REFERENCE = "onnxruntime"
"""In fp32 on the CPU; every machine has it."""

BATCHES = (1, 4)
"""Images at once; of the last batch those that are left over are not looked at."""

_TIMED = 30


@dataclass
class Parity:
    """Disagreement per output, the mean over all frames; ``precision`` is that of the less exact
    of the two engines, which says what is allowed."""

    errors: dict[str, float]
    precision: str = "fp32"

    def allowed(self, output: str) -> float:
        """Return the largest accepted error of an output."""
        own = TOLERANCES[self.precision]
        return own.get(output, own["normals"])

    def lines(self) -> list[str]:
        """Return one line per output: what was found and what is allowed."""
        return [
            f"{name:<13} {error:.2e}  (allowed {self.allowed(name):.0e})"
            for name, error in self.errors.items()
        ]

    def problem(self) -> str | None:
        """Say which output disagrees more than allowed, None when none does."""
        for name, error in self.errors.items():
            if not error <= self.allowed(name):
                return f"{name} differs by {error:.2e}, more than {self.allowed(name):.0e}"
        return None

    def check(self) -> None:
        """Raise EngineError when an exported graph disagrees with torch more than allowed."""
        problem = self.problem()
        if problem is not None:
            raise EngineError(
                f"the exported graph is not what torch computes: {problem}; the bundle was not"
                " written"
            )


def compare(reference: Engine, other: Engine, images: Iterable[np.ndarray]) -> Parity:
    """Run both engines on uint8 [B, H, W, 3] batches.

    sum |a - b| / sum |a|; segmentation: the share of pixels with another id (an argmax flips where
    two classes tie).
    """
    error: dict[str, float] = defaultdict(float)
    scale: dict[str, float] = defaultdict(float)
    for batch in images:
        first, second = reference.infer(batch), other.infer(batch)
        for name, a in first.items():
            ids = name == "segmentation"
            difference = np.abs(a.astype(np.float64) - second[name].astype(np.float64))
            error[name] += float((difference > 0).sum() if ids else difference.sum())
            scale[name] += float(a.size if ids else np.abs(a.astype(np.float64)).sum())
    errors = {name: error[name] / max(scale[name], 1e-12) for name in error}
    return Parity(errors, other.precision)


@dataclass(frozen=True)
class CheckedEngine:
    """What became of one engine that was asked for.

    ``device`` is "" where it did not run, ``milliseconds`` the median of a call. ``problem`` says
    why it did not run, or what differs more than allowed.
    """

    backend: str
    precision: str
    batch: int
    device: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    milliseconds: float | None = None
    problem: str | None = None

    @property
    def ran(self) -> bool:
        """Whether it ran at all."""
        return bool(self.device)


def check_engines(
    bundle: Bundle,
    images: Sequence[np.ndarray],
    backends: Sequence[str] | None = None,
    device: str = "auto",
    build: Callable[[EngineNotBuilt], object] = lambda missing: missing.plan.build(
        lambda share, what: None
    ),
) -> Iterator[CheckedEngine]:
    """Yield the result of every backend, precision and batch that can be asked for here.

    ``images`` are uint8 [1, H, W, 3] as the network sees them, all of one size; ``backends`` None
    stands for all that are installed. An engine on another device counts as not having run.
    ``build`` is called for one that has to be built first.
    """
    reference = create_engine(bundle, REFERENCE, "cpu", precision="fp32")
    size = (images[0].shape[1], images[0].shape[2])
    batches = [count for count in BATCHES if count <= len(images)]
    for asked in product(backends or available_backends(), PRECISIONS, batches):
        backend, precision, batch = asked
        load = partial(
            create_engine, bundle, backend, device,
            precision=precision, input_size=size, max_batch=batch,
        )  # fmt: skip
        try:
            try:
                engine = load()
            except EngineNotBuilt as missing:
                build(missing)
                engine = load()
            yield _checked(asked, engine, reference, images, device)
        except ProtoMtlError as error:
            yield CheckedEngine(*asked, problem=one_line(error, 400))
    reference.close()


def _checked(
    asked: tuple[str, str, int],
    engine: Engine,
    reference: Engine,
    images: Sequence[np.ndarray],
    device: str,
) -> CheckedEngine:
    try:
        if device.startswith("cuda") and engine.device == "cpu":
            return CheckedEngine(*asked, problem=engine.fallback or "it runs on the CPU alone")
        batch = asked[2]
        whole = len(images) - len(images) % batch
        stacked = [np.concatenate(images[i : i + batch]) for i in range(0, whole, batch)]
        engine.warm_up(batch, images[0].shape[1:3])
        parity = compare(reference, engine, stacked)
        times = []
        for number in range(_TIMED):
            start = time.perf_counter()
            engine.infer(stacked[number % len(stacked)])
            times.append(1e3 * (time.perf_counter() - start))
        median, problem = statistics.median(times), parity.problem()
        return CheckedEngine(*asked, engine.device, parity.errors, median, problem)
    finally:
        engine.close()
