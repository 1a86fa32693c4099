# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that no other test process of this machine uses."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_LAST = 101
"""Up to this one the ports of a domain lie below those of outgoing connections."""

_claims: list[IO[str]] = []


def claim_domain() -> int:
    """Return a domain that is this process's own until it ends; the same one when called again.

    A lock on a file stands for a domain, so workers of one run, and runs side by side, never
    share one, and a killed process gives its domain back.
    """
    if not _claims:
        folder = Path(tempfile.gettempdir()) / f"proto_mtl_ros_domains_{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for step in range(_LAST):
            domain = 1 + (os.getpid() + step) % _LAST
            handle = (folder / str(domain)).open("a")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                continue
            _claims.append(handle)
            break
        else:
            raise RuntimeError(f"all {_LAST} ROS domains for tests are taken: see {folder}")
    return int(Path(_claims[0].name).name)
