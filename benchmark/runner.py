# SPDX-License-Identifier: Apache-2.0
"""Runs a list of runs in child processes, and can be ended and continued at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch

from benchmark.run import BUSY, FAILURE
from benchmark.runs import Run, is_trained
from proto_mtl_ros.data.table import read_splits
from proto_mtl_ros.files import write_text
from proto_mtl_ros.model import build_network
from proto_mtl_ros.tasks import NYU13, tasks_over
from proto_mtl_ros.training.config import LAST, TrainConfig
from proto_mtl_ros.training.monitor import duration

LOG = "log.txt"
"""What a run printed, beside its checkpoint."""

_AGAIN_AFTER_S = 5.0
"""How long a run that another process is at is left alone."""

_END_S = 15.0
"""How long a child may take to end before it is killed."""


@dataclass
class _Child:
    run: Run
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float


@dataclass
class Runner:
    """Starts runs in their order as soon as a worker is free and their teachers are trained.

    ``work`` is the folder of checkpoints and logs; workers share the cores evenly; ``failures`` are
    the reasons by the key of the run."""

    data: Path
    results: Path
    work: Path
    workers: int = 1
    say: Callable[[str], None] = print
    failures: dict[str, str] = field(default_factory=dict)
    _children: list[_Child] = field(default_factory=list)
    _not_before: dict[str, float] = field(default_factory=dict)
    _minutes: list[float] = field(default_factory=list)

    def go(self, runs: Sequence[Run]) -> None:
        """Do what is missing of ``runs``. However this is left, no child is left behind."""
        pending = self.missing(runs)
        done = len(runs) - len(pending)
        self.say(f"{len(runs)} runs, {done} finished before, {self.workers} at a time")
        try:
            while pending or self._children:
                pending = self._without_finished(pending)
                while len(self._children) < self.workers:
                    run = self._next(pending)
                    if run is None:
                        break
                    pending.remove(run)
                    self._start(run)
                for child in [c for c in self._children if c.process.poll() is not None]:
                    self._children.remove(child)
                    if self._ended(child, len(pending)) == BUSY:
                        pending.insert(0, child.run)
                time.sleep(0.1)
        finally:
            self._end_all()

    @property
    def threads(self) -> int:
        return max(1, _cores() // self.workers)

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs without figures, and finished teachers whose networks are missing."""
        missing = {run.key for run in runs if not run.result(self.results).is_file()}
        for run in runs:
            if run.key in missing:
                missing |= {t.key for t in run.teachers.values() if not self._trained(t)}
        return [run for run in runs if run.key in missing]

    def _trained(self, run: Run) -> bool:
        folder = run.folder(self.work)
        return (folder / LAST).is_file() and is_trained(folder, run.config())

    def _without_finished(self, pending: Sequence[Run]) -> list[Run]:
        """Drop what another process has finished, and what can no longer be done."""
        wanted = {t.key for run in pending for t in run.teachers.values()}
        kept = []
        for run in pending:
            failed = [t.key for t in run.teachers.values() if t.key in self.failures]
            if failed:
                self._failed(run, f"its teacher {failed[0]} failed")
                continue
            finished = run.result(self.results).is_file()
            if not finished or (run.key in wanted and not self._trained(run)):
                kept.append(run)
        return kept

    def _next(self, pending: Sequence[Run]) -> Run | None:
        now = time.monotonic()
        for run in pending:
            ready = all(self._trained(teacher) for teacher in run.teachers.values())
            if ready and self._not_before.get(run.key, 0.0) <= now:
                return run
        return None

    def _start(self, run: Run) -> None:
        folder = run.folder(self.work)
        threads = self.threads
        checkpoints = {task: t.folder(self.work) / LAST for task, t in run.teachers.items()}
        config = run.config(checkpoints).model_copy(update={"threads": threads})
        spec = {
            **{key: getattr(run, key) for key in ("protocol", "manifest", "method", "task")},
            "seed": run.seed,
            "ablation": run.ablation,
            "config": config.model_dump(mode="json"),
            "data": str(self.data.resolve()),
            "folder": str(folder.resolve()),
            "result": str(run.result(self.results).resolve()),
        }
        # one file per runner: another one may be at the same run
        path = folder / f"run-{os.getpid()}.json"
        write_text(path, json.dumps(spec, indent=1) + "\n")
        log = (folder / LOG).open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.run", str(path)],
            stdin=subprocess.PIPE,  # closes when this process ends, however it ends
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(threads),
            start_new_session=True,  # Ctrl-C is for this process, which then ends its children
        )
        self._children.append(_Child(run, process, log, time.monotonic()))
        if run.key not in self._not_before:
            self.say(f"started  {run.key} (log: {folder / LOG})")

    def _ended(self, child: _Child, left: int) -> int:
        self._close(child)
        run, status = child.run, child.process.returncode
        if status == BUSY:
            if run.key not in self._not_before:
                self.say(f"waiting  {run.key}: another process is at it")
            self._not_before[run.key] = time.monotonic() + _AGAIN_AFTER_S
            return status
        if status == 0:
            self._minutes.append((time.monotonic() - child.started) / 60)
            self.say(f"finished {run.key} in {self._minutes[-1]:.1f} min{self._outlook(left)}")
        else:
            folder = run.folder(self.work)
            reason = last_line(folder / FAILURE) or last_line(folder / LOG) or f"status {status}"
            self._failed(run, f"{reason} (log: {folder / LOG})")
        return status

    def _outlook(self, left: int) -> str:
        waiting = left + len(self._children)
        mean = sum(self._minutes) / len(self._minutes)
        rest = waiting * mean / self.workers
        return f"; {waiting} to go, about {rest:.0f} min" if waiting else ""

    def _failed(self, run: Run, reason: str) -> None:
        self.failures[run.key] = reason
        self.say(f"failed   {run.key}: {reason}")

    def _close(self, child: _Child) -> None:
        child.log.close()
        assert child.process.stdin is not None
        child.process.stdin.close()
        for path in child.run.folder(self.work).glob(f"run-{os.getpid()}.json"):
            path.unlink()

    def _end_all(self) -> None:
        """End the children by their ids; what they had begun is continued the next time."""
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + _END_S
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._close(child)
        self._children.clear()


