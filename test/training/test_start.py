# SPDX-License-Identifier: Apache-2.0
"""A training that starts from the shipped model, or is taught by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import typer
from nyuv2_pack import write_pack
from typer.testing import CliRunner

from proto_mtl_ros.cli.train import command as train_command
from proto_mtl_ros.data.nyuv2 import NYUv2
from proto_mtl_ros.errors import BundleError, ConfigError, DataError
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.tasks import NYU13, LabelSet, tasks_over
from proto_mtl_ros.training.augmentation import Crop
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER, TEACHER_FEATURES
from proto_mtl_ros.training.checkpoint import network_from_checkpoint
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.start import continued_from, starting_network
from proto_mtl_ros.training.store import FrameStore
from proto_mtl_ros.training.teachers import attach_teachers

MODEL = Path(__file__).resolve().parents[2] / "models" / "nyu13-lite0"
OWN = LabelSet("own", ("crate", "shelf"), ((1, 2, 3), (4, 5, 6)))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> NYUv2:
    """Four frames with one label each."""
    pack = write_pack(tmp_path_factory.mktemp("pack"), train=4, val=1)
    return NYUv2(pack, "train", manifest=pack / "manifests" / "one_label.csv")


def _config(**changes) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "own",
            "canonical_fx": 207.5431604,
            "input_height": 192,
            "input_width": 256,
            "epochs": 1,
            "start_from": str(MODEL),
            **changes,
        }
    )


def test_network_starts_as_the_bundle_that_it_starts_from():
    config = _config()
    network = starting_network(config, tasks_over(config.tasks, NYU13)).eval()
    stored = safetensors.torch.load_file(MODEL / "weights.safetensors")
    state = network.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], stored[key].to(state[key].dtype)) for key in stored)


def test_tasks_keep_their_weights_in_another_order_and_with_other_classes(caplog):
    caplog.set_level("INFO")
    config = _config(tasks=("normals", "segmentation"))
    network = starting_network(config, tasks_over(config.tasks, OWN))
    stored = safetensors.torch.load_file(MODEL / "weights.safetensors")
    assert torch.equal(
        network.decoders[0].coarse[0].weight, stored["decoders.2.coarse.0.weight"].float()
    )
    assert torch.equal(network.heads[0].keys, stored["heads.2.keys"].float())
    assert network.heads[1].keys.shape[0] == 6
    assert "heads.segmentation.keys" in caplog.text


def test_bundle_of_another_backbone_or_none_is_refused(tmp_path):
    with pytest.raises(BundleError):
        starting_network(_config(start_from=str(tmp_path / "no")), tasks_over(("depth",), NYU13))
    with pytest.raises(ConfigError, match="backbone"):
        starting_network(_config(model={"backbone": "resnet18"}), tasks_over(("depth",), NYU13))


def test_the_shipped_model_teaches_what_frames_have_no_label_for(source):
    """Its predictions in the store are those of its engine on the whole frame."""
    config = _config(
        loss={"distillation": 1.0},
        distillation={"teachers": dict.fromkeys(("segmentation", "depth", "normals"), str(MODEL))},
    )
    store = FrameStore(source, tasks_over(config.tasks, NYU13), (192, 256), 1.0)
    attach_teachers(store, config)
    batch = store.batch(range(3), [Crop()] * 3, config.canonical_fx)
    # frame 0 has a segmentation label, frame 1 a depth label: nobody teaches those
    assert not batch[f"{TEACHER}segmentation"][0].any()
    assert not batch[f"{TEACHER}depth"][1].any()
    images = batch["image"].permute(0, 2, 3, 1).add(0.5).to(torch.uint8).contiguous().numpy()
    engine = create_engine(Bundle.load(MODEL), "torch", "cpu", 1)
    straight, mirrored = engine.infer(images), engine.infer(images[:, :, ::-1].copy())
    expected = (straight["depth"][2] + mirrored["depth"][2, :, ::-1]) / 2
    taught = batch[f"{TEACHER}depth"][2, ..., 0].numpy()
    # canonical depth at stride 4 against the mean of a 4 x 4 cell
    cells = expected.reshape(48, 4, 64, 4).mean((1, 3))
    assert np.abs(taught - cells).mean() / cells.mean() < 0.02
    # the mirror image of a normal points to the other side
    turned = mirrored["normals"][0, :, ::-1] * (-1, 1, 1)
    between = (straight["normals"][0] + turned).reshape(48, 4, 64, 4, 3).mean((1, 3))
    between /= np.linalg.norm(between, axis=-1, keepdims=True)
    cosine = (batch[f"{TEACHER}normals"][0, ..., :3].numpy() * between).sum(-1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 3
    posterior = batch[f"{TEACHER}segmentation"][1]
    assert torch.allclose(posterior[..., :-1].sum(-1), torch.ones(48, 64), atol=5e-3)
    ids = posterior[..., :-1].argmax(-1).numpy()
    assert (ids == straight["segmentation"][1, 2::4, 2::4]).mean() > 0.8


def test_features_of_teachers_come_for_every_frame_and_need_the_same_width(source):
    """Standardised per channel; those of the mirror image differ from the mirrored ones."""
    options = {
        "loss": {"feature_distillation": 1.0},
        "distillation": {"teachers": {"depth": str(MODEL)}},
    }
    config = _config(**options)
    store = FrameStore(source, tasks_over(config.tasks, NYU13), (192, 256), 1.0)
    attach_teachers(store, config)
    whole = store.batch(range(4), [Crop()] * 4, config.canonical_fx)
    assert f"{TEACHER}depth" not in whole
    features = whole[f"{TEACHER_FEATURES}depth"]
    assert features.shape == (4, 12, 16, config.model.width)
    flat = features.flatten(0, 2)
    assert float(flat.mean(0).abs().max()) < 0.02
    assert float(flat.std(0).median()) == pytest.approx(1, abs=0.02)
    turned = store.batch([0], [Crop(mirrored=True)], config.canonical_fx)
    other = turned[f"{TEACHER_FEATURES}depth"].flip(2)
    assert 0.01 < float((other - features[:1]).square().mean()) < 1.0
    with pytest.raises(ConfigError, match=r"width 192.*model\.width"):
        attach_teachers(store, _config(**options, model={"width": 96}))


def test_teacher_with_other_classes_is_refused(source):
    config = _config(
        loss={"distillation": 1.0}, distillation={"teachers": {"segmentation": str(MODEL)}}
    )
    store = FrameStore(source, tasks_over(config.tasks, OWN), (192, 256), 1.0)
    with pytest.raises(ConfigError, match="other classes"):
        attach_teachers(store, config)


def test_a_run_is_continued_from_another_bundle_with_all_that_must_fit(tmp_path):
    shipped = Bundle.load(MODEL)
    other = Bundle.write(
        tmp_path / "other",
        shipped.manifest.model_copy(
            update={
                "name": "other",
                "input_size": (96, 128),
                "canonical_fx": 111.0,
                "architecture": {**shipped.manifest.architecture, "width": 64},
            }
        ),
        {"weights.safetensors": shipped.weights_path},
    )
    teachers = {"segmentation": str(MODEL), "depth": "runs/depth/last.ckpt"}
    config = _config(distillation={"teachers": teachers})
    found = continued_from(config, str(other.path))
    assert found.start_from == found.distillation.teachers["segmentation"] == str(other.path)
    assert found.distillation.teachers["depth"] == "runs/depth/last.ckpt"
    assert (found.input_height, found.input_width, found.canonical_fx) == (96, 128, 111.0)
    assert (found.model.width, found.model.retrieval) == (64, "answers")
    # and what is written down can be read as a configuration
    (tmp_path / "config.json").write_text(found.model_dump_json())
    assert TrainConfig.read(tmp_path / "config.json") == found


def _train(*arguments: object) -> None:
    app = typer.Typer()
    app.command()(train_command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None:
        raise done.exception


def test_train_without_data_or_what_it_needs_says_so(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="give the data set: proto-mtl train DATA"):
        _train()
    with pytest.raises(DataError, match="looks like no data set"):
        _train(tmp_path, "--out", tmp_path / "out")
    monkeypatch.setattr("proto_mtl_ros.files.installation.shared_file", lambda name: None)
    with pytest.raises(ConfigError, match="own_robot.yaml is not installed: give --config"):
        _train(tmp_path)


def test_a_share_of_the_start_stays_in_what_was_learnt(tmp_path):
    """Weights halfway between those of the bundle and those of the checkpoint."""
    config = _config(start_share=0.25)
    tasks = tasks_over(config.tasks, NYU13)
    start = starting_network(config, tasks).state_dict()
    moved = {
        f"network.{key}": value + 0.5 if value.is_floating_point() else value
        for key, value in start.items()
    }
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": moved, "epoch": 0}, checkpoint)
    network, _ = network_from_checkpoint(checkpoint, config)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, start[key] + 0.375, atol=2e-3, rtol=2e-3)
    with pytest.raises(ValueError, match="start_share"):
        _config(start_share=0.25, start_from=None)
