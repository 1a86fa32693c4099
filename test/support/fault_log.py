# SPDX-License-Identifier: Apache-2.0
"""What the fault campaign tried and what came of it, for tools/reliability/README.md.

A row is what a run has found: a try whose test fails is not survived, and a test that fails
without having said what it tried gets a row that says so.
"""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

from proto_mtl_ros.files import write_text

FAILED = "failing tests"


class FaultLog:
    """Collects the faults that tests tried, by name."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}
        self._ran: set[str] = set()
        self._failed: dict[str, str] = {}

    def add(
        self,
        test: str,
        group: str,
        name: str,
        *,
        seen: str,
        tried: int = 1,
        valid: int = 0,
        sent: int | None = None,
        came: int = 0,
    ) -> None:
        """Note one kind of fault, at the end of a test that fails where one is not survived.

        Args:
            test: pytest's id of the test that tried it.
            group: the heading it stands under: "camera", "engine", "disk" ...
            name: what was done, as a reader would say it: "camera stops and returns".
            tried: how often.
            valid: tries that, damaged at random, were still as good as undamaged.
            sent, came: what was given (images, results, files) and what of it came out or was
                counted by a cause, where the test compared the two.
            seen: what an operator sees of it: the diagnosis, the line, the exit code.
        """
        assert seen and 0 <= valid <= tried
        lost = None if sent is None else sent - came
        self._put(name, group, test, seen, tried=tried, survived=tried, valid=valid, lost=lost)

    def outcome(self, test: str, marks: tuple[Any, ...] | None, failure: str | None) -> None:
        """Note how a test has ended; one that ``marks`` (group, name, seen) is itself a try."""
        if marks is None:
            self._ran.add(test)
            if failure is not None:
                self._failed[test] = failure
            return
        group, name, seen = marks
        file = test.partition("::")[0]
        self._ran.add(file)
        former = self._entries.get(name, {"tried": 0, "survived": 0})
        survived = former["survived"] + (failure is None)
        self._put(name, group, file, seen, tried=former["tried"] + 1, survived=survived)
        if failure is not None:
            self._entries[name]["failed"] = f"{test.partition('::')[2]}: {failure}"

    def write(self, path: Path) -> None:
        """Join the entries to those in the file; tests that did not run keep theirs."""
        with path.with_suffix(".lock").open("w") as lock:  # workers end at the same time
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            failed = set(self._failed)
            kept = [e for e in before if e["test"] not in self._ran - failed]
            joined = {entry["name"]: entry for entry in kept} | self._entries
            for test, failure in self._failed.items():
                own = [entry for entry in joined.values() if entry["test"] == test]
                if not own:
                    name = test.partition("::")[2]
                    self._put(name, FAILED, test, failure, tried=1, survived=0)
                    own = [self._entries[name]]
                    joined[name] = own[0]
                for entry in own:
                    entry |= {"survived": 0, "failed": failure, "date": time.strftime("%Y-%m-%d")}
            ordered = sorted(joined.values(), key=lambda entry: (entry["group"], entry["name"]))
            write_text(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")

    def __bool__(self) -> bool:
        return bool(self._entries or self._failed)

    def _put(self, name: str, group: str, test: str, seen: str, **counts: int | None) -> None:
        entry = {"group": group, "name": name, "seen": seen, "test": test, "valid": 0, "lost": None}
        former = self._entries.get(name, {})
        self._entries[name] = {**former, **entry, **counts, "date": time.strftime("%Y-%m-%d")}
