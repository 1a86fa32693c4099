# SPDX-License-Identifier: Apache-2.0
"""Several processes, several parts, half precision: the same training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nyuv2_pack import write_pack
from small_training import config_file

from proto_mtl_ros.training.frames import EpochBatches

pytestmark = pytest.mark.timeout(600)

# tc is among them: its value for a batch is not the mean over its parts
TINY: dict[str, Any] = {
    "input_width": 64,
    "epochs": 2,
    "model": {"retrieval": "prototypes", "width": 16, "options": {"slots": 2, "heads": 2}},
    "loss": {"answers": 0.0, "tke": 0.1, "tc": 0.5, "entropy": 0.5, "geometry": 0.5},
    "optimiser": {"batch": 4, "warmup_steps": 1, "lr": 1e-3, "freeze_norm": True},
}

# a floor above log T, so that the entropy loss has a gradient in every step; a file, because
# Lightning starts the second process by it
PROGRAM = """
from proto_mtl_ros.cli.main import main
from benchmark.methods import prototype_knowledge

prototype_knowledge._FLOOR = 1.5
main()
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"), train=14)


def _train(folder: Path, pack: Path, **changes: Any) -> dict[str, Any]:
    """Train by the command line; return the checkpoint and what was printed."""
    folder.mkdir()
    merged = {k: {**TINY[k], **v} if k in TINY else v for k, v in changes.items()}
    config = config_file(folder, **{**TINY, **merged})
    (folder / "program.py").write_text(PROGRAM)
    arguments = ["--config", config, "--data", pack, "--out", folder / "run"]
    command = [sys.executable, folder / "program.py", "train", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])  # benchmark lies there
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert result.returncode == 0, result.stderr
    state = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    state["printed"] = result.stdout
    return state


@pytest.fixture(scope="module")
def alone(pack, tmp_path_factory) -> dict[str, Any]:
    """A training in one process, one part per step, single precision."""
    return _train(tmp_path_factory.mktemp("alone") / "0", pack)


def _losses(state: dict[str, Any]) -> list[float]:
    lines = [line for line in state["printed"].splitlines() if line.startswith("epoch")]
    return [float(line.split("loss ")[1].split()[0]) for line in lines]


def _assert_alike(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> None:
    one, two = first["current_model_state"], second["current_model_state"]
    assert one.keys() == two.keys()
    for name, value in one.items():
        # of the whole tensor: Adam makes steps of gradients that are rounding alone
        difference = float((value.double() - two[name].double()).norm())
        assert difference <= tolerance * (float(value.double().norm()) + 0.2), name


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(alone, pack, tmp_path):
    both = _train(tmp_path / "two", pack, hardware={"devices": 2})
    assert alone["global_step"] == both["global_step"] == 6
    _assert_alike(alone, both, 2e-4)
    assert _losses(both) == pytest.approx(_losses(alone), abs=2e-4)
    # one of the two writes, not both
    assert len(_losses(both)) == 2


@pytest.mark.slow
def test_a_batch_in_two_parts_trains_the_weights_of_a_whole_one(pack, tmp_path):
    # losses that are means over frames; triplets in the batch see less of it
    only = {"tke": 0.1, "tc": 0.0, "entropy": 0.0, "geometry": 0.5}
    whole = _train(tmp_path / "whole", pack, loss=only)
    parts = _train(tmp_path / "parts", pack, loss=only, optimiser={"accumulate": 2})
    assert whole["global_step"] == parts["global_step"]
    # sums in another order: where a gradient is all but zero, Adam makes whole steps of what
    # rounding left of it; the largest difference seen is 1.2e-4, a batch norm's bias
    _assert_alike(whole, parts, 2e-4)


@pytest.mark.slow
def test_bf16_stays_close_to_fp32(alone, pack, tmp_path):
    half = _train(tmp_path / "half", pack, hardware={"precision": "bf16"})
    assert _losses(half) == pytest.approx(_losses(alone), rel=0.05)
    state = half["current_model_state"]
    assert all(bool(torch.isfinite(value.float()).all()) for value in state.values())
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_processes_and_parts_share_a_batch_without_gap_or_overlap(world, parts):
    def batches(rank: int, world: int, parts: int) -> list[list[tuple[int, int]]]:
        sampler = EpochBatches(20, 5, 12, seed=3, rank=rank, world=world, parts=parts)
        sampler.set_epoch(2)
        return list(sampler)

    expected = batches(0, 1, 1)
    shares = [batches(rank, world, parts) for rank in range(world)]
    for step, whole in enumerate(expected):
        taken = [key for own in shares for part in range(parts) for key in own[step * parts + part]]
        assert sorted(taken) == sorted(whole)
        assert {len(own[step * parts]) for own in shares} == {12 // world // parts}
