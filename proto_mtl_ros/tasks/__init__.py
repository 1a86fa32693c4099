# SPDX-License-Identifier: Apache-2.0
"""The tasks: what they are, which pixels of a label count, how their maps are fitted and shown."""

from __future__ import annotations

from collections.abc import Iterable

from proto_mtl_ros import plugins
from proto_mtl_ros.tasks.binary import Binary, binary
from proto_mtl_ros.tasks.depth import DEPTH, Scalar
from proto_mtl_ros.tasks.normals import NORMALS, UnitVector
from proto_mtl_ros.tasks.segmentation import (
    NYU13,
    SEGMENTATION,
    Categorical,
    LabelSet,
    segmentation,
)
from proto_mtl_ros.tasks.task import (
    IGNORE_INDEX,
    Metric,
    OutputMap,
    ResultTopic,
    Task,
    TopicSettings,
    View,
)

TASKS: dict[str, Task] = {task.name: task for task in (SEGMENTATION, DEPTH, NORMALS)}
"""The tasks in the order in which a network predicts them; plugins add to them when they load."""


def register_task(task: Task) -> Task:
    """Add a task under its name; a module that a plug-in names calls this when imported."""
    TASKS[task.name] = task
    return task


def known_tasks() -> dict[str, Task]:
    """Return the tasks there are by name, those of plugins last."""
    plugins.load()
    return TASKS


def named_task(name: str, classes: tuple[str, ...] = ()) -> Task:
    """Return the task ``name``, a categorical one over ``classes`` if they are given.

    ValueError: there is no such task.
    """
    if name not in known_tasks():
        raise ValueError(f"unknown task {name!r}; there are: {', '.join(TASKS)}")
    task = TASKS[name]
    if isinstance(task, Categorical) and classes and classes != task.classes:
        return task.over(classes)
    return task


def tasks_over(names: Iterable[str], label_set: LabelSet) -> tuple[Task, ...]:
    """Return the tasks ``names``, the segmentation over ``label_set``; ValueError as above."""
    return tuple(
        segmentation(label_set) if name == "segmentation" else named_task(name) for name in names
    )


__all__ = [
    "DEPTH",
    "IGNORE_INDEX",
    "NORMALS",
    "NYU13",
    "SEGMENTATION",
    "TASKS",
    "Binary",
    "Categorical",
    "LabelSet",
    "Metric",
    "OutputMap",
    "ResultTopic",
    "Scalar",
    "Task",
    "TopicSettings",
    "UnitVector",
    "View",
    "binary",
    "known_tasks",
    "named_task",
    "register_task",
    "segmentation",
    "tasks_over",
]
