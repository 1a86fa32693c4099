# SPDX-License-Identifier: Apache-2.0
"""What became of an image, as a line of the node's debug log, which a replay reads back.

The counters on /diagnostics say how many images were left out and why; this says which.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rclpy.logging import LoggingSeverity

PROCESSED = "processed"

_LINE = re.compile(r"(\S+): image (\d+)\.(\d{9}): (\w+)$")


def log_fate(logger: Any, camera: str, message: Any, fate: str) -> None:
    """Log that an image was processed, or the cause why not; costs nothing unless debugging."""
    if logger.is_enabled_for(LoggingSeverity.DEBUG):
        stamp = message.header.stamp
        logger.debug(f"{camera}: image {stamp.sec}.{stamp.nanosec:09d}: {fate}")


def read_fates(log: Path, camera: str) -> dict[int, str]:
    """Return stamp in nanoseconds -> fate of the images of a camera, from a node's log."""
    fates: dict[int, str] = {}
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = _LINE.search(line.rstrip())
            if found and found[1] == camera:
                fates[int(found[2] + found[3])] = found[4]
    return fates
