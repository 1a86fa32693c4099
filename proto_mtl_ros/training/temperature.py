# SPDX-License-Identifier: Apache-2.0
"""The temperature that makes confidence honest.

Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML 2017: one scalar
that divides the logits, fitted by the likelihood of frames that were not trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional as F

from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.tasks import IGNORE_INDEX

_PIXELS_PER_FRAME = 2000


@torch.no_grad()
def fit_temperature(
    network: ProtoMTL, batches: Iterable[dict[str, Any]], seed: int, otherwise: float = 1.0
) -> float:
    """Return the temperature with the smallest cross entropy on labelled pixels.

    The same stride-4 logits are used that the deployed graph takes its confidence from. Returns
    1.0 when there is no segmentation.

    Args:
        batches: of ``training.frames.evaluation_loader``: held-out frames.
        seed: of the choice of pixels.
        otherwise: what to return when no pixel is labelled: that of the model it started from.
    """
    if "segmentation" not in network.names:
        return 1.0
    generator = torch.Generator().manual_seed(seed)
    logits, targets = [], []
    for batch in batches:
        raw = network(network.normalise(batch["image"])).raw["segmentation"].permute(0, 2, 3, 1)
        # the pixel of the label that lies at the centre of each stride-4 cell
        for scores, label in zip(
            raw.flatten(1, 2), batch["segmentation"][:, 2::4, 2::4].flatten(1)
        ):
            chosen = torch.nonzero(label != IGNORE_INDEX).squeeze(1)
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[:_PIXELS_PER_FRAME]]
            logits.append(scores[chosen])
            targets.append(label[chosen].long())
    if not sum(map(len, targets)):
        return otherwise
    all_logits, all_targets = torch.cat(logits), torch.cat(targets)
    candidates = torch.logspace(-0.5, 0.7, 121)
    losses = [float(F.cross_entropy(all_logits / t, all_targets)) for t in candidates]
    return round(float(candidates[int(torch.tensor(losses).argmin())]), 4)
