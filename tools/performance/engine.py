# SPDX-License-Identifier: Apache-2.0
"""Milliseconds per frame of engines, each in a process of its own, compared in one run.

The process, `python -m tools.performance.engine <setting as JSON>`, gets a number of frames on each
line of standard input and answers each with a JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

from proto_mtl_ros.errors import EngineError, ProtoMtlError, one_line
from tools.processes import from_word, peak_memory, to_word

_BORN = time.perf_counter()


@dataclass(frozen=True)
class EngineSetting:
    """An engine to measure; ``size``: (height, width) of the input, None for the model's own."""

    model: str = "nyu13-lite0"
    backend: str = "auto"
    precision: str = "auto"
    device: str = "cpu"
    threads: int = 1
    size: tuple[int, int] | None = None
    batch: int = 1


class EngineProcess:
    """An engine that another process holds.

    Attributes:
        facts: what the process said of its engine.
        milliseconds: of every call so far.
    """

    def __init__(self, setting: EngineSetting, cores: frozenset[int] | None = None) -> None:
        """Start it on these CPUs, None for any; EngineError when there is no such engine."""
        self.setting = setting
        self.milliseconds: list[float] = []
        self.peak_memory = 0
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tools.performance.engine", to_word(setting)],
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
    settings: Sequence[EngineSetting], rounds: int = 10, frames: int = 10
) -> list[dict[str, Any]]:
    """Measure engines in turn, ``frames`` frames each in every round.

    Returns:
        one row per setting, see ``EngineProcess.row``; or ``error``, why there is nothing.
    """
    from rich.progress import track

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


def main(arguments: list[str]) -> int:
    """Be the process of one engine."""
    try:
        _serve(from_word(EngineSetting, arguments[0]))
    except ProtoMtlError as error:
        _say(error=one_line(error))
        return 1
    return 0


def _serve(setting: EngineSetting) -> None:
    import numpy as np

    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.engine import create_engine

    bundle = Bundle.load(setting.model)
    size = setting.size or bundle.manifest.input_size
    engine = create_engine(
        bundle,
        setting.backend,
        setting.device,
        setting.threads,
        precision=setting.precision,
        input_size=size,
        max_batch=setting.batch,
    )
    loaded = time.perf_counter()
    engine.warm_up(setting.batch, size)
    images = np.random.default_rng(0).integers(0, 256, (setting.batch, *size, 3), np.uint8)
    _say(
        backend=engine.name,
        precision=engine.precision,
        device=engine.device,
        size=list(size),
        load_seconds=loaded - _BORN,
        first_output_seconds=time.perf_counter() - _BORN,
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            engine.infer(images)
            times.append(1e3 * (time.perf_counter() - start))
        _say(milliseconds=times, peak_memory=peak_memory())


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
