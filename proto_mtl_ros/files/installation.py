# SPDX-License-Identifier: Apache-2.0
"""Where the files that ship with the package are: source tree, colcon or pip installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = "proto_mtl_ros"


def shared_file(relative: str) -> Path | None:
    """Return a shipped file such as ``config/fastdds_shm.xml``, None when it is absent."""
    source = Path(__file__).resolve().parents[2]
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    roots = [source, *(p / "share" / _PACKAGE for p in (*prefixes, Path(sys.prefix)))]
    return next((root / relative for root in roots if (root / relative).exists()), None)
