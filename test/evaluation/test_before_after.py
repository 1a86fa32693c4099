# SPDX-License-Identifier: Apache-2.0
"""A model beside the one it started from: figures, the verdict in words, and the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sources

from proto_mtl_ros.evaluation.before_after import BeforeAfter, compare_models, error_map
from proto_mtl_ros.evaluation.learning_report import write_learning_report
from proto_mtl_ros.tasks import NYU13, TASKS

TASK_NAMES = ("segmentation", "depth", "normals")


class Model:
    """Answers with the truth of ``sources.Frames``, its depth times a factor."""

    def __init__(self, factor: float = 1.0, ids: int | None = None, classes: Any = sources.CLASSES):
        training = SimpleNamespace(data="own frames")
        palette = ((1, 2, 3),) * len(classes)
        manifest = SimpleNamespace(
            tasks=TASK_NAMES, classes=classes, palette=palette, training=training
        )
        self.bundle: Any = SimpleNamespace(name="start", manifest=manifest, path=Path("models/own"))
        self.factor, self.ids = factor, ids
        self.frames = sources.Frames(dict.fromkeys("abcdefghijkl", TASK_NAMES))

    def predict(self, rgb: np.ndarray, camera: Any) -> Mapping[str, np.ndarray]:
        place = next(i for i in range(12) if np.array_equal(sources.picture(i), rgb))
        labels = dict(self.frames[place].labels)
        labels["depth"] = labels["depth"] * (self.factor if place < 9 else 1.5 * self.factor)
        if self.ids is not None:
            labels["segmentation"] = np.full_like(labels["segmentation"], self.ids)
        return labels


def compared(before: Any, after: Any, *tasks: str) -> BeforeAfter:
    frames = sources.Frames(dict.fromkeys("abcdefghijkl", tasks))
    return compare_models(before, after, frames, "12 frames held out of training")


@pytest.mark.parametrize(
    ("before", "after", "tasks", "verdict", "words"),
    [
        (Model(1.3), Model(1.1), ["depth"], "better: use it", ["better"]),
        (Model(1.1), Model(1.3), ["depth"], "worse in depth: do not use it", ["worse"]),
        (Model(1.1), Model(1.101), ["depth"], "no better: start does as well", ["as good"]),
        (Model(), Model(1.3), ["segmentation"], "worse in depth: do not", ["as good", "changed"]),
        (
            Model(1.3, ids=1), Model(1.1, ids=0), ["segmentation", "depth"],
            "no better|better in depth, worse in segmentation|better: use it", ["better"],
        ),
        (Model(1.1, classes=NYU13.classes), Model(1.1, ids=0), ["segmentation"],
         "segmentation is poor", ["poor", "kept"]),
        (None, Model(), ["segmentation"], "better: use it", ["new"]),
        (Model(), Model(), [], "nothing judges it", ["kept"]),
    ],
)  # fmt: skip
def test_the_verdict_is_in_words(before, after, tasks, verdict, words):
    found = compared(before, after, *tasks)
    assert re.match(verdict, found.verdict)
    assert {*words} <= {outcome.verdict for outcome in found.outcomes}
    text = "\n".join(found.lines())
    assert f"verdict: {found.verdict}" in text and f"Verdict: {found.verdict}." in found.markdown()
    if after.ids is not None and "segmentation" in tasks:
        assert "beware: class wall is never found (IoU 0)" in text
    if "depth" in tasks:
        assert "indoors 0.4 m is usable" in text


def test_the_page_shows_the_worst_frames_apart_and_how_to_run_it(tmp_path):
    found = compared(Model(1.3), Model(1.1), "segmentation", "depth")
    captions = [caption for caption, _ in found.panels]
    assert len(captions) == 8 and captions[0].endswith(", segmentation")
    after = Model(1.1)
    curves = {"loss": [(0, 2.0), (50, 1.0)], "held_out/depth/abs_err": [(50, 0.4)]}
    write_learning_report(tmp_path / "report.html", after.bundle, found, ["9 masks <b>"], curves)
    page = (tmp_path / "report.html").read_text()
    for text in ("better: use it", "9 masks &lt;b&gt;", "perception.launch.py model:=./", ">step<",
                 "IoU of wall", "error after"):  # fmt: skip
        assert text in page
    text = re.sub('base64,[^"]*', "", page)
    assert not re.search(r"\bnan\b", text) and "http" not in text


def test_error_maps_are_white_where_it_is_all_wrong():
    label = np.array([[2.0, 2.0, 0.0]], np.float32)
    drawn = error_map(TASKS["depth"], np.array([[2.0, 3.0, 1.0]], np.float32), label)
    assert drawn.tolist() == [[[0, 0, 0], [255, 255, 255], [0, 0, 90]]]
    normal = np.array([[[0, 0, -1], [0, 0, 0]]], np.float32)
    turned = np.array([[[0, -1, 0], [0, 0, -1]]], np.float32)
    drawn = error_map(TASKS["normals"], turned, normal)
    assert drawn.tolist() == [[[255, 255, 255], [0, 0, 90]]]
    ids = np.array([[1, 2, 255]], np.uint8)
    drawn = error_map(TASKS["segmentation"], np.array([[1, 3, 1]], np.uint8), ids)
    assert drawn[..., 0].tolist() == [[0, 255, 0]]


def test_frames_without_labels_are_no_worst_frames():
    found = compared(Model(), Model())
    assert found.panels == [] and found.after.metrics == {}
