# SPDX-License-Identifier: Apache-2.0
"""What the fault campaign tried and what came of it, for tools/reliability/README.md."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

from proto_mtl_ros.files import write_text


class FaultLog:
    """Collects the faults that tests tried; one entry per name, the newest stays."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}

    def add(
        self,
        test: str,
        group: str,
        name: str,
        *,
        seen: str,
        tried: int = 1,
        survived: int | None = None,
        lost: int = 0,
    ) -> None:
        """Note one kind of fault.

        Args:
            test: pytest's id of the test that tried it.
            group: the heading it stands under: "camera", "engine", "disk" ...
            name: what was done, as a reader would say it: "camera stops and returns".
            tried, survived: how often, and after how many of them everything worked again: all.
            lost: results, frames or files lost that should not have been.
            seen: what an operator sees of it: the diagnosis, the line, the exit code.
        """
        survived = tried if survived is None else survived
        assert 0 <= survived <= tried and lost >= 0 and seen
        self._entries[name] = {
            "group": group,
            "name": name,
            "tried": tried,
            "survived": survived,
            "lost": lost,
            "seen": seen,
            "test": test,
            "date": time.strftime("%Y-%m-%d"),
        }

    def write(self, path: Path) -> None:
        """Join the entries to those in the file; tests that did not run keep theirs."""
        with path.with_suffix(".lock").open("w") as lock:  # workers end at the same time
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            joined = {entry["name"]: entry for entry in before} | self._entries
            ordered = sorted(joined.values(), key=lambda entry: (entry["group"], entry["name"]))
            write_text(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")

    def __bool__(self) -> bool:
        return bool(self._entries)