def last_line(path: Path) -> str:
    """Return the last line of a file that says something; "" if there is none."""
    try:
        text = path.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(threads: int) -> Mapping[str, str]:
    """The environment of a child: this package, its share of the cores, no busy waiting."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
    }


_STEPS = 3
_BESIDE = 1.3
"""Chosen: what a run takes longer than its network alone, for batches, losses and figures."""


def frames_per_second(config: TrainConfig, threads: int) -> float:
    """Return how many frames the network of a run goes through, forward and back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_network(tasks_over(config.tasks, NYU13), **config.model.arguments)
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if config.optimiser.frozen_blocks:
        for part in network.backbone.parts()[: 1 + config.optimiser.frozen_blocks]:  # type: ignore[operator]
            part.requires_grad_(False)
    images = torch.zeros(config.optimiser.batch, *config.size, 3, dtype=torch.uint8, device=device)
    start = 0.0
    for step in range(_STEPS + 1):
        if step == 1:  # the first one is not like the others
            start = time.perf_counter()
        raw = network(network.normalise(images)).raw
        torch.stack([values.mean() for values in raw.values()]).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    torch.set_num_threads(before)
    return _STEPS * len(images) / (time.perf_counter() - start)


def outlook(runs: Sequence[Run], data: Path, workers: int, threads: int) -> str:
    """Return a line on how long ``runs`` will take, several at a time."""
    if not runs:
        return "nothing to train"
    config = runs[0].config()
    held = config.data.held_out_blocks * config.data.held_out_length
    frames = max(1, len(read_splits(data / "splits.csv").get("train", [])) - held)
    frames = min(frames, config.data.limit or frames)
    rate = frames_per_second(config, threads) / _BESIDE
    seconds = sum(frames * run.config().epochs for run in runs) / rate / workers
    return (
        f"about {duration(seconds)}: {len(runs)} runs of {frames} frames x {config.epochs} epochs"
        f" at {rate:.1f} frames/s, {workers} at a time"
    )
