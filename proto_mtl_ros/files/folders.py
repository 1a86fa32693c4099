# SPDX-License-Identifier: Apache-2.0
"""Folders that appear whole, and those that only one process needs."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from proto_mtl_ros.files.locks import PATIENCE_SECONDS, is_at, lock
from proto_mtl_ros.files.writing import PART, claim, named

_BEFORE = "before"
"""Name of an old folder that has stepped aside for a new one."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class NewFolder:
    """A folder that is written under a hidden name and gets its own, ``target``, once it is whole.

    ``path`` is where to write; to be made by who writes. What a killed process has left of the same
    folder is removed; ``rescue`` is called with it before and may move it.

    Raises OSError: the place cannot be written, or another process or user is writing the folder.
    """

    def __init__(self, target: Path, rescue: Callable[[Path], None] | None = None) -> None:
        self.target = target
        with named(target):
            self._descriptor, self._part = claim(target, folder=True)
            self.path = self._part / target.name
            try:
                if rescue is not None and self.path.exists():
                    rescue(self.path)
                _clear(self._part)
            except BaseException:
                os.close(self._descriptor)
                raise

    def commit(self) -> None:
        """Put the folder in its place; raises OSError as ``replace_folder`` does."""
        try:
            if not is_at(self._descriptor, self._part):
                text = "what was written for it has been taken away or exchanged"
                raise OSError(errno.EPERM, text, str(self.target))
            replace_folder(self.path, self.target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written, unless it is in its place already."""
        if self._descriptor >= 0:
            with suppress(OSError):
                if is_at(self._descriptor, self._part):
                    _clear(self._part)
                    self._part.rmdir()
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> NewFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.commit()
        else:
            self.discard()


def _clear(part: Path) -> None:
    """Empty the hidden folder of a new one; an old one that had to step aside goes back."""
    target = part.parent / part.name[1 : -len(PART)]
    if (part / _BEFORE).exists() and not target.exists():
        (part / _BEFORE).rename(target)
    for entry in part.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``, which is then removed.

    Both exchange their names in one step where the file system can, so that there is always a
    whole folder. After an OSError ``target`` is as it was.
    """
    if not target.exists():
        new.rename(target)
    elif _exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)
    else:
        aside = new.with_name(_BEFORE)
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths exchange what they name; return whether this file system can."""
    if not hasattr(_LIBC, "renameat2"):
        return False
    names = os.fsencode(first), os.fsencode(second)
    if _LIBC.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


class ScratchFolder:
    """A folder for what only this process needs, in $TMPDIR; a context that gives its path.

    ``purpose`` is part of its name. ``remove`` is called at the end of the process where nobody
    does; folders of processes that were killed are removed when the next one is made.
    """

    def __init__(self, purpose: str) -> None:
        place = Path(tempfile.gettempdir())
        remove_leftovers(place, "proto_mtl_*")
        while True:
            self.path = Path(tempfile.mkdtemp(PART, f"proto_mtl_{purpose}_", place))
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            lock(descriptor, self.path, PATIENCE_SECONDS)
            if is_at(descriptor, self.path):
                break
            os.close(descriptor)  # taken for a leftover before it was locked
        self.remove = weakref.finalize(self, _remove_scratch, self.path, descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.remove()


def _remove_scratch(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


def remove_leftovers(folder: Path, pattern: str = ".*") -> None:
    """Remove what killed processes of this user have left in ``folder``, nothing of live ones."""
    for part in folder.glob(pattern + PART):
        with suppress(OSError):  # it has gone meanwhile, belongs to others, or is in use
            descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                ours = status.st_uid == os.geteuid() and lock(descriptor, part)
                if not ours or not is_at(descriptor, part):
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    part.unlink()
                    continue
                if part.name.startswith("."):
                    _clear(part)
                shutil.rmtree(part)
            finally:
                os.close(descriptor)
