# SPDX-License-Identifier: Apache-2.0
"""The numbers of benchmark tables: deltas by hand, seeds, pages, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from benchmark.pages import write_tables
from benchmark.rows import HELD_OUT, VAL, read_results, relative_changes, rows_of
from benchmark.tables import OURS as OURS_COLOUR
from benchmark.tables import delta_chart, main_table, noise_line, share_table
from proto_mtl_ros.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = ("segmentation", "depth", "normals")


def _result(method: str, seed: int, values: dict[str, float], **changes) -> dict:
    """A result file's content; ``values`` on val, worse by a tenth on held-out frames."""
    metric = {"segmentation": "miou", "depth": "abs_err", "normals": "mean_deg"}
    val = {task: {metric[task]: value} for task, value in values.items()}
    held_out = {task: {metric[task]: value * 1.1} for task, value in values.items()}
    return {
        "protocol": "small",
        "manifest": "one_label",
        "method": method,
        "task": "all",
        "seed": seed,
        "ablation": False,
        "figures": {
            VAL: {"frames": 4, **val},
            HELD_OUT: {"frames": 2, **held_out},
        },
        "affinity_entropy": None,
        "parameters": 2_000_000,
        "train_minutes": 3.0,
        "threads": 1,
        "torch": "2",
        "processor": "one",
        "gpu": None,
        **changes,
    }


def _figures(segmentation: float, depth: float, normals: float) -> dict[str, float]:
    return {"segmentation": segmentation, "depth": depth, "normals": normals}


SINGLE = {0: _figures(0.40, 0.50, 25.0), 1: _figures(0.50, 0.40, 20.0)}
OURS = {0: _figures(0.44, 0.45, 26.0), 1: _figures(0.55, 0.42, 18.0)}


def _results() -> list[dict]:
    """Single-task networks of two seeds, one file per task, and a method of two seeds."""
    found = []
    for seed, values in SINGLE.items():
        for task, value in values.items():
            found.append(_result("single_task", seed, {task: value}, task=task))
    return [*found, *(_result("ours", seed, OURS[seed], affinity_entropy=0.5) for seed in OURS)]


def _rows(results: list[dict], split: str = VAL) -> dict[str, dict]:
    def of(method: str) -> list[dict]:
        return [result for result in results if result["method"] == method]

    methods = {name: (name, of(name)) for name in ("single_task", "multi_task", "ours")}
    baselines = {name: of(name) for name in ("single_task", "multi_task")}
    identity = {"protocol": "small", "manifest": "one_label"}
    return {row["method"]: row for row in rows_of(identity, methods, baselines, split, TASKS)}


def test_delta_equals_hand_numbers():
    # seed 0: +10 %, +10 %, -4 %; seed 1: +10 %, -5 %, +10 %
    changes = relative_changes(OURS[0], SINGLE[0])
    assert changes == pytest.approx({"segmentation": 10.0, "depth": 10.0, "normals": -4.0})
    row = _rows(_results())["ours"]
    by_task = row["delta_by_task_vs_single_task_percent"]
    assert by_task["depth"] == pytest.approx({"mean": 2.5, "std": 15 / 2**0.5}, abs=1e-5)
    delta = row["delta_vs_single_task_percent"]
    assert delta == pytest.approx({"mean": (16 / 3 + 5.0) / 2, "std": (1 / 3) / 2**0.5}, abs=1e-5)
    assert row["segmentation_miou"]["mean"] == pytest.approx(0.495)
    assert row["delta_vs_multi_task_percent"] is None  # there is no such row
    assert row["affinity_entropy"]["mean"] == 0.5


def test_networks_of_single_tasks_are_one_row():
    row = _rows(_results())["single_task"]
    assert row["parameters_million"] == 6.0
    assert row["train_minutes"] == 9.0
    assert row["depth_abs_err"]["mean"] == pytest.approx(0.45)
    assert row["delta_vs_single_task_percent"] == {"mean": 0.0, "std": 0.0}


def test_baseline_is_the_one_of_the_same_seed_and_incomplete_seeds_are_left_out():
    results = [r for r in _results() if (r["seed"], r["task"]) != (1, "normals")]
    rows = _rows(results)
    assert rows["single_task"]["seeds"] == [0]
    assert rows["ours"]["seeds"] == [0, 1]
    delta = rows["ours"]["delta_vs_single_task_percent"]
    assert delta == {"mean": pytest.approx(16 / 3, abs=1e-5), "std": None}


def test_a_delta_is_over_all_tasks_or_none():
    results = _results()
    for result in results:
        if result["method"] == "single_task" and result["task"] == "segmentation":
            result["figures"][VAL]["segmentation"]["miou"] = 0.0  # no relative change from zero
    row = _rows(results)["ours"]
    assert row["delta_vs_single_task_percent"] is None
    assert row["delta_by_task_vs_single_task_percent"]["depth"] is not None


