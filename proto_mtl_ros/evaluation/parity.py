# SPDX-License-Identifier: Apache-2.0
"""Do two engines give the same maps? Asked by every export, and by `proto-mtl engine check`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.runtime.engine import Engine

TOLERANCES = {
    "fp32": {"segmentation": 0.002, "confidence": 0.01, "depth": 0.001, "normals": 0.001},
    "fp16": {"segmentation": 0.01, "confidence": 0.02, "depth": 0.01, "normals": 0.01},
    "int8": {"segmentation": 0.06, "confidence": 0.1, "depth": 0.06, "normals": 0.1},
}
"""Precision -> largest accepted disagreement with fp32 by output: see ``compare``; of the maps of
other tasks as of normals. What it costs in accuracy is another question, which ``quantisation``
asks of labels."""


@dataclass
class Parity:
    """Disagreement per output, the mean over all frames.

    Attributes:
        errors: by output.
        precision: of the less exact of the two engines, which says what is allowed.
    """

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
