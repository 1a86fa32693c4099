# SPDX-License-Identifier: Apache-2.0
"""Train single-task networks, the baseline and the teachers, with the stock trainer.

    python -m benchmark.experiments.teachers --seed 1 [--task depth]

A run that was ended is continued from its last epoch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from benchmark.experiments.data import DATA, KEPT, recipe
from benchmark.experiments.rows import ROWS, TASKS
from proto_mtl_ros.training.trainer import train


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--task", choices=TASKS)
    arguments = parser.parse_args()
    for task in [arguments.task] if arguments.task else TASKS:
        place = KEPT / "teachers" / "plain" / f"{task}-seed{arguments.seed}"
        done = place / "done"
        if not done.is_file():
            row = replace(ROWS["off"], tasks=(task,), teachers="")
            config = recipe(row, arguments.seed).model_copy(update={"validations": 1})
            train(config, DATA, place)
            done.touch()


if __name__ == "__main__":
    main()
