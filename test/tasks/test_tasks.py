# SPDX-License-Identifier: Apache-2.0
"""Tasks: which pixels of a label count, what the first-class tasks are, and how they are named."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from proto_mtl_ros.geometry import Letterbox
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.tasks import (
    DEPTH,
    IGNORE_INDEX,
    NORMALS,
    NYU13,
    SEGMENTATION,
    TASKS,
    LabelSet,
    Scalar,
    Task,
    TopicSettings,
    View,
    binary,
    named_task,
    segmentation,
    tasks_over,
)

EDGES = binary("edges")


HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("task", "valid", "invalid"),
    [
        (SEGMENTATION, [0, 12], [13, 254, 255]),
        (DEPTH, [1e-3, 80.0], [0.0, -1.0, np.nan, np.inf, -np.inf]),
        # by the norm, not by the sum
        (NORMALS, [[HALF, -HALF, 0], [0, 0, -1]], [[0, 0, 0], [0.1, 0.1, 0.1]]),
        (EDGES, [0, 1], [2, 255]),
    ],
    ids=["segmentation", "depth", "normals", "edges"],
)
def test_which_pixels_of_a_label_count(task: Task, valid: list, invalid: list) -> None:
    label = np.array([[*valid, *invalid]], task.empty_label(1, 1).dtype)
    assert task.valid(label).tolist() == [[True] * len(valid) + [False] * len(invalid)]


@pytest.mark.parametrize("task", [SEGMENTATION, DEPTH, NORMALS, EDGES])
def test_an_empty_label_has_its_size_and_no_valid_pixel(task: Task) -> None:
    label = task.empty_label(3, 5)
    assert label.shape[:2] == (3, 5) and not task.valid(label).any()
    assert label.shape[2:] == ((3,) if task is NORMALS else ())
    assert label.dtype == (np.float32 if task in (DEPTH, NORMALS) else np.uint8)
    if label.dtype == np.uint8:
        assert (label == IGNORE_INDEX).all()


def test_a_task_cannot_be_changed_and_one_without_a_rule_says_so() -> None:
    with pytest.raises(FrozenInstanceError):
        DEPTH.channels = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="abstract"):
        Task("bare", 1, ())  # type: ignore[abstract]
    assert {EDGES: 1}[binary("edges")] == 1


ALL = (*TASKS.values(), EDGES)


def test_topics_are_made_of_maps_by_their_names() -> None:
    rgb = np.full((2, 2, 3), 100, np.uint8)
    maps = {
        "segmentation": np.array([[0, 255], [12, 1]], np.uint8),
        "confidence": np.full((2, 2), 200, np.uint8),
        "depth": np.array([[0.1, 2.0], [np.nan, 20.0]], np.float32),
        "normals": np.full((2, 2, 3), (0, 0, -1), np.float32),
        "edges": np.eye(2, dtype=np.float32),
        "depth_confidence": np.full((2, 2), 90, np.uint8),
        "normals_confidence": np.full((2, 2), 80, np.uint8),
    }
    settings = TopicSettings(np.array(NYU13.palette, np.uint8), 0.5, 10.0)
    made = {
        topic.name: topic.make(maps, rgb, settings) if topic.make else maps[topic.needs[0]]
        for task in ALL
        for topic in task.topics
    }
    assert list(made) == [
        "segmentation/image", "segmentation/confidence", "segmentation/overlay",
        "depth/image", "depth/confidence", "normals/image", "normals/color", "normals/confidence",
        "edges/image",
    ]  # fmt: skip
    assert made["segmentation/confidence"] is maps["confidence"]
    assert made["depth/confidence"] is maps["depth_confidence"]
    assert made["segmentation/overlay"][0].tolist() == [[165, 92, 85], [100] * 3]
    np.testing.assert_array_equal(made["depth/image"], [[-np.inf, 2.0], [np.nan, np.inf]])
    np.testing.assert_array_equal(made["normals/color"], NORMALS.draw(maps["normals"]))
    assert made["edges/image"].tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("task", ALL)
def test_maps_come_to_the_image_and_are_drawn(task: Task) -> None:
    view = View(Letterbox.fit(40, 20, 32, 32))
    maps = {
        m.name: np.ones((32, 32, 3) if m.channels == 3 else (32, 32), m.dtype) for m in task.maps
    }
    fitted = task.fit(maps, frozenset(maps) | {"other"}, view)
    assert {name: one.shape[:2] for name, one in fitted.items()} == dict.fromkeys(maps, (20, 40))
    assert not task.fit(maps, frozenset(), view) and not task.fit({}, frozenset(maps), view)
    drawn = task.draw(fitted[task.name])
    assert drawn.shape == (20, 40, 3) and drawn.dtype == np.uint8 and drawn.any()
    assert not task.invalid(maps)


def test_a_mirrored_label_is_that_of_the_mirrored_image() -> None:
    normals = np.zeros((1, 2, 3), np.float32)
    normals[0, 0] = (0.6, 0.0, -0.8)
    assert NORMALS.mirrored(normals)[0, 1] == pytest.approx([-0.6, 0.0, -0.8])
    assert DEPTH.mirrored(np.array([[1.0, 2.0]])).tolist() == [[2.0, 1.0]]


def test_only_depth_depends_on_the_camera() -> None:
    values = np.array([1.0, 2.0])
    assert DEPTH.from_canonical(values, 4.0).tolist() == [4.0, 8.0]
    assert DEPTH.to_canonical(DEPTH.from_canonical(values, 4.0), 4.0).tolist() == [1.0, 2.0]
    height = Scalar("height", 1, ("abs_err",))
    view = View(Letterbox.fit(2, 2, 2, 2), factor=4.0)
    map_ = np.array([[1.0, np.nan], [-1.0, np.inf]], np.float32)
    for task, metres in ((DEPTH, 4.0), (height, 1.0)):
        fitted = task.fit({task.name: map_}, frozenset({task.name}), view)[task.name]
        np.testing.assert_array_equal(fitted, [[metres, np.nan], [np.nan, np.nan]])
    for task in (SEGMENTATION, NORMALS, EDGES, height):
        assert task.from_canonical(values, 4.0) is values is task.to_canonical(values, 4.0)


def test_another_task_of_classes_has_a_confidence_of_its_own() -> None:
    material = replace(SEGMENTATION, name="material")
    assert [m.name for m in material.maps] == ["material", "material_confidence"]
    assert material.topics[1].needs == ("material_confidence",)


def test_the_first_class_tasks() -> None:
    assert list(TASKS) == ["segmentation", "depth", "normals"]
    assert [task.channels for task in TASKS.values()] == [13, 1, 3]
    assert [task.metrics[0] for task in TASKS.values()] == ["miou", "abs_err", "mean_deg"]
    assert [task.higher_is_better for task in TASKS.values()] == [True, False, False]
    assert DEPTH.unit == "m" and EDGES.higher_is_better


def test_shipped_models_have_the_classes_and_colours_of_the_label_set() -> None:
    bundle = Bundle.load("nyu13-lite0")
    assert tuple(bundle.classes) == NYU13.classes == SEGMENTATION.classes
    assert tuple(map(tuple, bundle.palette)) == NYU13.palette == SEGMENTATION.palette
    assert len(set(NYU13.palette)) == 13


def test_a_label_set_needs_a_colour_for_every_class() -> None:
    with pytest.raises(ValueError, match="label set few: a colour is needed"):
        LabelSet("few", ("a", "b"), ((1, 2, 3),))


def test_tasks_are_found_by_name_over_other_classes() -> None:
    indoor = LabelSet("indoor", ("wall", "floor"), ((1, 2, 3), (4, 5, 6)))
    masks, depth = tasks_over(("segmentation", "depth"), indoor)
    assert masks == segmentation(indoor) and masks.channels == 2 and depth is DEPTH
    assert named_task("normals") is NORMALS
    with pytest.raises(ValueError, match="unknown task 'edges'; there are: segmentation, depth"):
        named_task("edges")
    assert named_task("segmentation") is SEGMENTATION
    assert named_task("segmentation", NYU13.classes) is SEGMENTATION
    assert named_task("depth", ("a",)) is DEPTH
    custom = named_task("segmentation", ("a", "b"))
    assert custom == segmentation(LabelSet("custom", ("a", "b"), ((0, 0, 0),) * 2))
