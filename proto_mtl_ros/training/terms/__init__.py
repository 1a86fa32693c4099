# SPDX-License-Identifier: Apache-2.0
"""What is learnt from beside the labels: one file per idea, found by name."""

from __future__ import annotations

from .cross_task import CrossTask
from .distillation import TeacherDistillation
from .feature_distillation import FeatureDistillation
from .geometry import DepthNormalsGeometry
from .joint_task import JointTask
from .prototype_knowledge import EntropyFloor, TaskConsistency, TaskKnowledgeEmbedding
from .reconstruction import Reconstruction
from .term import Term

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
