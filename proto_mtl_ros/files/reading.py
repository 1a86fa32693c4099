# SPDX-License-Identifier: Apache-2.0
"""Reading within limits: regular files alone, and JSON and YAML as plain values.

Every function takes the class of the error that it raises, so that a bad bundle is a
``BundleError`` and a bad recording a ``BagError``, each of one line.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from proto_mtl_ros.errors import ProtoMtlError, one_line

MAX_JSON, MAX_YAML, MAX_TABLE = 4_000_000, 256_000, 64_000_000
"""Bytes of a JSON file, of a YAML file (a megabyte takes half a minute), of a table as text."""

MAX_VALUES = 100_000
"""Values of a YAML file, references written out."""

MAX_DEPTH = 64
"""Levels of lists and mappings inside each other."""

Refusal = type[ProtoMtlError]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, an OSError for others: a pipe would wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, limit: int, error: Refusal) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # a file may grow while it is read, or be one of /proc that says it is empty
            content = file.read(limit + 1) if size <= limit else b""
    except (OSError, ValueError) as refusal:  # ValueError: a null byte in the name
        reason = getattr(refusal, "strerror", None) or one_line(refusal)
        raise error(f"{path} cannot be read: {reason}; give another file") from None
    if max(size, len(content)) > limit:
        most = f"{limit / 1e6:g} MB"
        raise error(f"{path} has more than {most}, the most that is read of such a file")
    return content


def read_text(path: Path, limit: int, error: Refusal) -> str:
    """Return the UTF-8 text of a regular file of at most ``limit`` bytes."""
    try:
        return read_bytes(path, limit, error).decode("utf-8")
    except UnicodeDecodeError as refusal:
        raise error(f"{path} is not UTF-8 text: {one_line(refusal)}") from None


def read_json(path: Path, error: Refusal, limit: int = MAX_JSON) -> Any:
    """Return the content of a JSON file."""
    return parse_json(read_bytes(path, limit, error), path, error)


def parse_json(text: str | bytes, where: object, error: Refusal) -> Any:
    """Return what a JSON text says; the error calls the text ``where``."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise error(_too_deep(where)) from None
    except ValueError as refusal:
        raise error(f"{where} is not valid JSON ({one_line(refusal)}): write it again") from None
    _check_values(content, where, error)
    return content


def read_yaml(path: Path, error: Refusal, limit: int = MAX_YAML) -> Any:
    """Return the content of a YAML file."""
    return parse_yaml(read_text(path, limit, error), path, error)


def parse_yaml(text: str, where: object, error: Refusal) -> Any:
    """Return what a YAML text says; the error calls the text ``where``."""
    import yaml

    try:
        content = yaml.load(text, _plain_loader())
    except RecursionError:
        raise error(_too_deep(where)) from None
    except Exception as refusal:  # a value that is no date or number raises whatever it leads to
        raise error(f"{where} is not valid YAML: {one_line(refusal)}") from None
    _check_values(content, where, error)
    return content


@lru_cache(maxsize=1)
def _plain_loader() -> Any:
    """Return PyYAML's safe loader with a bounded depth and a bounded number of values.

    What a reference (``*name``) stands for counts each time that it is named: nine lines of
    references to each other say a thousand million values.
    """
    import yaml

    class PlainLoader(yaml.SafeLoader):
        depth = values = 0

        def __init__(self, stream: Any) -> None:
            super().__init__(stream)
            self.counts: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            before = self.values
            if self.check_event(yaml.AliasEvent):
                node = super().compose_node(parent, index)
                if id(node) not in self.counts:
                    raise yaml.YAMLError("a value refers to itself")
                self.values += self.counts[id(node)]
            else:
                self.values += 1
                self.depth += 1
                if self.depth > MAX_DEPTH:
                    raise RecursionError
                node = super().compose_node(parent, index)
                self.depth -= 1
                self.counts[id(node)] = self.values - before
            if self.values > MAX_VALUES:
                raise yaml.YAMLError(f"it has more than {MAX_VALUES} values")
            return node

    return PlainLoader


def _check_values(content: Any, where: object, error: Refusal) -> None:
    """Refuse what is nested too deep, and whole numbers that no field of ours can hold."""
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                inner.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise error(f"{where} has a number of {value.bit_length()} bits: correct it")
        if not inner:
            return
        level = inner
    raise error(_too_deep(where))


def _too_deep(where: object) -> str:
    return f"{where} is not read: it is nested deeper than {MAX_DEPTH} levels"


def check_inside(path: Path, folder: Path, error: Refusal) -> None:
    """Refuse a path that leaves ``folder``, by its name or by a link."""
    try:
        leaves = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null byte
        leaves = True
    if leaves:
        raise error(f"{path} is outside of {folder}: put the file itself there, not a link")
