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
from typing import Any

import pytest
import sources
import typer
import yaml
from nyuv2_pack import write_pack
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("lightning", reason="training needs lightning")

from proto_mtl_ros.cli.train import command as train_command  # noqa: E402
from proto_mtl_ros.errors import (  # noqa: E402
    ConfigError,
    TrainingError,
)
from proto_mtl_ros.tasks import NYU13  # noqa: E402
from proto_mtl_ros.training.config import TrainConfig  # noqa: E402

pytestmark = pytest.mark.timeout(600)  # an export alone takes a minute on a busy machine

CONFIG = {
    "name": "smallest",
    "canonical_fx": 100.0,
    "input_height": 64,
    "input_width": 96,
    "threads": 1,
    "stages": [{"epochs": 2, "height": 64, "width": 64}, {"epochs": 1, "height": 64, "width": 96}],
    "model": {"width": 16, "slots": 2, "heads": 2, "head_width": 8},
    "data": {
        "held_out_blocks": 1,
        "held_out_length": 2,
        "manifest": "manifests/one_label.csv",
    },
    # with terms that own modules, and weights that remember epochs: all of it must be continued
    "loss": {"cross_task": 0.2, "joint_task": 0.2, "weighting": "dwa"},
    "optimiser": {"batch": 4, "warmup_steps": 2, "decay_epochs": 1},
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


def _config(folder: Path, **changes) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def _run(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, **options)


@pytest.fixture(scope="module")
def uninterrupted(pack, tmp_path_factory) -> Path:
    """The output folder of a training of three epochs in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = _run("train", "--config", _config(folder), "--data", pack, "--out", folder / "run")
    assert result.returncode == 0, result.stderr
    return folder


def _weights(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


def test_stopped_and_continued_training_equals_an_uninterrupted_one(uninterrupted, pack, tmp_path):
    arguments = ("train", "--config", _config(tmp_path), "--data", pack, "--out", tmp_path / "run")
    first = _run(*arguments, "--max-epochs", 1)
    assert first.returncode == 0, first.stderr
    second = _run(*arguments)
    assert second.returncode == 0, second.stderr
    expected, found = _weights(uninterrupted / "run"), _weights(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_run_of_another_configuration_or_a_damaged_checkpoint_is_refused(
    uninterrupted, pack, tmp_path
):
    shutil.copytree(uninterrupted / "run", tmp_path / "run")
    arguments = ("--data", pack, "--out", tmp_path / "run")
    other = _config(tmp_path, loss={**CONFIG["loss"], "depth": 3.0})
    result = _run("train", "--config", other, *arguments)
    assert result.returncode == 2
    assert "loss.depth = 1.0, not 3.0" in result.stderr
    (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint")
    result = _run("train", "--config", _config(tmp_path), *arguments)
    assert result.returncode == 2
    assert "cannot be read as tensors alone" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_frame_that_breaks_the_numbers_is_named(pack, tmp_path, monkeypatch):
    from proto_mtl_ros.training.store import FrameStore
    from proto_mtl_ros.training.trainer import train

    cut = FrameStore.batch
    calls = []

    def poisoned(self, indices, *arguments):
        batch = cut(self, indices, *arguments)
        calls.append(batch["frame_id"])
        if len(calls) > 5 and "0003" in batch["frame_id"]:
            batch["camera"][batch["frame_id"].index("0003")] = float("nan")
        return batch

    monkeypatch.setattr(FrameStore, "batch", poisoned)
    config = TrainConfig.model_validate(
        {**CONFIG, "stages": [{"epochs": 9, "height": 64, "width": 64}], "loss": {"geometry": 1.0}}
    )
    with pytest.raises(TrainingError) as failure:
        train(config, pack, tmp_path / "run")
    line = str(failure.value)
    assert "the loss of geometry is nan" in line
    assert "0003" in line and "epoch" in line and "step" in line
    # what was trained before is still there, and finite
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["current_model_state"]
    assert all(bool(torch.isfinite(value.float()).all()) for value in state.values())


def test_same_seed_same_weights_other_seed_others(pack, tmp_path):
    from proto_mtl_ros.training.trainer import train

    def weights(name: str, seed: int) -> dict:
        config = TrainConfig.model_validate({**CONFIG, "seed": seed})
        return torch.load(train(config, pack, tmp_path / name, 1), weights_only=True)["state_dict"]

    first, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_with_one_task_there_is_no_conflict_and_gradients_are_plain(pack, tmp_path):
    """The logits of rare classes are adjusted meanwhile, and no depth is there to be scaled."""
    from proto_mtl_ros.training.trainer import train

    def weights(name: str, **loss: Any) -> dict:
        changes = {"tasks": ["segmentation"], "model": {**CONFIG["model"], "retrieval": "none"}}
        off = {"tke": 0.0, "tc": 0.0, **loss}
        config = TrainConfig.model_validate({**CONFIG, **changes, "loss": off})
        return torch.load(train(config, pack, tmp_path / name, 1), weights_only=True)["state_dict"]

    plain = weights("plain", logit_adjustment=1.0)
    pcgrad = weights("pcgrad", logit_adjustment=1.0, gradients="pcgrad")
    unadjusted = weights("unadjusted", gradients="pcgrad")
    torch.testing.assert_close(pcgrad, plain, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(unadjusted[name], pcgrad[name]) for name in plain)


def test_frozen_blocks_of_the_backbone_have_no_gradient():
    from proto_mtl_ros.training.module import MultiTaskModule

    def frozen(blocks: int) -> list[bool]:
        config = TrainConfig.model_validate({**CONFIG, "optimiser": {"frozen_blocks": blocks}})
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
    from proto_mtl_ros.training.trainer import train

    changes = {
        "tasks": ["depth"],
        "model": {**CONFIG["model"], "retrieval": "none"},
        "loss": {"tke": 0.0, "tc": 0.0},
        "optimiser": {**CONFIG["optimiser"], "batch": 2, "accumulate": 2},
    }
    folder = tmp_path_factory.mktemp("depth")
    terminal, printed = _Terminal(), io.StringIO()
    with redirect_stderr(terminal), redirect_stdout(printed):
        train(TrainConfig.model_validate({**CONFIG, **changes}), pack, folder / "run", 1)
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
    from proto_mtl_ros.training.trainer import training_store

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
    config = TrainConfig.model_validate(
        {
            **CONFIG,
            "loss": {"distillation": 1.0},
            "distillation": {"teachers": {task: str(tmp_path / "run" / "last.ckpt")}},
        }
    )
    with pytest.raises(ConfigError, match=said):
        training_store(config, sources.Frames({"a": ["segmentation"], "b": ["depth"]}))


def test_profile_says_where_the_time_of_a_step_goes(pack, tmp_path):
    config = _config(tmp_path)
    arguments = ["--config", config, "--data", pack, "--out", tmp_path / "out", "--profile", 2]
    arguments += ["--tasks", "segmentation,depth"]
    app = typer.Typer()
    app.command()(train_command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert (found["steps"], found["batch"], found["threads"]) == (2, 4, 1)
    whole = found["ms_per_step"]
    assert found["frames_per_second"] == pytest.approx(1000 * found["batch"] / whole)
    parts = found["parts"]
    # the parts of a step are nearly all of it, and those inside of one are no more than it
    outer = [value for name, value in parts.items() if ": " not in name]
    assert 0.5 * whole < sum(outer) <= whole
    for name in ("forward", "losses"):
        inside = [value for part, value in parts.items() if part.startswith(f"{name}: ")]
        assert inside and sum(inside) <= parts[name]
    assert {"losses: cross_task", "losses: joint_task", "forward: KRT"} <= set(parts)
    assert f"{whole:9.1f} ms" in done.output
    assert not (tmp_path / "out" / "last.ckpt").exists()  # nothing was trained


METHODS: dict[str, dict] = {
    "single_task": {"tasks": ["depth"], "model": {"retrieval": "none"}},
    "multi_task": {"model": {"retrieval": "none"}},
    "mtpsl": {"model": {"retrieval": "none"}, "loss": {"cross_task": 0.5}},
    "jtr": {"model": {"retrieval": "none"}, "loss": {"joint_task": 0.2}},
    "paper": {"model": {"slots": 1}, "loss": {"tke": 0.1, "tc": 0.1, "reconstruction": 0.05}},
    "ours": {"model": {"slots": 4}, "loss": {"tke": 0.1, "tc": 0.1, "entropy": 0.1,
                                             "geometry": 0.1}},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_four_frames_can_be_learnt_by_heart(method, pack):
    """Every method still fits its labels: what it adds does not stand in the way."""
    from proto_mtl_ros.training.frames import WholeFrames
    from proto_mtl_ros.training.module import MultiTaskModule
    from proto_mtl_ros.training.sources import split_frames
    from proto_mtl_ros.training.trainer import training_store

    row = METHODS[method]
    off = {"tke": 0.0, "tc": 0.0, "codebook_size": 16, "codebook_width": 16}
    config = TrainConfig.model_validate(
        {
            **CONFIG,
            **row,
            "input_width": 64,
            "input_height": 64,
            "model": {"width": 32, "heads": 2, "head_width": 16, **row["model"]},
            "loss": {**off, **row.get("loss", {})},
            "optimiser": {"batch": 4, "lr": 5e-3, "warmup_steps": 1},
        }
    )
    torch.manual_seed(0)
    frames, _ = split_frames(config, pack)
    store = training_store(config, frames)
    batch = WholeFrames(store, config)(range(4) if method != "single_task" else range(3))
    module = MultiTaskModule(config, 60, frames.label_set).train()
    optimiser = module.configure_optimizers()["optimizer"]
    supervised = []
    for _ in range(60):
        losses, extra, _values = module.losses(batch, module(batch["image"]))
        supervised.append(float(sum(losses.values())))
        (sum(losses.values()) + extra).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    assert min(supervised[-5:]) < 0.1 * supervised[0]


def test_curves_and_the_association_matrix_are_logged(uninterrupted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(uninterrupted / "run" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"held_out/segmentation/miou", "held_out/depth/abs_err"} <= tags
    assert {"held_out/frames", "association"} <= set(events.Tags()["images"])
    assert {"held_out/normals/mean_deg", "affinity/entropy", "association/depth/normals"} <= tags


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
    card = (bundle / "README.md").read_text()
    for said in ("NYU Depth v2", "no explicit licence", "proto-mtl train", "Seed 0", "miou"):
        assert said in card


def test_bundle_says_the_metrics_that_evaluate_prints(bundle, pack, tmp_path):
    result = _run("evaluate", "--model", bundle, "--data", pack, "--out", tmp_path / "f.json")
    assert result.returncode == 0, result.stderr
    stated = json.loads((bundle / "model.json").read_text())["metrics"]
    found = json.loads((tmp_path / "f.json").read_text())
    assert stated["depth"]["abs_err"] == pytest.approx(found["depth"]["abs_err"], rel=1e-6)


def test_bad_input_ends_in_one_line(pack, tmp_path):
    config = _config(tmp_path)
    cases = [
        (2, "train", "--config", tmp_path / "none.yaml", "--data", pack, "--out", tmp_path / "o"),
        (3, "train", "--config", config, "--data", tmp_path, "--out", tmp_path / "o"),
        (3, "evaluate", "--model", tmp_path / "no_model", "--data", pack),
    ]
    for status, *case in cases:
        result = _run(*case)
        assert result.returncode == status
        assert "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
