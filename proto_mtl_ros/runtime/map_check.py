# SPDX-License-Identifier: Apache-2.0
"""Values in a network's maps that are none: found before anything is made of them.

An overflow in half precision, a damaged model or a faulty device gives NaN, infinity, or ids that
no class has. They are published as invalid (REP-117, 255 for ids), never as measurements, and told.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from proto_mtl_ros.tasks import IGNORE_INDEX


def invalid_shares(
    maps: Mapping[str, np.ndarray], wanted: Set[str], classes: int
) -> dict[str, float]:
    """Return cause -> share of the pixels, 0..1; empty where all is well.

    Args:
        maps: of one picture, at the network's size.
        wanted: names of those that are looked at.
        classes: how many the model has.

    "invalid_depth" and "invalid_normals" are pixels with NaN or infinity, "invalid_class" ids
    beyond the classes. A depth of 0 or less is not: networks say so that there is none. Costs about
    0.05 ms at 192x256.
    """
    shares: dict[str, float] = {}
    for name in ("depth", "normals"):
        if name in wanted and name in maps:
            finite = np.isfinite(maps[name])
            if not finite.all():
                good = finite if finite.ndim == 2 else finite.all(axis=-1)
                shares[f"invalid_{name}"] = 1.0 - float(good.mean())
    if (
        "segmentation" in wanted
        and "segmentation" in maps
        and maps["segmentation"].max() >= classes
    ):
        share = float((maps["segmentation"] >= classes).mean())
        shares["invalid_class"] = share
    return shares


def without_unknown_classes(ids: np.ndarray, classes: int) -> np.ndarray:
    """Return the ids with 255 (unlabelled) for those that no class has."""
    return np.where(ids < classes, ids, np.uint8(IGNORE_INDEX))


def description(cause: str, share: float) -> str:
    """Return what the network gave and what became of it, one line."""
    what, published = {
        "invalid_depth": ("NaN or infinite depth", "NaN"),
        "invalid_normals": ("NaN or infinite normals", "(0, 0, 0)"),
        "invalid_class": ("ids that no class has", "255"),
    }[cause]
    return (
        f"the network gives {what} in {100 * share:.3g} % of its pixels, published as {published}"
    )
