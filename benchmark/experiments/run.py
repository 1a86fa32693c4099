# SPDX-License-Identifier: Apache-2.0
"""Train one row with one seed and write its figures.

python -m benchmark.experiments.run --row answers0 --seed 0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmark.experiments.data import HeldOut, held_out, recipe
from benchmark.experiments.networks import Candidate
from benchmark.experiments.rows import ROWS, TASKS, Row
from benchmark.experiments.training import Training, folder, trained
from benchmark.run import figures
from proto_mtl_ros.tasks import NYU13

RESULTS = Path(__file__).parent / "results"
MAIN = {"segmentation": ("miou", 1), "depth": ("abs_err", -1), "normals": ("mean_deg", -1)}


def delta(figures_: dict[str, Any], base: dict[str, Any]) -> float:
    """Return the mean signed relative change in percent against ``base``."""
    tasks = [task for task in TASKS if task in figures_]
    change = [MAIN[t][1] * (figures_[t][MAIN[t][0]] / base[t][MAIN[t][0]] - 1) for t in tasks]
    return 100 * sum(change) / len(change)


def baseline(seed: int) -> dict[str, Any]:
    """Return the figures of the single-task networks of a seed."""
    found = {}
    for task in TASKS:
        path = RESULTS / f"single_{task}-seed{seed}.json"
        if not path.is_file():
            _write(path, f"single_{task}", seed, trained("plain", task, seed), (task,), {})
        found |= json.loads(path.read_text())["figures"]
    return found


def measured(network: Any, seed: int, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures of a network on the held-out frames."""
    row = ROWS["off"] if len(tasks) > 1 else Row("", tasks=tasks, teachers="")
    config = recipe(row, seed)
    return figures(config, network, HeldOut(held_out(config), NYU13))[0]  # type: ignore[arg-type]


class Share:
    """Share of the variance, over positions and frames, that is of what is retrieved."""

    def __init__(self, network: Candidate) -> None:
        self.network = network
        self.sums: dict[str, list[torch.Tensor]] = {}
        self.hook = network.register_forward_hook(self._look)

    def _look(self, _module: Any, _arguments: Any, out: Any) -> None:
        for name, both in self.network.retrievals(out).items():
            for kind, x in zip(("retrieved", "total"), both):
                flat = x.detach().transpose(0, 1).flatten(1).double()
                add = [torch.tensor(float(flat.shape[1])), flat.sum(1), flat.square().sum(1)]
                key = f"{name}/{kind}"
                before = self.sums.get(key)
                self.sums[key] = add if before is None else [a + b for a, b in zip(before, add)]

    def result(self) -> dict[str, float]:
        """Return the share in percent by task."""
        self.hook.remove()
        variance = {
            key: float((square / n - (total / n).square()).sum())
            for key, (n, total, square) in self.sums.items()
        }
        names = {key.split("/")[0] for key in variance}
        return {n: 100 * variance[f"{n}/retrieved"] / variance[f"{n}/total"] for n in names}


def _write(
    path: Path, name: str, seed: int, network: Any, tasks: tuple[str, ...], more: dict[str, Any]
) -> dict[str, Any]:
    content = {
        "row": name,
        "seed": seed,
        "figures": measured(network, seed, tasks),
        "parameters": sum(p.numel() for p in network.parameters()),
        **more,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return content


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--row", required=True, choices=sorted(ROWS))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--teacher-seed", type=int, help="of the teachers; that of the run if left out"
    )
    arguments = parser.parse_args()
    name, seed = arguments.row, arguments.seed
    teacher_seed = seed if arguments.teacher_seed is None else arguments.teacher_seed
    row, path = ROWS[name], RESULTS / f"{name}-seed{seed}.json"
    place = folder(name, seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not (place / "network.pt").is_file():
        Training(name, row, seed, teacher_seed).go(lambda line: print(line, flush=True))
    if path.is_file():
        return
    network = trained(name, (row.tasks or TASKS)[0], seed)
    tasks = row.tasks or TASKS
    share = Share(network)
    base = baseline(teacher_seed)
    more: dict[str, Any] = {
        "teacher_seed": teacher_seed,
        "minutes": float((place / "seconds.txt").read_text()) / 60,
    }
    content = _write(path, name, seed, network, tasks, more)
    content["delta"] = delta(content["figures"], base)
    content["retrieval_share"] = share.result()
    if content["retrieval_share"]:
        network.set_flat(True)
        content["flat"] = measured(network, seed, tasks)
        content["retrieval_effect"] = content["delta"] - delta(content["flat"], base)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(name, seed, {k: v for k, v in content.items() if k != "flat"}, flush=True)


if __name__ == "__main__":
    main()
