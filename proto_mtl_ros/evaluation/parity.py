# SPDX-License-Identifier: Apache-2.0
"""Do two engines give the same maps? Asked by every export before a bundle counts as done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import EngineError
from ..runtime.engine import Engine

TOLERANCE = {"segmentation": 0.002, "confidence": 0.01, "depth": 0.001, "normals": 0.001}
"""Largest accepted disagreement: see ``compare``."""


@dataclass
class Parity:
    """Disagreement per output, the mean over all frames."""

    errors: dict[str, float]

    def lines(self) -> list[str]:
        """Return one line per output: what was found and what is allowed."""
        return [
            f"{name:<13} {error:.2e}  (allowed {TOLERANCE[name]:.0e})"
            for name, error in self.errors.items()
        ]

    def check(self) -> None:
        """Raise EngineError when an output disagrees more than allowed."""
        for name, error in self.errors.items():
            if not error <= TOLERANCE[name]:
                raise EngineError(
                    f"{name} of the exported graph differs from torch by {error:.2e}, more than "
                    f"{TOLERANCE[name]:.0e}; the bundle was not written"
                )


def compare(reference: Engine, other: Engine, images: Iterable[np.ndarray]) -> Parity:
    """Run both engines on uint8 [B, H, W, 3] batches.

    Depth and normals: sum |a - b| / sum |a|. Confidence: the same. Segmentation: the share of
    pixels with another id (an argmax flips where two classes tie).
    """
    error: dict[str, float] = {}
    scale: dict[str, float] = {}
    for batch in images:
        first, second = reference.infer(batch), other.infer(batch)
        for name, a in first.items():
            b = second[name]
            if name == "segmentation":
                error[name] = error.get(name, 0.0) + float((a != b).sum())
                scale[name] = scale.get(name, 0.0) + a.size
            else:
                difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
                error[name] = error.get(name, 0.0) + float(difference.sum())
                scale[name] = scale.get(name, 0.0) + float(np.abs(a.astype(np.float64)).sum())
    return Parity({name: error[name] / max(scale[name], 1e-12) for name in error})
