# SPDX-License-Identifier: Apache-2.0
"""A model that has learnt beside the one it started from: the same frames, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.evaluation.dataset import Evaluation, Tally
from proto_mtl_ros.evaluation.frame_album import apart
from proto_mtl_ros.runtime.predictor import Prediction, Predictor
from proto_mtl_ros.tasks import Task, named_task, tasks_over

YARDSTICKS = {
    "miou": "0.5 is usable, 0.7 good",
    "abs_err": "indoors 0.4 m is usable, 0.2 m good",
    "mean_deg": "30 degrees are usable, 20 good",
}
"""What figures are worth, by the name of the figure."""

_SAME = 0.03
"""Part of a figure by which it may change and count as the same."""

# figure by which a task without labels is compared with what it said before, and what is "kept"
_KEPT = {"segmentation": ("pixel_accuracy", 0.9), "depth": ("rel_err", 0.1),
         "normals": ("mean_deg", 8.0)}  # fmt: skip
_SHOWN = 4
_POOR = 0.3  # mIoU of classes that are new


@dataclass(frozen=True)
class Outcome:
    """What became of a task by one figure; ``before`` is None where the start cannot say."""

    task: str
    figure: str
    before: float | None
    after: float
    verdict: str

    @property
    def yardstick(self) -> str:
        return YARDSTICKS.get(self.figure, "") if self.verdict not in ("kept", "changed") else ""


@dataclass
class BeforeAfter:
    """Figures of both models; ``drift``: of the second against the answers of the first, for tasks
    that no frame has a label of. ``panels`` are the worst frames: a caption, and pictures by head.
    """

    start: str
    reported_on: str
    before: Evaluation = field(default_factory=Evaluation)
    after: Evaluation = field(default_factory=Evaluation)
    drift: Evaluation = field(default_factory=Evaluation)
    panels: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)

    @property
    def outcomes(self) -> list[Outcome]:
        found = []
        for task, figures in self.after.metrics.items():
            figure, after = next(iter(figures.items()))
            before = self.before.metrics.get(task, {}).get(figure)
            found.append(Outcome(task, figure, before, after, _verdict(task, before, after)))
        for task, figures in self.drift.metrics.items():
            if task in _KEPT:
                figure, most = _KEPT[task]
                kept = (figures[figure] >= most) == named_task(task, ("",)).higher_is_better
                word = "kept" if kept else "changed"
                found.append(Outcome(task, figure, None, figures[figure], word))
        return found

    @property
    def verdict(self) -> str:
        """Whether to use it, in words."""
        of = {word: [o.task for o in self.outcomes if o.verdict == word] for word in _WORDS}
        lost, gained = of["worse"] + of["changed"], of["better"] + of["new"]
        if of["poor"]:
            return "segmentation is poor: it needs more masks, or longer training"
        if not self.after.metrics:
            return "nothing judges it: no frame that was not learnt from has a label"
        if lost and gained:
            return (
                f"better in {_and(gained)}, worse in {_and(lost)}: use it where the former counts"
            )
        if lost:
            return f"worse in {_and(lost)}: do not use it"
        if gained:
            return "better: use it"
        return f"no better: {self.start or 'the start'} does as well"

    @property
    def beware(self) -> list[str]:
        """What else is wrong with it, a sentence each."""
        return [
            f"class {name} is never found (IoU 0)"
            for name, iou in self.after.per_class.items()
            if iou == 0
        ]

    def lines(self) -> list[str]:
        """Return all of it as text for a terminal."""
        head = f"{self.start or 'nothing'} before, and after, on {self.reported_on}:"
        rows = [
            f"  {o.task:<13} {o.figure:<15} {_number(o.before):>8} {_number(o.after):>8}"
            f"  {_WORDS[o.verdict]}" + (f" ({o.yardstick})" if o.yardstick else "")
            for o in self.outcomes
        ]
        rows += [f"  {name:<29} {old:>8} {new:>8}" for name, old, new in self.classes()]
        return [head, *rows, *(f"beware: {one}" for one in self.beware), f"verdict: {self.verdict}"]

    def classes(self) -> list[tuple[str, str, str]]:
        """Return the IoU of each class before and after, as text."""
        old = self.before.per_class
        return [
            (f"IoU of {name}", _number(old.get(name)), _number(value))
            for name, value in self.after.per_class.items()
        ]

    def markdown(self) -> str:
        """Return the tables of a model card."""
        rows = [
            [o.task, o.figure, _number(o.before), _number(o.after), _WORDS[o.verdict], o.yardstick]
            for o in self.outcomes
        ] + [["segmentation", name, old, new, "", ""] for name, old, new in self.classes()]
        head = ["task", "figure", self.start or "before", "this model", "", "yardstick"]
        table = [head, ["---"] * len(head), *rows]
        text = "\n".join("| " + " | ".join(row) + " |" for row in table)
        notes = "".join(f"\n\nBeware: {one}." for one in self.beware)
        return f"{text}\n\nVerdict: {self.verdict}.{notes}"


_WORDS = {
    "better": "better",
    "same": "as good",
    "worse": "worse",
    "new": "new",
    "poor": "poor",
    "kept": "kept: against what it said before",
    "changed": "changed: against what it said before",
}


def compare_models(
    before: Predictor | None,
    after: Predictor,
    samples: FrameSource,
    reported_on: str,
    progress: Callable[[int], None] = lambda done: None,
) -> BeforeAfter:
    """Run both models over the frames, which neither has learnt from; None: there is no first."""
    classes, tasks = samples.label_set.classes, after.bundle.manifest.tasks
    found = BeforeAfter(before.bundle.name if before else "", reported_on)
    labelled = {task for frame in samples.frame_ids for task in samples.has(frame)}
    known: list[str] = []
    if before is not None:
        known = [t for t in tasks if t in before.bundle.manifest.tasks]
        if before.bundle.manifest.classes != after.bundle.manifest.classes:
            known = [t for t in known if t != "segmentation"]
    old, new = Tally(known, classes), Tally(tasks, classes)
    drift = Tally([t for t in known if t not in labelled], after.bundle.manifest.classes)
    ranked = []
    for place in range(len(samples)):
        sample = samples[place]
        answer = after.predict(sample.rgb, sample.camera)
        new.add(answer, sample.labels)
        if before is not None:
            first: Any = before.predict(sample.rgb, sample.camera)
            old.add(first, sample.labels)
            drift.add(answer, first)
        error = _error(answer, sample.labels, classes)
        if error is not None:
            ranked.append((error, place))
        progress(place + 1)
    found.before, found.after, found.drift = old.result(), new.result(), drift.result()
    worst = (place for _, place in sorted(ranked, reverse=True))
    for place in apart(worst, _SHOWN, len(samples)):
        sample = samples[place]
        answer = after.predict(sample.rgb, sample.camera)
        first = before.predict(sample.rgb, sample.camera) if before else None
        for task in tasks_over([t for t in tasks if t in sample.labels], samples.label_set):
            name, label = task.name, sample.labels[task.name]
            drawn = {"input": sample.rgb, "label": task.draw(label)}
            if first is not None and name in known:
                drawn["before"] = task.draw(first[name])
            drawn["after"] = task.draw(answer[name])
            drawn["error after"] = error_map(task, answer[name], label)
            found.panels.append((f"{sample.frame_id}, {name}", drawn))
    return found


def _error(answer: Prediction, labels: Mapping[str, Any], classes: tuple[str, ...]) -> float | None:
    """Return how wrong a frame is by the first task that it has a label of."""
    for name in (name for name in answer if name in labels):
        tally = Tally([name], classes)
        tally.add(answer, labels)
        value = next(iter(tally.result().metrics[name].values()))
        if not math.isnan(value):
            return -value if named_task(name, classes).higher_is_better else value
    return None


def error_map(task: Task, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3], black to white: nothing wrong to another class, 45 degrees, or half
    of a distance; dark blue where there is no label."""
    valid = task.valid(label)
    if label.dtype.kind in "ui":
        wrong = (prediction != label).astype(np.float32)
    elif label.ndim == 3:
        cosine = np.clip((prediction * label).sum(-1), -1, 1)
        wrong = np.degrees(np.arccos(cosine)) / 45
    else:
        wrong = np.abs(np.nan_to_num(prediction) - label) / np.where(valid, 0.5 * label, 1)
    grey = (255 * np.clip(np.nan_to_num(wrong), 0, 1)).astype(np.uint8)
    return np.where(valid[..., None], grey[..., None], np.array([0, 0, 90], np.uint8))


def _verdict(task: str, before: float | None, after: float) -> str:
    higher = named_task(task, ("",)).higher_is_better
    if before is None or math.isnan(before):
        return "poor" if higher and after < _POOR else "new"
    gain = (after - before) / max(abs(before), 1e-9) * (1 if higher else -1)
    return "worse" if not gain >= -_SAME else "better" if gain > _SAME else "same"


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def _and(names: list[str]) -> str:
    return " and ".join(names)
