# SPDX-License-Identifier: Apache-2.0
"""Commands as processes that are killed: at moments of their time, or before a file operation.

What commands import is in memory before they are forked off, so a moment is one of their work.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PRELOADED = (
    "cv2",
    "lightning",
    "onnxscript",
    "torch.onnx",
    "proto_mtl_ros.cli.bag",
    "proto_mtl_ros.cli.export",
    "proto_mtl_ros.cli.train",
    "proto_mtl_ros.data.bags.frames",
    "proto_mtl_ros.evaluation.bag_pass",
    "proto_mtl_ros.runtime.engine_plan",
    "proto_mtl_ros.runtime.onnxruntime",
    "proto_mtl_ros.training.trainer",
)

_CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

LEFTOVERS = ("*.part", "*.tmp")

TRAINING = {
    "name": "smallest",
    "canonical_fx": 100.0,
    "input_height": 64,
    "input_width": 64,
    "threads": 1,
    "epochs": 4,
    "model": {"width": 16},
    "data": {"held_out_blocks": 1, "held_out_length": 2, "manifest": "manifests/one_label.csv"},
    "optimiser": {"batch": 4, "warmup_steps": 2, "decay_epochs": 1},
}


class FileOperations:
    """Counts the changes that this process makes to files; kills it before one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.count = 0
        self._fatal = fatal

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & _WRITING):
            self.count += 1
            if self.count == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)


def command(*arguments: object) -> None:
    """Run a command of `proto-mtl` as its entry point does."""
    from proto_mtl_ros.cli.main import run_command

    name, *rest = map(str, arguments)
    run_command(name, rest)


def _job(
    work: Callable[..., None],
    arguments: Sequence[object],
    folder: Path,
    fatal: int | None,
    environment: dict[str, str],
) -> None:
    os.environ.clear()  # the server was started before a test changed its own
    os.environ.update(environment)
    tempfile.tempdir = None
    for stream, name in ((1, "out"), (2, "err")):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), stream)
    sys.argv = ["proto-mtl", *map(str, arguments)]
    operations = FileOperations(fatal)
    sys.addaudithook(operations)
    try:
        work(*map(str, arguments))
    finally:
        (folder / "operations").write_text(str(operations.count))
        sys.stdout.flush()
        sys.stderr.flush()


class Job:
    """A process that is under way.

    Args:
        folder: takes what it prints.
        work: what it does; importable.
        fatal: number of the file operation before which it is killed.
    """

    def __init__(
        self, folder: Path, work: Callable[..., None], *arguments: object, fatal: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.start = time.monotonic()
        self.process = context.Process(
            target=_job, args=(work, arguments, folder, fatal, dict(os.environ)), daemon=True
        )
        self.process.start()
        self.start = time.monotonic()

    def wait(self, seconds: float = 300.0) -> bool:
        """Wait so long for its end; return whether it has ended."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def kill(self) -> bool:
        """Kill it (SIGKILL); return whether it was still at work."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join(30)
        return self.killed

    def end(self) -> None:
        """Ask it to end (SIGTERM)."""
        os.kill(self.process.pid or 0, signal.SIGTERM)

    @property
    def killed(self) -> bool:
        return self.process.exitcode == -signal.SIGKILL

    @property
    def status(self) -> int | None:
        return self.process.exitcode

    @property
    def said(self) -> str:
        """What it printed on stderr."""
        return (self._folder / "err").read_text(errors="replace")

    @property
    def operations(self) -> int:
        """How many changes to files it made."""
        return int((self._folder / "operations").read_text())


def leftovers(*folders: Path) -> list[Path]:
    """Return what is not whole in these folders."""
    return [path for folder in folders for name in LEFTOVERS for path in folder.rglob(name)]


def files_of(out: Path) -> dict[str, bytes]:
    """Return the content of all files in a folder by their names."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def hold_open(recording: str) -> None:
    """Open a recording and keep it open."""
    from proto_mtl_ros.data.bags.bag import Bag

    with Bag(recording):
        time.sleep(600)
