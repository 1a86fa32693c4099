# SPDX-License-Identifier: Apache-2.0
"""A training that plans itself: what is held out, how long it takes, who teaches what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sources
from hypothesis import given
from hypothesis import strategies as st
from small_training import settings

from proto_mtl_ros.training import plan as plan_module
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.held_out import chosen_frames
from proto_mtl_ros.training.plan import Plan, planned

MODEL = Path(__file__).resolve().parents[2] / "models" / "nyu13-lite0"
TASKS = ("segmentation", "depth", "normals")


@given(
    labels=st.lists(st.sets(st.sampled_from(TASKS)), min_size=2, max_size=80),
    shown=st.lists(st.frozensets(st.integers(0, 3)), min_size=80, max_size=80),
)
def test_no_task_gives_more_than_a_fifth_of_its_labels_to_judge_by(labels, shown):
    frames = {f"{index:02d}": tasks for index, tasks in enumerate(labels)}
    held = chosen_frames(frames, dict(zip(frames, shown)))
    assert held == sorted(set(held)) and set(held) < set(frames)
    for task in TASKS:
        own = [frame for frame, tasks in frames.items() if task in tasks]
        judged = len(set(own) & set(held))
        enough = all(len([1 for t in labels if one in t]) >= 5 for one in TASKS)
        assert judged <= len(own) / 5 or (not enough and len(held) == 1)


def test_classes_are_in_both_parts_where_they_can_be_and_blocks_are_of_neighbours():
    frames = {f"{index:02d}": ["segmentation"] for index in range(40)}
    shown = {frame: frozenset({0, 1} if int(frame) in (3, 4) else {0}) for frame in frames}
    held = [int(frame) for frame in chosen_frames(frames, shown)]
    assert len(held) == 6 and len({3, 4} & set(held)) == 1
    alone = {frame: frozenset({0, 1} if frame == "20" else {0}) for frame in frames}
    assert "20" not in chosen_frames(frames, alone)  # else nothing could learn it
    many = {f"{index:03d}": ["depth"] for index in range(1000)}
    held = [int(frame) for frame in chosen_frames(many, {})]
    assert len(held) == 100  # in five blocks
    assert sum(b - a > 1 for a, b in zip(held, held[1:])) == 4


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_seconds_of_a_step", lambda config, source: 1.0)
    monkeypatch.setattr(plan_module, "kind_of", lambda data: "folder")


def _plan(monkeypatch: pytest.MonkeyPatch, frames: sources.Frames, **changes: Any) -> Plan:
    """Return the plan for frames in memory; ``changes`` of a configuration without length."""

    def opened(config: Any, data: Any, split: str, ids: Any = None, manifest: Any = None) -> Any:
        chosen = frames.frame_ids if ids is None else ids
        part = sources.Frames({name: frames.labels[name] for name in chosen}, frames.classes)
        part.tasks = frames.tasks
        return part

    for module in ("plan", "sources"):
        monkeypatch.setattr(f"proto_mtl_ros.training.{module}.open_split", opened)
    config = settings(start_from=str(MODEL), **changes)
    for key in ("epochs", "model", "data", "optimiser"):
        if key not in changes:
            del config[key]
    config.setdefault("data", {}).pop("manifest", None)
    return planned(TrainConfig.model_validate(config), Path("data"))


def _frames(
    *have: tuple[int, tuple[str, ...]], classes: tuple[str, ...] = sources.CLASSES
) -> sources.Frames:
    rows = [tasks for count, tasks in have for _ in range(count)]
    return sources.Frames({f"{i:03d}": tasks for i, tasks in enumerate(rows)}, classes)


@pytest.mark.usefixtures("quick")
def test_ten_masks_are_planned_for_in_one_sentence(monkeypatch):
    frames = _frames((10, ("segmentation",)), (20, ()))
    plan = _plan(monkeypatch, frames)
    assert plan.sentence == (
        "9 masks to learn from, 1 to judge by; nyu13-lite0 teaches depth and normals; the classes"
        " are not those of nyu13-lite0: learnt anew; 600 steps, about 10 min"
    )
    config = plan.config
    assert (config.steps, config.optimiser.warmup_steps, config.start_share) == (600, 50, 0.0)
    assert config.distillation.teachers == dict.fromkeys(("depth", "normals"), str(MODEL))
    assert config.loss.auxiliary["distillation"].weight == 1
    assert plan.warnings == ()
    config.check()
    # written down and read again it is the same run
    again = TrainConfig.model_validate(config.model_dump(mode="json"))
    assert again == config


@pytest.mark.usefixtures("quick")
def test_few_frames_of_depth_leave_the_classes_and_many_are_taught_them(monkeypatch):
    few = _plan(monkeypatch, _frames((40, ("depth",))), optimiser={"freeze_norm": True})
    assert few.sentence.startswith("segmentation stays exactly as it is; 34 depth maps to learn")
    assert few.config.optimiser.frozen_tasks == ("segmentation",)
    assert set(few.config.distillation.teachers) == {"normals"}
    many = _plan(monkeypatch, _frames((400, ("depth",))), optimiser={"freeze_norm": True})
    assert set(many.config.distillation.teachers) == {"segmentation", "normals"}
    assert "nyu13-lite0 teaches segmentation and normals" in many.sentence


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("frames", "changes", "said"),
    [
        (
            _frames((30, ("segmentation",))),
            {"distillation": {"teachers": {}}},
            ["depth has no label and nobody teaches it", "normals has no label"],
        ),
        (
            _frames((30, ("segmentation",)), classes=(*sources.CLASSES, "lamp")),
            {},
            ["class lamp has no pixel to learn from"],
        ),
        (_frames((3, ("segmentation",)), (9, ())), {}, ["too few masks to hold one out"]),
        (
            _frames((30, ("segmentation", "depth", "normals"))),
            {"epochs": 10, "optimiser": {"warmup_steps": 200, "batch": 4}},
            ["70 steps are fewer than three warm-ups of 200"],
        ),
    ],
)
def test_what_cannot_turn_out_well_is_said_before(frames, changes, said, monkeypatch):
    plan = _plan(monkeypatch, frames, **changes)
    assert len(plan.warnings) == len(said)
    assert all(start in warning for start, warning in zip(said, plan.warnings))


@pytest.mark.usefixtures("quick")
def test_what_a_configuration_says_stays(monkeypatch):
    frames = _frames((400, ("segmentation", "depth")))
    changes = {
        "steps": 90,
        "start_share": 0.5,
        "data": {"held_out_blocks": 2, "held_out_length": 3},
        "optimiser": {"batch": 2, "warmup_steps": 7, "freeze_norm": True,
                      "frozen_tasks": ["normals"]},
    }  # fmt: skip
    plan = _plan(monkeypatch, frames, **changes)
    assert (plan.config.steps, plan.config.start_share) == (90, 0.5)
    assert (plan.config.optimiser.batch, plan.config.optimiser.warmup_steps) == (2, 7)
    assert plan.config.data.held_out == () and not plan.config.distillation.teachers
    assert "394 masks to learn from, 6 to judge by" in plan.sentence
    assert "normals stays exactly as it is" in plan.sentence
    # more frames are gone through more often
    assert _plan(monkeypatch, frames).config.steps == 850
