# SPDX-License-Identifier: Apache-2.0
"""Every engine that a machine has, run on real pictures and held against one that is trusted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np

from proto_mtl_ros.errors import ProtoMtlError, one_line
from proto_mtl_ros.evaluation.parity import compare
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import PRECISIONS, Engine, available_backends, create_engine
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt

REFERENCE = "onnxruntime"
"""In fp32 on the CPU; every machine has it."""

BATCHES = (1, 4)
"""Images at once; of the last batch those that are left over are not looked at."""

_TIMED = 30


@dataclass(frozen=True)
class CheckedEngine:
    """What became of one engine.

    Attributes:
        backend, precision, batch: what was asked for.
        device: where it ran, "" where it did not.
        errors: by output, see ``parity.compare``.
        milliseconds: of a call, the median; None where it did not run.
        problem: why it did not run, or what differs more than allowed; None when all is well.
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

    Args:
        images: uint8 [1, H, W, 3] as the network sees them, all of one size.
        backends: names of those to check, None for all that are installed.
        device: that they shall run on; another one counts as not having run.
        build: called for an engine that has to be built first.
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
