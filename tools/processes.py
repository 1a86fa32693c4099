# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of processes, as Linux tells them; settings as words for them."""

from __future__ import annotations

import json
import os
import resource
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

Setting = TypeVar("Setting")


def to_word(setting: Any) -> str:
    """Return a dataclass as JSON, for the command line of a process."""
    return json.dumps(asdict(setting))


def from_word(kind: type[Setting], text: str) -> Setting:
    """Return the dataclass that ``to_word`` was given."""
    return TypeAdapter(kind).validate_json(text)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    # after the name, which may hold blanks and brackets
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_seconds() -> float:
    """Return the time that this machine's processors had nothing to do, all together."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def process_use(pid: int) -> dict[str, float]:
    """Return what a process holds: rss_mib, anon_mib, pss_mib, uss_mib, fds and threads.

    rss: all memory in use. anon: that of it which is in no file and not shared, such as the heap.
    pss: what several processes share is divided among them. uss: what it has alone.
    """
    sizes: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kib = line.split(":")
        sizes[name] += int(kib.split()[0])
    return {
        "rss_mib": sizes["Rss"] / 1024,
        "anon_mib": sizes["Anonymous"] / 1024,
        "pss_mib": sizes["Pss"] / 1024,
        "uss_mib": (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024,
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
