# SPDX-License-Identifier: Apache-2.0
"""Figures of a network that is no bundle yet, on the way that a bundle's network takes.

The predictor of the node does all that lies between the network and maps at the size of the
labels; only the engine differs: it holds the network itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.evaluation.dataset import evaluate
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.prototypes import entropy
from proto_mtl_ros.runtime.backend import Engine
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.manifest import ModelManifest
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.runtime.torch import run_graph
from proto_mtl_ros.training.card import manifest
from proto_mtl_ros.training.config import TrainConfig


class NetworkEngine(Engine):
    """Runs a network that is in memory; see ``runtime.backend.Engine``.

    Attributes:
        entropies: of every picture so far, the mean entropy in nats of its tokens' affinity; stays
            empty for a network without one.
    """

    name = "torch"
    title = "torch"

    def __init__(self, network: ProtoMTL, manifest: ModelManifest) -> None:
        super().__init__(manifest, "cuda:0" if torch.cuda.is_available() else "cpu", "fp32")
        self.entropies: list[float] = []
        self._graph = DeployGraph(network).eval().to(self.device)
        self._hook = network.register_forward_hook(self._record)

    def _record(self, _network: Any, _arguments: Any, out: NetworkOutput) -> None:
        if out.affinity is not None:
            self.entropies += entropy(out.affinity).flatten(1).mean(1).tolist()

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return run_graph(self._graph, images, self.device)

    def _release(self) -> None:
        self._hook.remove()  # the network stays the caller's


def figures(
    config: TrainConfig, network: ProtoMTL, frames: FrameSource
) -> tuple[dict[str, Any], float | None]:
    """Return the figures on ``frames`` at the size of their labels, and the affinity's entropy.

    The figures are ``frames`` and, for every task of the network, its own (None where no pixel was
    valid); the entropy is the mean in nats, None for a network without one.

    Raises:
        DataError: there is no frame, or its classes are not the network's.
    """
    record = manifest(config, network)
    engine = NetworkEngine(network, record)
    predictor = Predictor(Bundle(Path(), record), engine)
    classes = tuple(frames.label_set.classes)
    try:
        samples = (frames[index] for index in range(len(frames)))
        result = evaluate(predictor, samples, classes)
    finally:
        predictor.close()
    values: dict[str, Any] = {"frames": result.frames}
    for task, of_task in result.metrics.items():
        values[task] = {k: None if math.isnan(v) else v for k, v in of_task.items()}
    entropies = engine.entropies
    return values, float(np.mean(entropies)) if entropies else None
