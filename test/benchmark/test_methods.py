# SPDX-License-Identifier: Apache-2.0
"""Every row of a benchmark learns, and is continued exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nyuv2_pack import write_pack
from small_training import learn_by_heart, train_config

from proto_mtl_ros.training.sources import split_frames
from proto_mtl_ros.training.trainer import train, training_store

SMALL_CODEBOOK = {"weight": 0.05, "codebook_size": 16, "codebook_width": 16}


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


def _weights(last: Path) -> dict[str, Any]:
    return torch.load(last, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_rivals_that_own_modules_or_remember_epochs_are_continued_exactly(pack, tmp_path):
    config = train_config(loss={"cross_task": 0.2, "joint_task": 0.2, "weighting": "dwa"})
    expected = _weights(train(config, pack, tmp_path / "whole"))
    train(config, pack, tmp_path / "parts", 1)
    found = _weights(train(config, pack, tmp_path / "parts"))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_with_one_task_there_is_no_conflict_and_gradients_are_plain(pack, tmp_path):
    """The logits of rare classes are adjusted meanwhile, and no depth is there to be scaled."""

    def weights(name: str, **loss: Any) -> dict:
        config = train_config(
            tasks=["segmentation"],
            model={"retrieval": "none"},
            loss={"answers": 0.0, **loss},
        )
        return torch.load(train(config, pack, tmp_path / name, 1), weights_only=True)["state_dict"]

    plain = weights("plain", logit_adjustment=1.0)
    pcgrad = weights("pcgrad", logit_adjustment=1.0, weighting="pcgrad")
    unadjusted = weights("unadjusted", weighting="pcgrad")
    torch.testing.assert_close(pcgrad, plain, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(unadjusted[name], pcgrad[name]) for name in plain)


METHODS: dict[str, dict] = {
    "single_task": {"tasks": ["depth"], "model": {"retrieval": "none"}},
    "multi_task": {"model": {"retrieval": "none"}},
    "mtpsl": {"model": {"retrieval": "none"}, "loss": {"cross_task": 0.5}},
    "jtr": {"model": {"retrieval": "none"}, "loss": {"joint_task": 0.2}},
    "paper": {"model": {"retrieval": "prototypes", "options": {"slots": 1}},
              "loss": {"tke": 0.1, "tc": 0.1, "reconstruction": SMALL_CODEBOOK}},
    "ours": {"model": {}, "loss": {"answers": 0.3, "surface": 0.5, "geometry": 0.1}},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_four_frames_can_be_learnt_by_heart(method, pack):
    """Every method still fits its labels: what it adds does not stand in the way."""
    row = METHODS[method]
    config = train_config(
        input_width=64,
        **{key: value for key, value in row.items() if key == "tasks"},
        model={"width": 32, **row["model"]},
        loss={"answers": 0.0, **row.get("loss", {})},
        optimiser={"lr": 5e-3, "warmup_steps": 1, "decay_epochs": 10},
    )
    frames, _ = split_frames(config, pack)
    indices = range(3 if method == "single_task" else 4)
    _, _, losses = learn_by_heart(config, training_store(config, frames), indices)
    assert min(losses[-5:]) < 0.1 * losses[0]
