# SPDX-License-Identifier: Apache-2.0
"""What a training refuses before it begins, and which frames it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import sources
import torch
from nyuv2_pack import write_pack
from small_training import config_file, settings, train_config

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.monitor import duration
from proto_mtl_ros.training.sources import reported_frames, split_frames
from proto_mtl_ros.training.trainer import check_division, train, training_store
from proto_mtl_ros.training.upgrade import upgraded

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = {"answers": 0.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": 3}, "config.yaml: unknown key `epoch`, did you mean `epochs`?"),
        ({"optimiser": {"warmup": 3}}, "unknown key `optimiser.warmup`, .* `warmup_steps`?"),
        ({"data": {"zzz": 3}}, "unknown key `data.zzz`$"),
        ({"input_height": 60}, "input_height"),
        ({"tasks": ["segmentation", "smell"]}, "tasks: unknown 'smell'; there are segmentation"),
        ({"model": {"backbone": "vgg"}}, "model.backbone: unknown 'vgg'; there are efficientnet"),
        (
            {"model": {"retrieval": "all"}},
            "model.retrieval: unknown 'all'; there are answers",
        ),
        ({"loss": {"weighting": "dwaa"}}, "loss.weighting: unknown 'dwaa'; there are equal"),
        ({"loss": {"tkee": 0.1}}, "loss: 'tkee' is neither a task nor .*, did you mean `tke`?"),
        ({"loss": {"answers": -0.1}}, "loss: answers.weight: .*greater than or equal to 0"),
        (
            {"loss": {"reconstruction": {"weight": 1, "codes": 4}}},
            "unknown key `reconstruction.codes`",
        ),
        ({"loss": {"depth": -1}}, "loss.tasks.depth"),
        ({"stages": []}, "stages is no longer a key .*see docs/upgrading.md"),
        ({"optimiser": {"clip_norm": 1.0}}, "optimiser.clip_norm is no longer a key .it was 1.0"),
        ({"canonical_fx": -1}, "canonical_fx"),
        ({"hardware": {"devices": 0}}, "hardware.devices"),
        ({"optimiser": {"accumulate": 0}}, "optimiser.accumulate"),
        (
            {"tasks": ["depth"], "optimiser": {"frozen_tasks": ["normals"], "freeze_norm": True}},
            "frozen_tasks: unknown 'normals'; there are depth",
        ),
        ({"optimiser": {"frozen_tasks": ["normals"]}}, "frozen_tasks needs optimiser.freeze_norm"),
    ],
)
def test_bad_configuration_is_refused_and_named(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        TrainConfig.read(config_file(tmp_path, **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": ["depth"], "loss": {"geometry": 1.0}}, "loss.geometry needs the task normals"),
        ({"loss": {"distillation": 1.0}}, "loss.distillation needs distillation.teachers"),
        ({"loss": {"feature_distillation": 1.0}}, "loss.feature_distillation needs"),
        (
            {"loss": {"distillation": 1.0}, "distillation": {"teachers": {"depth": "no.ckpt"}}},
            "distillation.teachers.depth: no.ckpt not found",
        ),
        ({"loss": {"weighting": "pcgrad"}, "hardware": {"devices": 2}}, "loss.weighting: pcgrad"),
        ({"loss": {"weighting": "pcgrad"}, "optimiser": {"accumulate": 2}}, "loss.weighting"),
        ({"tasks": ["depth"], "loss": {"cross_task": 0.2}}, "loss.cross_task needs 2 tasks"),
    ],
)
def test_keys_that_cannot_work_together_are_refused_before_the_data_is_read(change, said):
    with pytest.raises(ConfigError, match=said):
        train_config(**change).check()


def test_gradients_that_are_weighed_may_be_on_the_one_device_there_is():
    for devices in (1, "auto"):
        train_config(loss={"weighting": "pcgrad"}, hardware={"devices": devices}).check()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_refused_before_anything_is_trained(tmp_path):
    config = train_config(hardware={"precision": "fp16"})
    pack = write_pack(tmp_path / "pack", train=8, val=1)
    with pytest.raises(ConfigError, match="fp16 needs a GPU; use bf16 or fp32"):
        train(config, pack, tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_what_a_run_wrote_down_is_read_as_it_was_meant():
    """Its own dump, and that of the first release, whose options are constants now."""
    config = train_config(loss={"surface": 0.0, "geometry": 0.5, "depth": 3.0}, tasks=["depth"])
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config
    assert set(config.loss.active) == {"answers", "geometry"}
    assert [config.loss.weight(name) for name in ("depth", "normals")] == [3.0, 2.0]
    first = settings(
        loss={"geometry": 0.5, "depth": 3.0, "cross_task": 0.0,
              "gradients": "sum", "margin": 0.3, "codebook_size": 512},
        model={"attention": "softmax", "head_width": 48},
        stages=[{"epochs": 3, "height": 64, "width": 96}],
        tasks=["depth"],
    )  # fmt: skip
    del first["epochs"]
    assert TrainConfig.model_validate(upgraded(first)) == config
    first["loss"]["margin"] = 0.5
    with pytest.raises(ValueError, match="margin"):
        TrainConfig.model_validate(upgraded(first))


def test_frames_without_any_label_are_refused_unless_something_learns_from_them():
    frames = sources.Frames({"a": ["depth"], "b": []})
    for tasks, off, expected in (
        (["depth"], PLAIN, ["a"]),
        (["depth", "normals"], {}, ["a", "b"]),
    ):
        config = train_config(tasks=tasks, loss=off)
        assert training_store(config, frames).frame_ids == expected
    config = train_config(tasks=["normals"], loss=PLAIN)
    with pytest.raises(ConfigError, match="no frame has a label for normals"):
        training_store(config, frames)


def test_figures_are_reported_on_val_or_on_what_was_held_out(tmp_path):
    config = train_config(data={"kind": "folder", "held_out_length": 1, "manifest": None})
    folder = sources.write_by_hand(tmp_path / "own")
    (folder / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,val\n")
    frames, what = reported_frames(config, folder)
    assert (frames.frame_ids, what) == (["c"], "val split")
    # a data set that has no split of its own for it: what was held out, never what was learnt from
    (folder / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,test\n")
    frames, what = reported_frames(config, folder)
    _, held_out = split_frames(config, folder)
    assert (frames.frame_ids, what) == (held_out.frame_ids, "1 frame held out of training")


def test_a_label_set_that_is_not_known_is_refused(tmp_path):
    config = train_config(data={"label_set": "nyu41"})
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
    config = train_config(optimiser={"batch": 6, "accumulate": 2})
    check_division(config, 3)
    with pytest.raises(ConfigError, match="optimiser.batch: 6 .* multiple of 4"):
        check_division(config, 2)


def test_a_run_for_some_of_its_tasks_keeps_their_order():
    config = train_config()
    assert config.with_tasks(["normals", "depth"]).tasks == ("depth", "normals")
    for names in ([""], ["smell"], []):
        with pytest.raises(ConfigError, match="segmentation, depth, normals"):
            config.with_tasks(names)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "config" / "training").glob("*.yaml")), ids=str
)
def test_configurations_that_ship_are_right(path):
    config = TrainConfig.read(path)
    stem = path.stem.removesuffix("_finish").removeprefix("nyu13_")
    assert stem in config.name.replace("-", "_").replace("nyu13_", "")
