# SPDX-License-Identifier: Apache-2.0
"""From a plan to a model on the robot, and what it is worth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from proto_mtl_ros.evaluation.before_after import BeforeAfter
from proto_mtl_ros.evaluation.learning_report import launch_line, write_learning_report
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.training.config import CONFIG
from proto_mtl_ros.training.export import export_checkpoint
from proto_mtl_ros.training.plan import Plan
from proto_mtl_ros.training.trainer import train

REPORT = "report.html"

Say = Callable[[str], None]


def train_model(
    plan: Plan, data: Path, out: Path, say: Say = print, model: Path | None = None
) -> tuple[Bundle, BeforeAfter]:
    """Train, export to ``model`` (``out``/model), judge, and write ``out``/report.html."""
    say(plan.sentence)
    for warning in plan.warnings:
        say(f"beware: {warning}")
    checkpoint = train(plan.config, data, out)
    if int(os.environ.get("LOCAL_RANK", 0)):  # another process of the same training
        raise SystemExit
    bundle, found = export_checkpoint(
        out / CONFIG, checkpoint, data, model or out / "model", say=lambda line: None
    )
    assert found is not None
    notes = [plan.sentence, *(f"beware: {one}" for one in plan.warnings)]
    write_learning_report(out / REPORT, bundle, found, notes, _curves(out / "tensorboard"))
    for line in found.lines():
        say(line)
    say(f"report: {out / REPORT}")
    say(f"run it: {launch_line(bundle.path.resolve())}")
    return bundle, found


def _curves(events: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the loss and the held-out figures over steps, by what they are."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(events))
    log.Reload()
    tags = [t for t in log.Tags()["scalars"] if t == "loss" or t.startswith("held_out/")]
    return {tag: [(e.step, e.value) for e in log.Scalars(tag)] for tag in tags}
