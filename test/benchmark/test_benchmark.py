# SPDX-License-Identifier: Apache-2.0
"""Protocol files and the runs that they ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmark.protocol import Protocol
from benchmark.runs import check_results, chosen, recorded, runs_of
from proto_mtl_ros.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = ("segmentation", "depth", "normals")

PROTOCOL = {
    "name": "small",
    "base": {
        "canonical_fx": 100.0,
        "input_height": 64,
        "input_width": 96,
        "epochs": 2,
        "model": {"retrieval": "none", "width": 16},
        "loss": {"answers": 0.0, "normals": 3.0},
    },
    "manifests": {"one_label": "manifests/one_label.csv", "all": None},
    "seeds": [0, 1],
    "methods": {
        "single_task": {"label": "single-task", "per_task": True},
        "multi_task": {"label": "multi-task"},
        "ours": {"teachers": "single_task", "loss": {"geometry": 0.1, "distillation": 1.0}},
    },
    "ablations": {
        "manifest": "one_label",
        "rows": {
            "multi_task": {"like": "multi_task"},
            "alone": {"like": "ours", "teachers": None, "loss": {"distillation": 0.0}},
        },
    },
}


def _changed(*path: str, value: object) -> dict:
    """The protocol with another value at a path of keys."""
    content = json.loads(json.dumps(PROTOCOL))
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return content


def _read(folder: Path, content: dict) -> Protocol:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Protocol.read(path)


def test_runs_come_seed_by_seed_with_teachers_first_and_ablations_last(tmp_path):
    runs = runs_of(_read(tmp_path, PROTOCOL))
    keys = [run.key for run in runs]
    per_seed = [*(f"single_task-{task}" for task in TASKS), "multi_task-all", "ours-all"]
    expected = [
        f"{manifest}/{name}-seed{seed}"
        for manifest in ("one_label", "all")
        for seed in (0, 1)
        for name in per_seed
    ]
    assert keys == [*expected, "one_label/ablation/alone-all-seed0"]
    by_key = {run.key: run for run in runs}
    assert by_key["one_label/single_task-depth-seed1"].config().tasks == ("depth",)
    ours = by_key["one_label/ours-all-seed1"]
    assert {t: r.key for t, r in ours.teachers.items()} == {
        task: f"one_label/single_task-{task}-seed1" for task in TASKS
    }


def test_a_row_is_the_base_with_its_own_keys_laid_over_it(tmp_path):
    by_key = {run.key: run for run in runs_of(_read(tmp_path, PROTOCOL))}
    ours = by_key["one_label/ours-all-seed1"].config({"depth": Path("d.ckpt")})
    assert (ours.seed, ours.data.manifest) == (1, "manifests/one_label.csv")
    assert (
        set(ours.loss.active) == {"geometry", "distillation"} and ours.loss.weight("normals") == 3.0
    )
    assert ours.distillation.teachers == {"depth": "d.ckpt"}
    assert "d.ckpt" not in json.dumps(recorded(ours))
    assert by_key["all/ours-all-seed0"].config().data.manifest is None
    alone = by_key["one_label/ablation/alone-all-seed0"]
    assert not alone.teachers
    assert set(alone.config().loss.active) == {"geometry"}


def test_only_takes_the_teachers_along_and_refuses_what_names_nothing(tmp_path):
    runs = runs_of(_read(tmp_path, PROTOCOL))
    keys = [run.key for run in chosen(runs, ["one_label/ours-all-seed1"])]
    assert keys == [
        *(f"one_label/single_task-{task}-seed1" for task in TASKS),
        "one_label/ours-all-seed1",
    ]
    assert [run.row for run in chosen(runs, ["*/ablation/*"])] == ["one_label/ablation/alone"]
    with pytest.raises(ConfigError, match="--only one_label/urs names no run.*one_label/ours"):
        chosen(runs, ["one_label/urs"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_changed("seed", value=3), "seed"),
        (
            _changed("methods", "ours", "loss", "tkee", value=1),
            r"methods\.ours\.loss: 'tkee' is neither",
        ),
        (_changed("methods", "ours", "optimizer", value={}), r"methods\.ours\.optimizer"),
        (_changed("base", "modl", value={}), r"base\.modl"),
        (_changed("base", "seed", value=1), r"base\.seed"),
        (_changed("methods", "ours", "teachers", value="nobody"), "teachers: no method 'nobody'"),
        (_changed("methods", "ours", "teachers", value="multi_task"), "must be per_task"),
        (_changed("methods", "a/b", value={}), "'a/b' cannot be part of a file's name"),
        (_changed("methods", "ours", "like", value="ours"), "like itself"),
        (_changed("ablations", "split", value="val"), r"ablations\.split"),
        (_changed("ablations", "manifest", value="none"), "no manifest 'none'"),
        (_changed("manifests", "all", value={"methods": ["theirs"]}), "no method 'theirs'"),
    ],
)
def test_bad_protocol_is_refused_and_the_key_named(tmp_path, content, said):
    with pytest.raises(ConfigError, match=said) as caught:
        _read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_results_of_another_configuration_are_refused(tmp_path):
    runs = runs_of(_read(tmp_path, PROTOCOL))
    run = next(run for run in runs if run.key == "one_label/multi_task-all-seed0")
    path = run.result(tmp_path)
    path.parent.mkdir(parents=True)
    config = recorded(run.config())
    path.write_text(json.dumps({"config": {**config, "threads": 7}}))
    check_results(runs, tmp_path)  # the number of threads is of no account
    config["loss"]["tasks"]["normals"] = 2.0
    path.write_text(json.dumps({"config": config}))
    with pytest.raises(ConfigError, match=r"multi_task-all-seed0.json.*loss.*normals = 2.0, not 3"):
        check_results(runs, tmp_path)
    config["loss"]["of_an_older_release"] = 2.0
    path.write_text(json.dumps({"config": config}))
    with pytest.raises(ConfigError, match="made with a configuration of another version"):
        check_results(runs, tmp_path)


def test_committed_results_are_of_the_committed_protocol():
    """They were made by the first release, whose options of the network were others."""
    protocol = Protocol.read(REPOSITORY / "benchmark" / "protocols" / "cpu.yaml")
    check_results(runs_of(protocol), REPOSITORY / "benchmark" / "results")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_protocols_of_the_repository_have_the_rows_that_are_compared(name):
    protocol = Protocol.read(REPOSITORY / "benchmark" / "protocols" / f"{name}.yaml")
    assert protocol.name == name
    expected = {"single_task", "multi_task", "mtpsl", "jtr", "paper", "ours"}
    assert expected <= set(protocol.methods)
    assert (
        protocol.base["data"]["held_out_blocks"] * protocol.base["data"]["held_out_length"] == 100
    )
    height, width = protocol.base["input_height"], protocol.base["input_width"]
    assert (height, width) == ((96, 128) if name == "cpu" else (288, 384))
    # NYUv2's focal length, 518.857901 px at a width of 640
    assert protocol.base["canonical_fx"] == pytest.approx(518.857901 / 640 * width, abs=1e-6)
    configs = [run.config() for run in runs_of(protocol)]
    # equal steps and batches for every row
    assert len({(config.epochs, config.optimiser.batch) for config in configs}) == 1
