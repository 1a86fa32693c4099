# SPDX-License-Identifier: Apache-2.0
"""D: does a memory in a teacher's space add to the teacher's own head? Offline, no training.

256 k-means centres of what the single-task network sees in its labelled training frames; the value
of a centre is the mean of the labels there. On the held-out frames the retrieved value is mixed
into the head's prediction. Temperature and share of the mixture are chosen on one half of the
held-out blocks and judged on the other, and the other way round; the best of all on all frames is
printed as well, as a bound.

    python -m benchmark.experiments.offline_memory --seed 0 --task depth
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.experiments.data import DATA, frames_of, recipe
from benchmark.experiments.rows import ROWS
from benchmark.experiments.training import trained
from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.training.frames import whole_frames
from proto_mtl_ros.training.sources import split_frames
from proto_mtl_ros.training.trainer import held_out_store

CENTRES, TEMPERATURES, SHARES = 256, (0.02, 0.05, 0.1, 0.2), (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
RESULTS = Path(__file__).parent / "results"


def _see(network: Any, store: Any, config: Any, indices: list[int], task: str) -> Any:
    """Return head features h and tokens, raw predictions and labels of frames, at stride 4."""
    kept: dict[str, list[Tensor]] = {"h": [], "tokens": [], "raw": [], "label": [], "factor": []}
    head = network.heads[0]
    seen: list[Tensor] = []
    hook = head.predict.register_forward_pre_hook(lambda _m, a: seen.append(a[0]))
    with torch.no_grad():
        for start in range(0, len(indices), 8):
            batch = whole_frames(store, config, indices[start : start + 8])
            out = network(network.normalise(batch["image"]))
            kept["h"].append(seen.pop())
            kept["tokens"].append(upsample(out.features[task], 4))
            kept["raw"].append(out.raw[task])
            kept["label"].append(batch[task])
            kept["factor"].append(batch["depth_factor"])
    hook.remove()
    return {name: torch.cat(values) for name, values in kept.items()}


def _value(task: str, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels at stride 4 as what is averaged, [n, h, w, C], and where there is one."""
    label = label[:, 2::4, 2::4]
    if task == "segmentation":
        valid = label < 13
        return F.one_hot(torch.where(valid, label, 0).long(), 13).float(), valid
    if task == "depth":
        valid = torch.isfinite(label) & (label > 0)
        return torch.where(valid, label, 1.0).float().log()[..., None], valid
    return label.float(), label.square().sum(-1) > 0.25


def _k_means(x: Tensor, rounds: int = 15) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = x[torch.randperm(len(x), generator=generator)[:CENTRES]]
    for _ in range(rounds):
        place = (x @ F.normalize(centres, dim=1).t()).argmax(1)
        total = torch.zeros_like(centres).index_add_(0, place, x)
        empty = total.square().sum(1) == 0
        total[empty] = x[torch.randint(len(x), (int(empty.sum()),), generator=generator)]
        centres = F.normalize(total, dim=1)
    return centres


def _error(task: str, prediction: Tensor, label: Tensor, factor: Tensor) -> np.ndarray:
    """Return what is summed for the metric, per frame."""
    large = F.interpolate(prediction, label.shape[1:3], mode="bilinear", align_corners=False)
    if task == "segmentation":
        rows = []
        for p, t in zip(large.argmax(1), label.long()):
            valid = t < 13
            rows.append(torch.bincount(t[valid] * 13 + p[valid], minlength=169).numpy())
        return np.stack(rows)
    if task == "depth":
        valid = torch.isfinite(label) & (label > 0)
        error = (large[:, 0].exp() - label).abs() * factor[:, None, None]
    else:
        valid = label.square().sum(-1) > 0.25
        cosine = F.cosine_similarity(large.permute(0, 2, 3, 1), label.float(), dim=-1)
        error = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    total = torch.where(valid, error, 0).flatten(1).sum(1)
    return torch.stack([total, valid.flatten(1).sum(1).float()], 1).numpy()


