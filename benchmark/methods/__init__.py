# SPDX-License-Identifier: Apache-2.0
"""The rivals, one file each; they register themselves where the parts of the product do."""

from benchmark.methods import (  # noqa: F401
    cross_task,
    gradients,
    joint_task,
    krt,
    prototype_knowledge,
    reconstruction,
    retrievals,
    weightings,
)
