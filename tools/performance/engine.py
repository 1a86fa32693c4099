# SPDX-License-Identifier: Apache-2.0
"""Milliseconds per frame of engines, compared in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

from rich.progress import track

from proto_mtl_ros.errors import EngineError
from tools.performance.engine_worker import EngineSetting
from tools.processes import to_word


class EngineProcess:
    """An engine that another process holds; see ``engine_worker``.

    Attributes:
        facts: what the process said of its engine.
        milliseconds: of every call so far.
    """

    def __init__(self, setting: EngineSetting, cores: frozenset[int] | None = None) -> None:
        """Start it on these CPUs, None for any, and wait until its engine has warmed up.

        Raises:
            EngineError: the engine cannot be created.
        """
        self.setting = setting
        self.milliseconds: list[float] = []
        self.peak_memory = 0
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tools.performance.engine_worker", to_word(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        )
        if cores is not None:
            os.sched_setaffinity(self._child.pid, cores)  # before it has other threads
        try:
            self.facts = self._read()
        except BaseException:
            self.close()
            raise

    def run(self, frames: int) -> None:
        """Run so many frames and keep their times."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # reading says that it has ended
            self._child.stdin.write(f"{frames}\n")
            self._child.stdin.flush()
        answer = self._read()
        self.milliseconds += answer["milliseconds"]
        self.peak_memory = answer["peak_memory"]

    def row(self) -> dict[str, Any]:
        """Return what was asked for, what it became, and the figures of the calls so far."""
        setting, times = self.setting, sorted(self.milliseconds)
        return {
            "asked": asdict(setting),
            **self.facts,
            "threads": setting.threads,
            "batch": setting.batch,
            "calls": len(times),
            "ms_p50": statistics.median(times),
            "ms_p95": times[round(0.95 * (len(times) - 1))],
            "ms_best": times[0],
            "images_per_second": 1e3 * setting.batch / statistics.median(times),
            "peak_memory_mib": self.peak_memory / 2**20,
        }

    def close(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        try:
            self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise EngineError(f"the process of {self.setting} ended without a word")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer


def measure(
    settings: Sequence[EngineSetting],
    rounds: int = 10,
    frames: int = 10,
) -> list[dict[str, Any]]:
    """Measure engines in turn, ``frames`` frames each in every one of ``rounds`` rounds.

    Returns:
        one row per setting: what was asked for, what it became, milliseconds per call (p50, p95,
        best), images per second, peak memory and start-up; or ``error``, why there is nothing.
    """
    with ExitStack() as stack:
        processes: list[EngineProcess | str] = []
        for setting in settings:
            try:
                process = EngineProcess(setting)
            except EngineError as error:
                processes.append(str(error))
            else:
                processes.append(process)
                stack.callback(process.close)
        for _ in track(range(rounds), "measuring"):
            for one in processes:
                if isinstance(one, EngineProcess):
                    one.run(frames)
        return [
            {"asked": asdict(setting), "error": one} if isinstance(one, str) else one.row()
            for setting, one in zip(settings, processes, strict=True)
        ]
