# SPDX-License-Identifier: Apache-2.0
"""What is learnt from beside the labels: one file per idea, found by name."""

from proto_mtl_ros.training.auxiliary import (  # noqa: F401  they register themselves
    answers,
    distillation,
    geometry,
    surface,
)
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    AUXILIARY_LOSSES,
    AuxiliaryLoss,
    Options,
    Setup,
    auxiliary_loss,
    auxiliary_losses,
)

__all__ = [
    "AUXILIARY_LOSSES",
    "AuxiliaryLoss",
    "Options",
    "Setup",
    "auxiliary_loss",
    "auxiliary_losses",
]
