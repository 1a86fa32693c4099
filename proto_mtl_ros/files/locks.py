# SPDX-License-Identifier: Apache-2.0
"""Who is writing where: locks that the kernel takes away when a process ends, however it ends.

A file with a process id in it outlives a killed process, and its number may be another's by then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proto_mtl_ros.errors import ConfigError

PATIENCE_SECONDS = 5.0
"""How long a file or folder that another process is about to finish is waited for."""


class FolderInUse(ConfigError):
    """Another process is writing into the folder."""


def lock(descriptor: int, path: Path, patience: float = 0.0) -> bool:
    """Lock an open file or folder until it is closed; return whether its file system has locks.

    Raises:
        OSError: EBUSY with ``path``, another process holds it for longer than ``patience`` seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                raise OSError(errno.EBUSY, "another process is writing it", str(path)) from None
            time.sleep(0.02)
        except OSError:
            return False


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file or folder is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


_used: dict[tuple[int, int], int] = {}
"""Device and inode of the folders that this process uses -> how many times over."""


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into ``folder``, which is made where it is missing.

    One process may use it several times over: a command and the parts that it consists of. Raises
    FolderInUse where another process uses it, OSError where it cannot be made.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    try:
        if not _used.get(key):
            try:
                lock(descriptor, folder)
            except OSError:
                raise FolderInUse(
                    f"{folder} is being written by another process: wait until it has ended, or"
                    " give another folder"
                ) from None
        _used[key] = _used.get(key, 0) + 1
        try:
            yield
        finally:
            _used[key] -= 1
            if not _used[key]:
                del _used[key]
                if made and not os.listdir(descriptor):  # nothing came of it
                    folder.rmdir()
    finally:
        os.close(descriptor)
