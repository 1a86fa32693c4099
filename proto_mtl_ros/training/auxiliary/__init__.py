# SPDX-License-Identifier: Apache-2.0
"""What is learnt from beside the labels: one file per idea, found by name."""

from __future__ import annotations

from proto_mtl_ros.training.auxiliary.auxiliary_loss import Term
from proto_mtl_ros.training.auxiliary.cross_task import CrossTask
from proto_mtl_ros.training.auxiliary.distillation import TeacherDistillation
from proto_mtl_ros.training.auxiliary.feature_distillation import FeatureDistillation
from proto_mtl_ros.training.auxiliary.geometry import DepthNormalsGeometry
from proto_mtl_ros.training.auxiliary.joint_task import JointTask
from proto_mtl_ros.training.auxiliary.prototype_knowledge import (
    EntropyFloor,
    TaskConsistency,
    TaskKnowledgeEmbedding,
)
from proto_mtl_ros.training.auxiliary.reconstruction import Reconstruction

TERMS: dict[str, type[Term]] = {
    "tke": TaskKnowledgeEmbedding,
    "tc": TaskConsistency,
    "entropy": EntropyFloor,
    "geometry": DepthNormalsGeometry,
    "distillation": TeacherDistillation,
    "feature_distillation": FeatureDistillation,
    "cross_task": CrossTask,
    "joint_task": JointTask,
    "reconstruction": Reconstruction,
}
"""Name, which is also the key of its weight in ``config.loss``, to the term."""

__all__ = ["TERMS", "Term"]
