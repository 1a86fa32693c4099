# SPDX-License-Identifier: Apache-2.0
"""Segmentation, metric depth and surface normals for every pixel of a robot's cameras.

import proto_mtl_ros
predictor = proto_mtl_ros.load("nyu13-lite0")
prediction = predictor(rgb, camera)  # camera: a Camera, a 3 x 3 matrix, degrees across, or None
metres = prediction["depth"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proto_mtl_ros.runtime import Predictor

__version__ = "0.3.0"


def load(
    model: str = "nyu13-lite0",
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    input_size: tuple[int, int] | None = None,
) -> Predictor:
    """Load a model and the engine that runs it.

    Args:
        model: name or folder of a bundle.
        backend, device, precision, threads: of the engine, see ``runtime.create_engine``.
        input_size: (height, width) of the network's input, None for what it was trained for.

    Raises:
        ProtoMtlError: the bundle cannot be read, or its engine cannot be created.
    """
    # here, as those who want the version alone need none of it
    from proto_mtl_ros.runtime import Bundle, Predictor, create_engine

    bundle = Bundle.load(model)
    engine = create_engine(
        bundle, backend, device, threads, precision=precision, input_size=input_size
    )
    return Predictor(bundle, engine, input_size)
