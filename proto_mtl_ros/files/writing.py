# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole: a reader sees the old content or the new, never half of it.

What is not whole yet is called ``.NAME.part`` and lies beside NAME. Who writes it holds its lock,
so what a killed process left is known for certain, and the next one that writes NAME takes its
place. Where a file system has no locks, every process takes a name of its own.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from proto_mtl_ros.files.locks import PATIENCE_SECONDS, is_at, lock

PART = ".part"
"""Ending of the hidden name of what is not whole."""


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


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``content`` beside ``path`` and rename it into place; folders are made.

    A device or a pipe, such as /dev/stdout, is written into. After an OSError, which names
    ``path``, the file is as it was.
    """
    if path.exists() and not path.is_file():
        with named(path), path.open("wb") as device:
            device.write(content)
    else:
        _replace(path, lambda: content, mode)


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, content.encode())


def write_json_part(path: Path, name: str, content: Any) -> None:
    """Make ``content`` one member of the JSON object in a file; the other members stay."""

    def whole() -> bytes:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found[name] = content
        return (json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    _replace(path, whole, 0o644)


def _replace(path: Path, content: Callable[[], bytes], mode: int) -> None:
    """Write a file; ``content`` is called while no other process writes it."""
    with named(path):
        descriptor, part = claim(path, folder=False)
        try:
            rest = memoryview(content())
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            os.fchmod(descriptor, mode)
            os.replace(part, path)
        except BaseException:
            if is_at(descriptor, part):
                part.unlink()
            raise
        finally:
            os.close(descriptor)


def claim(target: Path, folder: bool) -> tuple[int, Path]:
    """Make, open and lock the hidden file (empty) or folder that becomes ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}{PART}")
    kind = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_WRONLY | os.O_CREAT
    while True:
        made = False
        try:
            if folder:
                with suppress(FileExistsError):
                    part.mkdir(mode=0o700)
                made = True
            descriptor = os.open(part, kind | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if part.is_symlink():  # somebody has laid it there
                part.unlink(missing_ok=True)
            elif not (made and isinstance(error, FileNotFoundError)):
                raise  # else another process has just finished
            continue
        try:
            locked = lock(descriptor, target, PATIENCE_SECONDS)
            if is_at(descriptor, part):  # else another process has just put it in its place
                ours = _is_our_own(os.fstat(descriptor), folder)
                if folder and not ours:  # it could be exchanged while it is written
                    text = f"{part.name} is in its place and belongs to another user"
                    raise OSError(errno.EPERM, text, str(target))
                if locked and ours:
                    if not folder:
                        os.ftruncate(descriptor, 0)
                    return descriptor, part
                if not folder:
                    part.unlink()
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked and folder:
            part = Path(tempfile.mkdtemp(PART, f".{target.name}.", target.parent))
            return os.open(part, kind), part
        if not locked:
            descriptor, name = tempfile.mkstemp(PART, f".{target.name}.", target.parent)
            return descriptor, Path(name)


def _is_our_own(status: os.stat_result, folder: bool) -> bool:
    plain = folder or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
    return plain and status.st_uid == os.geteuid()
