# SPDX-License-Identifier: Apache-2.0
"""What a training refuses before it begins, and which frames it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sources
import yaml
from nyuv2_pack import write_pack

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("lightning", reason="training needs lightning")

from proto_mtl_ros.data.nyuv2 import NYUv2  # noqa: E402
from proto_mtl_ros.data.table import hold_out  # noqa: E402
from proto_mtl_ros.errors import (  # noqa: E402
    ConfigError,
    DataError,
)
from proto_mtl_ros.training.combinations import (  # noqa: E402
    check_combinations,
    check_division,
)
from proto_mtl_ros.training.config import TrainConfig  # noqa: E402
from proto_mtl_ros.training.progress import (  # noqa: E402
    duration,
    held_out_figures,
)
from proto_mtl_ros.training.sources import (  # noqa: E402
    reported_frames,
    split_frames,
)
from proto_mtl_ros.training.trainer import (  # noqa: E402
    train,
    training_store,
)

CONFIG = {
    "name": "smallest",
    "canonical_fx": 100.0,
    "input_height": 64,
    "input_width": 64,
    "stages": [{"epochs": 1, "height": 64, "width": 64}],
}


def _config(folder: Path, **changes) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": {}}, "optimizer"),
        ({"stages": [{"epochs": 1, "height": 60, "width": 64}]}, "stages.0.height"),
        ({"tasks": ["segmentation", "edges"]}, "unknown task 'edges'"),
        ({"canonical_fx": -1}, "canonical_fx"),
        ({"hardware": {"devices": 0}}, "hardware.devices"),
        ({"optimiser": {"accumulate": 0}}, "optimiser.accumulate"),
        ({"stages": []}, "stages: at least one is needed"),
        (
            {"tasks": ["depth"], "optimiser": {"frozen_tasks": ["normals"], "freeze_norm": True}},
            "frozen_tasks: 'normals' is no task of this run",
        ),
        ({"optimiser": {"frozen_tasks": ["normals"]}}, "frozen_tasks needs optimiser.freeze_norm"),
    ],
)
def test_bad_configuration_is_refused_and_named(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        TrainConfig.read(_config(tmp_path, **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"backbone": "vgg"}}, "model.backbone: unknown 'vgg'; there are efficientnet"),
        ({"model": {"width": 20, "heads": 3}}, "model.heads"),
        ({"model": {"retrieval": "none"}, "loss": {"tke": 0.1}}, "loss.tke needs model.retrieval"),
        ({"tasks": ["depth"], "loss": {"geometry": 1.0}}, "loss.geometry"),
        ({"tasks": ["depth"], "model": {"class_chain": True}}, "model.class_chain"),
        ({"loss": {"distillation": 1.0}}, "loss.distillation needs distillation.teachers"),
        ({"loss": {"feature_distillation": 1.0}}, "loss.feature_distillation needs"),
        (
            {"loss": {"distillation": 1.0}, "distillation": {"teachers": {"depth": "no.ckpt"}}},
            "distillation.teachers.depth: no.ckpt not found",
        ),
        ({"loss": {"gradients": "pcgrad", "weighting": "dwa"}}, "loss.gradients"),
        ({"loss": {"gradients": "pcgrad"}, "hardware": {"devices": 2}}, "hardware.devices"),
        ({"tasks": ["depth"], "loss": {"cross_task": 0.2}}, "loss.cross_task needs two tasks"),
        (
            {"loss": {"gradients": "pcgrad"}, "optimiser": {"accumulate": 2}},
            "set optimiser.accumulate: 1",
        ),
    ],
)
def test_keys_that_cannot_work_together_are_refused_before_the_data_is_read(change, said):
    config = TrainConfig.model_validate({**CONFIG, **change})
    with pytest.raises(ConfigError, match=said.replace("(", ".")):
        check_combinations(config)


def test_gradients_that_are_weighed_may_be_on_the_one_device_there_is():
    for devices in (1, "auto"):
        changes = {"loss": {"gradients": "pcgrad"}, "hardware": {"devices": devices}}
        check_combinations(TrainConfig.model_validate({**CONFIG, **changes}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_refused_before_anything_is_trained(tmp_path):
    held = {"held_out_blocks": 1, "held_out_length": 1}
    changes = {"hardware": {"precision": "fp16"}, "data": held}
    config = TrainConfig.model_validate({**CONFIG, **changes})
    pack = write_pack(tmp_path / "pack", train=8, val=1)
    with pytest.raises(ConfigError, match="fp16 needs a GPU; use bf16 or fp32"):
        train(config, pack, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_each_epoch_belongs_to_its_stage():
    stages = [{"epochs": 2, "height": 64, "width": 64}, {"epochs": 1, "height": 64, "width": 96}]
    config = TrainConfig.model_validate({**CONFIG, "stages": stages})
    assert [config.stage(epoch).width for epoch in range(config.epochs)] == [64, 64, 96]


def test_frames_without_any_label_are_refused_unless_something_learns_from_them():
    frames = sources.Frames({"a": ["depth"], "b": []})
    for tasks, off, expected in (
        (["depth"], {"tke": 0.0, "tc": 0.0}, ["a"]),
        (["depth", "normals"], {}, ["a", "b"]),
    ):
        config = TrainConfig.model_validate({**CONFIG, "tasks": tasks, "loss": off})
        assert training_store(config, frames).frame_ids == expected
    config = TrainConfig.model_validate(
        {**CONFIG, "tasks": ["normals"], "loss": {"tke": 0.0, "tc": 0.0}}
    )
    with pytest.raises(ConfigError, match="no frame has a label for normals"):
        training_store(config, frames)


def test_figures_are_reported_on_val_or_on_what_was_held_out(tmp_path):
    held = {"held_out_blocks": 1, "held_out_length": 1}
    config = TrainConfig.model_validate({**CONFIG, "data": {"kind": "folder", **held}})
    folder = sources.write_by_hand(tmp_path / "own")
    (folder / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,val\n")
    frames, what = reported_frames(config, folder)
    assert (frames.frame_ids, what) == (["c"], "val split")
    # a data set that has no split of its own for it: what was held out, never what was learnt from
    (folder / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,test\n")
    frames, what = reported_frames(config, folder)
    _, held_out = split_frames(config, folder)
    assert (frames.frame_ids, what) == (held_out.frame_ids, "1 frames held out of training")


def test_a_label_set_that_is_not_known_is_refused(tmp_path):
    config = TrainConfig.model_validate({**CONFIG, "data": {"label_set": "nyu41"}})
    with pytest.raises(
        ConfigError, match="data.label_set: 'nyu41' is not known; there are .*nyu13"
    ):
        split_frames(config, tmp_path)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(48, "48 s"), (90, "2 min"), (89 * 60, "89 min"), (3 * 3600 + 5 * 60, "3 h 05 min")],
)
def test_times_are_said_for_people(seconds, said):
    assert duration(seconds) == said


def test_a_batch_that_cannot_be_divided_is_refused():
    config = TrainConfig.model_validate({**CONFIG, "optimiser": {"batch": 6, "accumulate": 2}})
    check_division(config, 3)
    with pytest.raises(ConfigError, match="optimiser.batch: 6 .* multiple of 4"):
        check_division(config, 2)


def test_manifest_restricts_labels_and_must_be_complete(tmp_path):
    pack = write_pack(tmp_path / "pack")
    frames = NYUv2(pack, "train", manifest=pack / "manifests" / "one_label.csv")
    assert [sorted(frames[i].labels) for i in range(3)] == [
        ["segmentation"],
        ["depth"],
        ["normals"],
    ]
    short = tmp_path / "short.csv"
    short.write_text("frame_id,segmentation,depth,normals\n0001,1,0,0\n")
    with pytest.raises(DataError, match="no row for frame 0002"):
        NYUv2(pack, "train", manifest=short)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("frame_id,segmentation,depth,normals\n0001,yes,0,0\n")
    with pytest.raises(DataError, match="not 0 or 1"):
        NYUv2(pack, "train", manifest=wrong)


def test_held_out_frames_are_contiguous_and_disjoint():
    ids = [f"{i:04d}" for i in range(100)]
    kept, held = hold_out(ids, blocks=4, length=5)
    assert len(held) == 20
    assert sorted(kept + held) == ids
    jumps = np.diff([int(i) for i in held])
    assert (jumps != 1).sum() == 3


def test_a_task_without_a_held_out_label_is_left_out_of_the_progress():
    metrics = {"held_out/segmentation/miou": float("nan"), "held_out/depth/abs_err": 0.5}
    assert held_out_figures(("segmentation", "depth", "normals"), metrics) == [
        "depth abs_err 0.500"
    ]


def test_a_run_for_some_of_its_tasks_keeps_their_order():
    config = TrainConfig.model_validate(CONFIG)
    assert config.with_tasks(["normals", "depth"]).tasks == ("depth", "normals")
    for names in ([""], ["smell"], []):
        with pytest.raises(ConfigError, match="segmentation, depth, normals"):
            config.with_tasks(names)