def test_tables_say_what_rows_say():
    rows = _rows(_results())
    table = main_table(list(rows.values()))
    assert "delta vs single-task, %" in table
    assert (
        "| ours | 0, 1 | 0.4950 ± 0.0778 | 0.4350 ± 0.0212 | 22.00 ± 5.66 | +5.17 ± 0.24 | - |"
        in (table)
    )
    assert "not known" in noise_line(list(rows.values()))
    full = {**rows["ours"], "method": "multi_task", "segmentation_miou": {"mean": 0.99}}
    assert "| ours | 50.0 | 100.0 | 100.0 | 83.3 |" in share_table([rows["ours"]], [full])
    assert share_table([rows["ours"]], [{**full, "method": "ours"}]) == ""


def test_bars_of_the_chart_point_the_right_way():
    content = delta_chart(list(_rows(_results()).values()))
    assert content is not None
    chart = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    colour = tuple(int(OURS_COLOUR[i : i + 2], 16) for i in (1, 3, 5))
    drawn = (chart == colour).all(-1).any(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])))
    starts, ends = edges[::2], edges[1::2]
    # the line of a standard deviation may divide a bar
    new = np.concatenate([[True], starts[1:] - ends[:-1] > 4])
    lengths = np.array([e[-1] - s[0] for s, e in _bars(starts, ends, new)])
    # bars of the mean (+5.2), segmentation (+10), depth (+2.5) and normals (+3): ends to the right
    expected = np.array([31 / 6, 10.0, 2.5, 3.0])
    assert np.allclose(lengths / max(lengths), expected / 10, atol=0.03)
    assert delta_chart([]) is None


def _bars(starts, ends, new):
    groups = np.cumsum(new)
    return [(starts[groups == g], ends[groups == g]) for g in np.unique(groups)]


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "half.json").write_text('{"protocol": ')
    with pytest.raises(DataError, match=r"half\.json is no result"):
        read_results(tmp_path)


def _write_protocol(folder: Path, name: str, **more: object) -> Path:
    content = {
        "name": name,
        "base": {"canonical_fx": 100.0, "input_height": 64, "input_width": 96,
                 "epochs": 2},
        "manifests": {"one_label": "manifests/one_label.csv", "all": None},
        "seeds": [0, 1],
        "methods": {"multi_task": {"label": "multi-task"}, "ours": {"label": "ours"}},
        **more,
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / f"{name}.yaml"


def test_pages_hold_what_is_finished_of_every_protocol_and_nothing_else(tmp_path):
    ablations = {"manifest": "one_label", "rows": {"alone": {"like": "ours"}}}
    asked = _write_protocol(tmp_path, "asked", ablations=ablations)
    _write_protocol(tmp_path, "beside")
    _write_protocol(tmp_path, "unfinished")
    (tmp_path / "broken.yaml").write_text("name: 3")
    results, docs = tmp_path / "results", tmp_path / "docs"
    assert write_tables(asked, results, docs).startswith(f"no result below {results} yet")
    assert not docs.exists()

    for protocol in ("asked", "beside"):
        (results / protocol).mkdir(parents=True)
        content = _result("ours", 0, OURS[0], protocol=protocol)
        (results / protocol / "ours.json").write_text(json.dumps(content))
    said = write_tables(asked, results)
    assert not docs.exists()  # nothing is written unasked
    assert write_tables(asked, results, docs) == said and "left out: " in said
    assert "broken.yaml: name" in said  # and costs nobody a table
    assert "### asked, one_label" in said and "held-out frames" in said
    assert "beside" not in said and "asked, all" not in said
    page = (docs / "benchmark.md").read_text()
    assert "## Protocol asked" in page and "## Protocol beside" in page
    assert "unfinished" not in page and "multi-task |" not in page
    rows = json.loads((docs / "benchmark.json").read_text())
    assert [(row["protocol"], row["method"]) for row in rows] == [
        ("asked", "ours"),
        ("beside", "ours"),
    ]
    # with nothing to compare with there is no picture of differences
    assert "![" not in page and not (docs / "images").exists()
    ablation = (docs / "benchmark_ablation.md").read_text()
    assert "Protocol asked" in ablation and "beside" not in ablation


def test_pages_are_those_of_the_committed_results(tmp_path, monkeypatch):
    """After new results: benchmark --protocol benchmark/protocols/cpu.yaml --table-only."""
    results, docs = REPOSITORY / "benchmark" / "results", REPOSITORY / "docs"
    if not results.is_dir() and not (docs / "benchmark.json").exists():
        pytest.skip("this checkout has no benchmark results")
    monkeypatch.chdir(REPOSITORY)
    write_tables(Path("benchmark/protocols/cpu.yaml"), Path("benchmark/results"), tmp_path)
    for page in ("benchmark.json", "benchmark.md", "benchmark_ablation.md"):
        if (tmp_path / page).exists() or (docs / page).exists():
            assert (docs / page).read_text() == (tmp_path / page).read_text(), page
