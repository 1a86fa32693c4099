# SPDX-License-Identifier: Apache-2.0
"""From labelled frames to a bundle on disk, as a user does it: train, stop, continue, export."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import sources
import torch
from nyuv2_pack import write_pack
from small_training import config_file, train_config

from proto_mtl_ros.errors import ConfigError, TrainingError
from proto_mtl_ros.tasks import NYU13
from proto_mtl_ros.training.module import MultiTaskModule
from proto_mtl_ros.training.store import FrameStore
from proto_mtl_ros.training.trainer import train, training_store

pytestmark = pytest.mark.timeout(600)  # an export alone takes a minute on a busy machine


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


def _run(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, **options)


@pytest.fixture(scope="module")
def uninterrupted(pack, tmp_path_factory) -> Path:
    """The output folder of a training of three epochs in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = _run("train", "--config", config_file(folder), "--data", pack, "--out", folder / "run")
    assert result.returncode == 0, result.stderr
    return folder


def _weights(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_stopped_and_continued_training_equals_an_uninterrupted_one(uninterrupted, pack, tmp_path):
    arguments = ("--config", config_file(tmp_path), "--data", pack, "--out", tmp_path / "run")
    for more in (("--max-epochs", 1), ()):
        done = _run("train", *arguments, *more)
        assert done.returncode == 0, done.stderr
    expected, found = _weights(uninterrupted / "run"), _weights(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.slow
def test_run_of_another_configuration_or_a_damaged_checkpoint_is_refused(
    uninterrupted, pack, tmp_path
):
    shutil.copytree(uninterrupted / "run", tmp_path / "run")
    arguments = ("--data", pack, "--out", tmp_path / "run")
    other = config_file(tmp_path, loss={"depth": 3.0})
    result = _run("train", "--config", other, *arguments)
    assert result.returncode == 2
    assert "loss.tasks.depth = 1.0, not 3.0" in result.stderr
    (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint")
    result = _run("train", "--config", config_file(tmp_path), *arguments)
    assert result.returncode == 2
    assert "cannot be read as tensors alone" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_frame_that_breaks_the_numbers_is_named(pack, tmp_path, monkeypatch):
    cut = FrameStore.batch
    calls = []

    def poisoned(self, indices, *arguments):
        batch = cut(self, indices, *arguments)
        calls.append(batch["frame_id"])
        if len(calls) > 5 and "0003" in batch["frame_id"]:
            batch["camera"][batch["frame_id"].index("0003")] = float("nan")
        return batch

    monkeypatch.setattr(FrameStore, "batch", poisoned)
    config = train_config(epochs=9, loss={"geometry": 1.0})
    with pytest.raises(TrainingError) as failure:
        train(config, pack, tmp_path / "run")
    line = str(failure.value)
    assert "the loss of geometry is nan" in line
    assert "0003" in line and "epoch" in line and "step" in line
    # what was trained before is still there, and finite
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["current_model_state"]
    assert all(bool(torch.isfinite(value.float()).all()) for value in state.values())


@pytest.mark.slow
def test_same_seed_same_weights_other_seed_others(pack, tmp_path):
    def weights(name: str, seed: int) -> dict:
        last = train(train_config(seed=seed), pack, tmp_path / name, 1)
        return torch.load(last, weights_only=True)["state_dict"]

    first, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_frozen_blocks_of_the_backbone_have_no_gradient():
    def frozen(blocks: int) -> list[bool]:
        config = train_config(optimiser={"frozen_blocks": blocks})
        parts = MultiTaskModule(config, 1, NYU13).network.backbone.parts()
        return [not any(p.requires_grad for p in part.parameters()) for part in parts]

    assert not any(frozen(0))
    found = frozen(2)  # the stem comes with them
    assert found == [True] * 3 + [False] * (len(found) - 3)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def depth_run(pack, tmp_path_factory) -> Path:
    """The output folder of a training of depth alone, and beside it what a terminal showed."""
    config = train_config(
        tasks=["depth"],
        model={"retrieval": "none"},
        loss={"answers": 0.0},
        optimiser={"batch": 2, "accumulate": 2},
    )
    folder = tmp_path_factory.mktemp("depth")
    terminal, printed = _Terminal(), io.StringIO()
    with redirect_stderr(terminal), redirect_stdout(printed):
        train(config, pack, folder / "run", 1)
    (folder / "terminal.txt").write_text(terminal.getvalue())
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


def test_in_a_terminal_a_bar_says_how_far_the_training_is(depth_run):
    shown = (depth_run / "terminal.txt").read_text()
    assert "first step, ? left, loss" in shown  # half of its frames were seen
    lines = [line for line in shown.splitlines() if " frames/s " in line]
    assert len(lines) == 1 and "epoch 1/1  loss" in lines[0] and "depth abs_err" in lines[0]
    assert "frames/s" not in (depth_run / "printed.txt").read_text()


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("normals", {}, "distillation.teachers.normals: .* was not trained on normals"),
        ("depth", {"config.json": None}, "config.json not found; train the teacher first"),
        ("depth", {"config.json": '{"name": 3}'}, "config.json is no configuration: "),
        ("depth", {"last.ckpt": None}, "last.ckpt not found; `proto-mtl train` writes it"),
        ("depth", {"width": 32}, "last.ckpt was trained with another configuration: "),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(task, change, said, depth_run, tmp_path):
    shutil.copytree(depth_run / "run", tmp_path / "run")
    for name, content in change.items():
        if name == "width":
            config = json.loads((tmp_path / "run" / "config.json").read_text())
            config["model"]["width"] = content
            (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        elif content is None:
            (tmp_path / "run" / name).unlink()
        else:
            (tmp_path / "run" / name).write_text(content)
    config = train_config(
        loss={"distillation": 1.0},
        distillation={"teachers": {task: str(tmp_path / "run" / "last.ckpt")}},
    )
    with pytest.raises(ConfigError, match=said):
        training_store(config, sources.Frames({"a": ["segmentation"], "b": ["depth"]}))


@pytest.mark.slow
def test_curves_are_logged(uninterrupted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(uninterrupted / "run" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"held_out/segmentation/miou", "held_out/depth/abs_err"} <= tags
    assert {"held_out/normals/mean_deg", "loss/answers", "gradient_norm"} <= tags


@pytest.fixture(scope="module")
def bundle(uninterrupted, pack) -> Path:
    """The exported bundle of the small network."""
    target = uninterrupted / "models" / "smallest"
    config, checkpoint = uninterrupted / "config.yaml", uninterrupted / "run" / "last.ckpt"
    result = _run(
        "export", "--config", config, "--checkpoint", checkpoint, "--data", pack, "--out", target
    )
    assert result.returncode == 0, result.stderr
    assert "relative error per output" in result.stdout
    return target


@pytest.mark.slow
def test_exported_bundle_evaluates_alike_on_both_backends(bundle, pack, tmp_path):
    figures = {}
    for backend in ("onnxruntime", "torch"):
        out = tmp_path / f"{backend}.json"
        result = _run(
            "evaluate", "--model", bundle, "--data", pack, "--backend", backend, "--out", out
        )
        assert result.returncode == 0, result.stderr
        assert "segmentation miou" in result.stdout
        figures[backend] = json.loads(out.read_text())
    first, second = figures["onnxruntime"], figures["torch"]
    assert first["frames"] == 2
    for task, figure in (("depth", "abs_err"), ("normals", "mean_deg"), ("segmentation", "miou")):
        assert first[task][figure] == pytest.approx(second[task][figure], rel=2e-3)
    stated = json.loads((bundle / "model.json").read_text())["metrics"]
    assert stated["depth"]["abs_err"] == pytest.approx(first["depth"]["abs_err"], rel=1e-6)
    card = (bundle / "README.md").read_text()
    for said in ("NYU Depth v2", "no explicit licence", "proto-mtl train", "Seed 0", "miou"):
        assert said in card
