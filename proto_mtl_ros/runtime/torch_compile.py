# SPDX-License-Identifier: Apache-2.0
"""torch with ``torch.compile``: fused kernels, and on a GPU recorded as a CUDA graph.

The first image of each shape takes from half a minute to minutes, and a CPU needs a C++ compiler.
"""

from __future__ import annotations

import torch

from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import EngineOptions
from proto_mtl_ros.runtime.torch import TorchEngine


class TorchCompileEngine(TorchEngine):
    """See ``torch.TorchEngine``."""

    name = "torch-compile"
    title = "torch.compile"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Build the network; it is compiled when it first runs, best in ``warm_up``."""
        super().__init__(bundle, options)
        mode = "default" if self.device == "cpu" else "reduce-overhead"
        self._graph = torch.compile(self._graph, mode=mode, dynamic=False)  # type: ignore[assignment]


def load(bundle: Bundle, options: EngineOptions) -> TorchCompileEngine:
    """Create the engine; see ``engine.create_engine``."""
    return TorchCompileEngine(bundle, options)
