# SPDX-License-Identifier: Apache-2.0
"""A benchmark as a user runs it: in child processes, killed, continued, with a run that fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from nyuv2_pack import write_pack

from benchmark import runner
from benchmark.__main__ import run as run_benchmark
from benchmark.protocol import Protocol
from benchmark.run import BUSY, FAILURE, main
from benchmark.runs import Run, runs_of
from proto_mtl_ros.files import sole_use, write_text

pytestmark = pytest.mark.timeout(600)

REPOSITORY = Path(__file__).resolve().parents[2]

PROTOCOL = {
    "name": "tiny",
    "base": {
        "tasks": ["depth"],  # one network per row; more would only take longer
        "canonical_fx": 100.0,
        "input_height": 64,
        "input_width": 64,
        "epochs": 5,
        "model": {"width": 16, "retrieval": "none"},
        "data": {"held_out_blocks": 1, "held_out_length": 2},
        "loss": {"answers": 0.0},
        "optimiser": {"batch": 2, "warmup_steps": 2, "decay_epochs": 1},
    },
    "manifests": {"one_label": "manifests/one_label.csv"},
    "seeds": [0, 1],
    "methods": {
        "single_task": {"per_task": True},
        "ours": {"teachers": "single_task", "loss": {"distillation": 1.0}},
    },
    "ablations": {
        "manifest": "one_label",
        "rows": {"broken": {"optimiser": {"batch": 500}}},
    },
}


def _command(folder: Path, pack: Path, *more: object) -> list[str]:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(PROTOCOL, sort_keys=False))
    options = {
        "protocol": folder / "tiny.yaml",
        "data": pack,
        "results": folder / "results",
        "docs": folder / "docs",
        "work": folder / "work",
    }
    pairs = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "benchmark", *pairs, *map(str, more)]


def _start(command: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def _wait(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_killed_benchmark_continues_and_runs_nothing_twice(tmp_path):
    pack = write_pack(tmp_path / "pack", train=8, val=2)
    results = tmp_path / "results" / "tiny" / "one_label"
    work = tmp_path / "work" / "tiny" / "one_label"
    first, second = results / "single_task-depth-seed0.json", work / "ours-all-seed0"

    process = _start(_command(tmp_path, pack))
    _wait(process, lambda: (second / "last.ckpt").exists())
    children = _children(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone and not alive  # the child ended with the runner
    assert [path.name for path in results.iterdir()] == [first.name]
    assert not (second / "trained.json").exists()
    content, written = first.read_text(), first.stat().st_mtime_ns

    process = _start(_command(tmp_path, pack, "--workers", 2))
    stdout, stderr = process.communicate(timeout=500)
    # what could be done was done, what failed is named with its reason
    assert process.returncode == 6
    assert stderr.strip().startswith(
        "python -m benchmark: 1 runs failed: one_label/ablation/broken"
    )
    assert "failed   one_label/ablation/broken-all-seed0: optimiser.batch is 500" in stdout
    assert "5 runs, 1 finished before, 2 at a time" in stdout
    assert re.match(r"about \d+ .*: 4 runs of 6 frames x 5 epochs at .* frames/s, 2 at", stdout)
    assert (first.read_text(), first.stat().st_mtime_ns) == (content, written)
    assert json.loads((second / "attempt.json").read_text())["before"] > 0  # went on, not anew

    files = {path.name: json.loads(path.read_text()) for path in results.glob("*.json")}
    assert sorted(files) == [
        "ours-all-seed0.json",
        "ours-all-seed1.json",
        "single_task-depth-seed0.json",
        "single_task-depth-seed1.json",
    ]
    everything = (first.read_text(), *(path.read_text() for path in results.glob("*.json")))
    assert not any(str(tmp_path) in text for text in everything)  # no path of this machine
    for file in files.values():
        assert set(file["figures"]) == {"held_out", "val"}
        assert file["figures"]["val"]["frames"] == 2
        assert file["affinity_entropy"] is None
        assert file["train_minutes"] > 0
        # 5 epochs of 3 steps of 2 frames
        seconds = file["train_minutes"] * 60
        assert file["train_frames_per_second"] == pytest.approx(30 / seconds, rel=1e-6)

    rows = json.loads((tmp_path / "docs/benchmark.json").read_text())
    assert {row["method"]: row["seeds"] for row in rows} == {"single_task": [0, 1], "ours": [0, 1]}


@pytest.mark.slow
def test_ended_benchmark_leaves_no_process_and_no_half_a_file(tmp_path):
    pack = write_pack(tmp_path / "pack", train=6, val=1)
    process = _start(_command(tmp_path, pack))
    _wait(process, lambda: bool(_children(process)))
    children = _children(process)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in stderr
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert not (tmp_path / "results").exists()


def test_two_runners_do_not_train_the_same_run(tmp_path):
    spec = tmp_path / "run.json"
    spec.write_text(json.dumps({"folder": str(tmp_path / "run")}))
    with sole_use(tmp_path / "run"):
        command = [sys.executable, "-m", "benchmark.run", str(spec)]
        assert subprocess.run(command, timeout=60).returncode == BUSY


def _runs(folder: Path, **methods: object) -> list[Run]:
    """The runs of seed 0 of a protocol with these methods, without ablations."""
    content = {**PROTOCOL, "seeds": [0], "methods": methods}
    del content["ablations"]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return runs_of(Protocol.read(folder / "tiny.yaml"))


def test_what_another_process_is_at_is_waited_for_and_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AGAIN_AFTER_S", 0.3)
    runs = _runs(tmp_path, **PROTOCOL["methods"])
    teacher = runs[0]
    lines: list[str] = []

    def finished() -> None:
        for run in reversed(runs):
            write_text(run.result(tmp_path / "results"), "{}")

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            threading.Timer(1.5, finished).start()

    with sole_use(teacher.folder(tmp_path / "work")):
        found = runner.Runner(tmp_path, tmp_path / "results", tmp_path / "work", say=say)
        found.go(runs)
    assert not found.failures
    assert [line.split()[:2] for line in lines] == [
        ["2", "runs,"],
        ["started", teacher.key],
        ["waiting", f"{teacher.key}:"],
    ]


@pytest.mark.slow
def test_a_child_that_is_killed_or_does_not_end_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_END_S", 0.2)
    run, taught = _runs(tmp_path, **PROTOCOL["methods"])
    this = psutil.Process()
    before = {child.pid for child in this.children()}

    def started(signal_number: int) -> runner.Runner:
        def say(line: str) -> None:
            if line.startswith("started"):
                (child,) = [c for c in this.children() if c.pid not in before]
                child.send_signal(signal_number)
                if signal_number == signal.SIGSTOP:  # it cannot heed a request to end
                    raise KeyboardInterrupt

        return runner.Runner(tmp_path, tmp_path / "results", tmp_path / "work", say=say)

    killed = started(signal.SIGKILL)
    killed.go([run, taught])
    assert killed.failures[run.key].startswith("status -9 (log: ")
    assert killed.failures[taught.key] == f"its teacher {run.key} failed"
    with pytest.raises(KeyboardInterrupt):
        started(signal.SIGSTOP).go([run, taught])
    assert {child.pid for child in this.children()} <= before
    assert [path.name for path in run.folder(tmp_path / "work").iterdir()] == [runner.LOG]


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again_nor_with_other_settings(tmp_path, monkeypatch):
    """A run by hand in a terminal, whose input nobody closes."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    pack = write_pack(tmp_path / "pack", train=6, val=1)
    folder, result = tmp_path / "run", tmp_path / "result.json"
    (run,) = _runs(tmp_path, multi_task={})
    settings = run.config().model_dump(mode="json")
    settings["epochs"] = 1

    def done(**changes: object) -> int:
        spec = {
            **{key: getattr(run, key) for key in ("protocol", "manifest", "method", "task")},
            "seed": 0, "ablation": True, "config": {**settings, **changes},
            "data": str(pack), "folder": str(folder), "result": str(result),
        }  # fmt: skip
        (tmp_path / "run.json").write_text(json.dumps(spec))
        return main([str(tmp_path / "run.json")])

    assert done() == 0
    # frames that no row was trained on are all that an ablation may look at
    assert set(json.loads(result.read_text())["figures"]) == {"held_out"}
    trained, figures = (folder / "trained.json").read_text(), result.read_text()
    result.write_text("as it was")
    assert done() == 0 and result.read_text() == "as it was"
    result.unlink()
    assert done() == 0 and json.loads(result.read_text()) == json.loads(figures)
    assert (folder / "trained.json").read_text() == trained
    assert done(canonical_fx=50.0) == 1
    said = (folder / FAILURE).read_text()
    assert "trained with canonical_fx = 100.0, not 50.0; delete it to train again" in said


def test_bad_input_ends_in_one_line(tmp_path, capfd):
    pack = write_pack(tmp_path / "pack", train=3, val=1)
    for arguments, said, status in (
        (("--only", "one_label/nobody"), "names no run", 2),
        (("--data", tmp_path / "none"), "splits.csv", 3),
    ):
        with pytest.raises(SystemExit) as end:
            run_benchmark(_command(tmp_path, pack, *arguments)[3:])
        stderr = capfd.readouterr().err
        assert end.value.code == status
        assert said in stderr
        assert len(stderr.strip().splitlines()) == 1
