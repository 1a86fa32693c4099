# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``content`` beside ``path`` and rename it into place; folders are made.

    Args:
        mode: permissions of the file.

    Raises:
        OSError: as ``open`` does; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, content.encode())


def write_json_part(path: Path, name: str, content: Any) -> None:
    """Make ``content`` one member of the JSON object in a file; the other members stay."""
    whole = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    whole[name] = content
    write_text(path, json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``; on failure ``target`` is as it was.

    Raises:
        OSError: as ``Path.rename`` does.
    """
    if not target.exists():
        new.rename(target)
        return
    # A folder that is not empty cannot be replaced by one rename, so the old one steps aside.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    target.rename(aside / target.name)
    try:
        new.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
