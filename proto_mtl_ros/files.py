# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader sees the old content or the new, never half of it.

What is not whole yet is called ``.NAME.part`` and lies beside NAME. Who writes it holds its lock,
so what a killed process left is known for certain: the next one that writes NAME takes its place.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from proto_mtl_ros.locks import (
    is_at,
    lock,
)

PART = ".part"
"""Ending of the hidden name of what is not whole."""

_PATIENCE_SECONDS = 5.0
"""How long a file or folder that another process is about to finish is waited for."""

_BEFORE = "before"
"""Name of an old folder that has stepped aside for a new one."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``content`` beside ``path`` and rename it into place; folders are made.

    A device or a pipe, such as /dev/stdout, is written into.

    Args:
        mode: permissions of the file.

    Raises:
        OSError: as ``open`` does, with ``path``; the file is then as it was.
    """
    with named(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as device:
                device.write(content)
            return
        with _part_of(path) as (descriptor, part):
            _fill(descriptor, part, path, content, mode)


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, content.encode())


def write_json_part(path: Path, name: str, content: Any) -> None:
    """Make ``content`` one member of the JSON object in a file; the other members stay.

    Raises:
        OSError: as ``write_bytes`` does.
    """
    with named(path), _part_of(path) as (descriptor, part):  # held, so no member gets lost
        whole = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        whole[name] = content
        text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        _fill(descriptor, part, path, text.encode(), 0o644)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give every OSError the path that the user knows instead of none, or of a hidden one."""
    try:
        yield
    except OSError as error:
        hidden = error.filename is None or PART in os.fspath(error.filename)
        if error.errno is None or not hidden:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _part_of(path: Path) -> Iterator[tuple[int, Path]]:
    """Give the open, empty and locked file that becomes ``path``; removed on an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = _open_part(path)
    try:
        yield descriptor, part
    except BaseException:
        if is_at(descriptor, part):
            part.unlink()
        raise
    finally:
        os.close(descriptor)


def _open_part(path: Path) -> tuple[int, Path]:
    part = path.with_name(f".{path.name}{PART}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            descriptor = os.open(part, flags, 0o600)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            part.unlink(missing_ok=True)  # a link that somebody has laid there
            continue
        try:
            locked = lock(descriptor, path, _PATIENCE_SECONDS)
            if is_at(descriptor, part):
                if locked and _is_our_own(os.fstat(descriptor)):
                    os.ftruncate(descriptor, 0)
                    return descriptor, part
                part.unlink()
            # else another process has just put it in its place
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked:  # then no other process may know the name
            descriptor, name = tempfile.mkstemp(PART, f".{path.name}.", path.parent)
            return descriptor, Path(name)


def _is_our_own(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _fill(descriptor: int, part: Path, path: Path, content: bytes, mode: int) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)
    os.fchmod(descriptor, mode)
    os.replace(part, path)


class NewFolder:
    """A folder that is written under a hidden name and gets its own once it is whole.

    What a killed process has left of the same folder is removed.

    Args:
        target: the folder that is to be.
        rescue: called with what a killed process has left, before that is removed; may move it.

    Attributes:
        path: where to write; to be made by who writes. It has the name of ``target``.

    Raises:
        OSError: the place cannot be written, or another process is writing the same folder.
    """

    def __init__(self, target: Path, rescue: Callable[[Path], None] | None = None) -> None:
        self.target = target
        with named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor, self._part = _open_part_folder(target)
            self.path = self._part / target.name
            try:
                if rescue is not None and self.path.exists():
                    rescue(self.path)
                _clear(self._part)
            except BaseException:
                os.close(self._descriptor)
                raise

    def commit(self) -> None:
        """Put the folder in its place.

        Raises:
            OSError: as ``replace_folder`` does.
        """
        try:
            replace_folder(self.path, self.target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written, unless it is in its place already."""
        if self._descriptor >= 0:
            with suppress(OSError):
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


def _open_part_folder(target: Path) -> tuple[int, Path]:
    part = target.parent / f".{target.name}{PART}"
    while True:
        part.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # another process has just finished
        try:
            if not lock(descriptor, target, _PATIENCE_SECONDS):  # then nobody may know the name
                return descriptor, Path(tempfile.mkdtemp(PART, f".{target.name}.", target.parent))
            if is_at(descriptor, part):
                return descriptor, part
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


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
    whole folder.

    Raises:
        OSError: as ``Path.rename`` does; ``target`` is then as it was.
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
    """Let two paths exchange what they name; return whether this file system can.

    Raises:
        OSError: it can, and refuses.
    """
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

    Folders of processes that were killed are removed when the next one is made.

    Args:
        purpose: part of its name, for who looks into $TMPDIR.

    Attributes:
        path: of the folder.
        remove: call it to remove the folder with all that is in it.
    """

    def __init__(self, purpose: str) -> None:
        place = Path(tempfile.gettempdir())
        remove_leftovers(place, "proto_mtl_*")
        while True:
            self.path = Path(tempfile.mkdtemp(PART, f"proto_mtl_{purpose}_", place))
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            lock(descriptor, self.path, _PATIENCE_SECONDS)
            if is_at(descriptor, self.path):
                break
            os.close(descriptor)  # taken for a leftover before it was locked
        # also where nobody calls it, at the end of the process
        self.remove = weakref.finalize(self, _remove_scratch, self.path, descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.remove()


def _remove_scratch(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


def remove_leftovers(folder: Path, pattern: str = ".*") -> None:
    """Remove what killed processes of this user have left in ``folder``, nothing of live ones.

    Args:
        pattern: of the names, without their ending ``.part``.
    """
    for part in folder.glob(pattern + PART):
        with suppress(OSError):  # it has gone meanwhile, belongs to others, or is in use
            descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                if status.st_uid != os.geteuid() or not lock(descriptor, part):
                    continue
                if not is_at(descriptor, part):
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    part.unlink()
                    continue
                if part.name.startswith("."):
                    _clear(part)
                shutil.rmtree(part)
            finally:
                os.close(descriptor)