def _figure(task: str, sums: np.ndarray) -> float:
    total = sums.sum(0)
    if task != "segmentation":
        return float(total[0] / total[1])
    c = total.reshape(13, 13).astype(float)
    union = c.sum(0) + c.sum(1) - np.diag(c)
    return float(np.mean(np.diag(c)[union > 0] / union[union > 0]))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", required=True)
    arguments = parser.parse_args()
    task, seed = arguments.task, arguments.seed
    torch.set_num_threads(1)
    config = recipe(ROWS[f"teacher_answers_{task}"], seed)
    store = frames_of(config)
    column = [t.name for t in store.tasks].index(task)
    labelled = torch.nonzero(store.labelled[:, column]).flatten().tolist()
    network = trained("plain", task, seed)
    train = _see(network, store, config, labelled, task)
    held = held_out_store(config, split_frames(config, DATA)[1])
    test = _see(network, held, config, list(range(len(held))), task)
    value, valid = _value(task, train["label"])
    raw = test["raw"]
    log = raw.log() if task == "depth" else F.normalize(raw, dim=1)
    head = raw.softmax(1) if task == "segmentation" else log
    better = 1 if task == "segmentation" else -1
    found: dict[str, Any] = {}
    halves = np.arange(len(held)) // 10 % 2 == 0  # blocks of ten frames
    base = _error(task, head, test["label"], test["factor"])
    found["head"] = _figure(task, base)
    for space in ("h", "tokens"):
        x, y = (
            F.normalize(p[space].permute(0, 2, 3, 1), dim=-1)
            if space == "h"
            else _standard(p, train)
            for p in (train, test)
        )
        known, values = x[valid], value[valid]
        some = torch.randperm(len(known), generator=torch.Generator().manual_seed(1))[:60_000]
        centres = _k_means(known[some])
        place = (known @ centres.t()).argmax(1)
        count = torch.bincount(place, minlength=CENTRES).clamp_min(1)
        memory = torch.zeros(CENTRES, values.shape[1]).index_add_(0, place, values)
        memory = memory / count[:, None]
        match = y @ centres.t()
        sums = {}
        for temperature in TEMPERATURES:
            read = ((match / temperature).softmax(-1) @ memory).permute(0, 3, 1, 2)
            for share in SHARES:
                mixed = (1 - share) * head + share * read
                sums[temperature, share] = _error(task, mixed, test["label"], test["factor"])
        judged = np.zeros_like(base)
        for half in (halves, ~halves):
            best = max(sums, key=lambda k: better * _figure(task, sums[k][half]))
            judged[~half] = sums[best][~half]
        best = max(sums, key=lambda k: better * _figure(task, sums[k]))
        alone = max(
            better
            * _figure(
                task,
                _error(
                    task,
                    ((match / t).softmax(-1) @ memory).permute(0, 3, 1, 2),
                    test["label"],
                    test["factor"],
                ),
            )
            for t in TEMPERATURES
        )
        found[space] = {
            "chosen_on_the_other_half": _figure(task, judged),
            "gain_percent": 100 * better * (_figure(task, judged) / found["head"] - 1),
            "best_of_all": _figure(task, sums[best]),
            "best_gain_percent": 100 * better * (_figure(task, sums[best]) / found["head"] - 1),
            "temperature_share": best,
            "retrieval_alone": better * alone,
        }
    path = RESULTS / f"offline_memory_{task}-seed{seed}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(task, seed, json.dumps(found))


def _standard(part: Any, train: Any) -> Tensor:
    x, reference = part["tokens"].permute(0, 2, 3, 1), train["tokens"].permute(0, 2, 3, 1)
    flat = reference.flatten(0, 2)
    return F.normalize((x - flat.mean(0)) / flat.std(0).clamp_min(1e-3), dim=-1)


if __name__ == "__main__":
    main()
