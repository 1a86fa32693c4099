# SPDX-License-Identifier: Apache-2.0
"""Prototype knowledge generation (AKG): what task tokens and prototypes learn without any label.

TKE and TC are the paper's (arXiv 2601.07474, as read in ``docs/method.md``); the entropy floor is
ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.methods.krt import PaperMTL, PaperOutput, TaskPrototypes, entropy
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.training.auxiliary.auxiliary_loss import AuxiliaryLoss, Setup, auxiliary_loss
from proto_mtl_ros.training.processes import gathered

_MARGIN = 0.3
"""Of the triplets, in cosine distance."""

_FLOOR = 0.7
"""The affinity's entropy is pushed up below this share of log T."""


def knowledge_embedding(pooled: Tensor, prototypes: TaskPrototypes) -> Tensor:
    """TKE: cross entropy of the affinity of the mean tokens ``pooled`` [B, T, d] against the
    task."""
    affinity = prototypes.affinity(prototypes.similarity(pooled))
    target = torch.arange(pooled.shape[1], device=pooled.device).expand(pooled.shape[0], -1)
    return F.nll_loss(affinity.clamp_min(1e-12).log().flatten(0, 1), target.flatten())


def consistency(pooled: Tensor, margin: float = _MARGIN) -> Tensor:
    """TC: triplet loss in the batch on cosine distances of ``pooled`` [B, T, d]; 0 with B = 1.

    For every anchor (b, t): the farthest (b', t), b' != b, must be nearer by ``margin`` than the
    nearest (b', t'), t' != t.
    """
    frames, tasks, _ = pooled.shape
    if frames < 2 or tasks < 2:
        return pooled.sum() * 0.0
    flat = F.normalize(pooled.flatten(0, 1), dim=-1)
    distance = 1.0 - flat @ flat.t()
    task = torch.arange(tasks, device=pooled.device).repeat(frames)
    same = task[:, None] == task[None, :]
    itself = torch.eye(len(task), dtype=torch.bool, device=pooled.device)
    positive = distance.masked_fill(~same | itself, -1.0).amax(1)
    negative = distance.masked_fill(same, 3.0).amin(1)
    return F.relu(positive - negative + margin).mean()


def entropy_floor(affinity: Tensor, floor: float) -> Tensor:
    """How far the mean entropy of the token-level affinity is below ``floor`` * log T, squared.

    TKE alone is smallest where every affinity is one-hot, and there retrieval gives every token
    of a task the same vector. The floor stops it short of that.

    Args:
        affinity: [B, T, N, T].
        floor: share of log T.
    """
    largest = math.log(max(affinity.shape[-1], 2))
    return F.relu(floor - entropy(affinity).mean() / largest).square()


@auxiliary_loss("tke")
class TaskKnowledgeEmbedding(AuxiliaryLoss):
    """TKE, see ``knowledge_embedding``."""

    title = "TKE"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not isinstance(setup.network, PaperMTL) or setup.network.prototypes is None:
            raise ConfigError("loss.tke needs model.retrieval: prototypes; set it to 0")
        # in a tuple: the prototypes are the network's, not this module's
        self._prototypes = (setup.network.prototypes,)

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        assert isinstance(out, PaperOutput)
        return knowledge_embedding(out.pooled, self._prototypes[0])


@auxiliary_loss("tc")
class TaskConsistency(AuxiliaryLoss):
    """TC, see ``consistency``; the triplets see the frames of all processes."""

    title = "TC"

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        assert isinstance(out, PaperOutput)
        return consistency(gathered(out.pooled))


@auxiliary_loss("entropy")
class EntropyFloor(AuxiliaryLoss):
    """See ``entropy_floor``; the mean is over the frames of all processes."""

    title = "entropy floor"

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        assert isinstance(out, PaperOutput)
        return entropy_floor(gathered(out.affinity), _FLOOR)
