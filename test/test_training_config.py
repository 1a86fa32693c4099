# SPDX-License-Identifier: Apache-2.0
"""What a training refuses before it begins, and which frames it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from nyuv2_pack import write_pack

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("lightning", reason="training needs lightning")

from proto_mtl_ros.data.nyuv2 import NYUv2, hold_out  # noqa: E402
from proto_mtl_ros.errors import ConfigError, DataError  # noqa: E402
from proto_mtl_ros.training.combinations import check_combinations, check_division  # noqa: E402
from proto_mtl_ros.training.config import TrainConfig  # noqa: E402
from proto_mtl_ros.training.progress import held_out_figures  # noqa: E402

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
    ],
)
def test_keys_that_cannot_work_together_are_refused_before_the_data_is_read(change, said):
    config = TrainConfig.model_validate({**CONFIG, **change})
    with pytest.raises(ConfigError, match=said.replace("(", ".")):
        check_combinations(config)


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
