# SPDX-License-Identifier: Apache-2.0
"""The rows: what each one changes in the distilled recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Row:
    """One candidate.

    Attributes:
        label: for the table.
        about: redesign or question.
        tasks: None for all three.
        blocks: KRT blocks.
        retrieval: of the shipped network: none or prototypes.
        answers: answer prototypes in the heads.
        crossed: the other tasks' answer weights inform each task's.
        added: retrieval on the tokens: memory, slots, repaired.
        teachers: set of teachers: "" for none, plain, answers, ...
        transfer: how answer weights are distilled: "" not at all, "instead" of the predictions,
            "both".
        loss: weights beside those of the recipe.
        model: options of the network beside those of the recipe.
        decoder: "" as released, or shared.
        knowledge: weight of CE(a, soft assignment of the label).
        start: teachers or row whose weights the network starts from, but for its last layers.
        frozen: parts of the network that keep their weights.
        epochs: 0 for those of the recipe.
        screen: train all but the backbone, which is that of row ``start`` and frozen, so that its
            features of every batch need to be computed only once. A cheap comparison between rows.
    """

    label: str
    about: str = ""
    tasks: tuple[str, ...] | None = None
    blocks: int = 1
    retrieval: str = "none"
    answers: bool = False
    crossed: bool = False
    added: str = ""
    teachers: str = "plain"
    transfer: str = ""
    loss: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    decoder: str = ""
    knowledge: float = 0.3
    start: str = ""
    frozen: tuple[str, ...] = ()
    epochs: int = 0
    screen: bool = False


TASKS = ("segmentation", "depth", "normals")

ROWS: dict[str, Row] = {
    "shipped": Row(
        "as released",
        "the released method",
        retrieval="prototypes",
        loss={"tke": 0.1, "tc": 0.1, "entropy": 0.1},
    ),
    "off": Row("no prototypes, block of self-attention", "off"),
    "off0": Row("no prototypes, no block", "off", blocks=0),
    "answers0": Row(
        "answers, distributions distilled, no block",
        "A",
        blocks=0,
        answers=True,
        teachers="answers",
        transfer="instead",
    ),
    "answers0_both": Row(
        "answers, distributions and predictions distilled, no block",
        "A",
        blocks=0,
        answers=True,
        teachers="answers",
        transfer="both",
    ),
    "answers0_head": Row(
        "answers, plain teachers, no block", "A", blocks=0, answers=True, teachers="plain"
    ),
    "off0_answer_teachers": Row(
        "no prototypes, no block, teachers with answers", "A", blocks=0, teachers="answers"
    ),
    "answers0_crossed": Row(
        "answers that inform each other, no block",
        "A",
        blocks=0,
        answers=True,
        crossed=True,
        teachers="answers",
        transfer="instead",
    ),
    "slots0": Row("slots that read the image, no block", "C", blocks=0, added="slots"),
    "repaired": Row(
        "the paper's retrieval repaired", "E", blocks=1, added="repaired", loss={"tke": 0.1}
    ),
}
ROWS["answers0_shared"] = replace(
    ROWS["answers0"],
    label="answers, one decoder with a block per task",
    about="cost",
    decoder="shared",
)
ROWS["answers0_128"] = replace(
    ROWS["answers0"], label="answers, width 128", about="cost", model={"width": 128}
)
ROWS["answers0_128_shared"] = replace(
    ROWS["answers0_128"],
    label="answers, width 128, one decoder with a block per task",
    decoder="shared",
)
for _task in TASKS:
    ROWS[f"teacher_answers_{_task}"] = Row(
        f"answers on the single-task network: {_task}",
        "A",
        tasks=(_task,),
        answers=True,
        teachers="",
        start="plain",
        frozen=("backbone", "decoders", "krt"),
        epochs=5,
    )
ROWS["single_memory"] = Row(
    "segmentation alone, class memory", "B", tasks=("segmentation",), added="memory", teachers=""
)

ROWS |= {
    f"screen_{name}": replace(
        row,
        label=f"{row.label} (frozen backbone)",
        start="off0",
        frozen=("backbone",),
        epochs=10,
        screen=True,
    )
    for name, row in ROWS.items()
    if row.teachers
}
