# SPDX-License-Identifier: Apache-2.0
"""Where the files that ship with the package are: source tree, colcon or pip installation."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

_PACKAGE = "proto_mtl_ros"


def shared_roots() -> list[Path]:
    """Return the folders that may hold shipped files, the first to be searched first."""
    here = Path(__file__).resolve()
    source = here.parents[2]
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes += [Path(sys.prefix), Path(site.getuserbase())]
    prefixes += here.parents[2:]  # an install prefix whose environment was not sourced
    roots = [source] if (source / "package.xml").is_file() else []
    return list(dict.fromkeys([*roots, *(prefix / "share" / _PACKAGE for prefix in prefixes)]))


def shared_file(relative: str) -> Path | None:
    """Return a shipped file such as ``config/fastdds_shm.xml``, None when it is absent."""
    return next((r / relative for r in shared_roots() if (r / relative).exists()), None)
