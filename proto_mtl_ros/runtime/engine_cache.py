# SPDX-License-Identifier: Apache-2.0
"""Built engines on disk: one file each, found by everything that it depends on.

An engine fits one GPU, one library version and one graph. A sidecar repeats the key beside the
engine, so that a miss can say what changed. Files appear as a whole or not at all, readable by
their owner only: an engine is code that the GPU runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.files import lock, open_regular, read_json, remove_leftovers, write_bytes

FOLDER = "PROTO_MTL_CACHE"
"""Environment variable that names the folder of the cache."""

MAX_ENGINE_BYTES = 2_000_000_000
_MAX_SIDECAR_BYTES = 1 << 16
_PATIENCE_SECONDS = 10.0


class EngineNotSaved(EngineError):
    """An engine was built and cannot be kept on disk."""


@dataclass(frozen=True)
class EngineKey:
    """All that a built engine depends on."""

    model: str  # name of the bundle, for people
    onnx: str  # sha256 of the graph that was built
    library: str  # name and version of the builder: "tensorrt 10.3.0"
    gpu: str
    capability: str  # compute capability of the GPU: "8.7"
    precision: str
    shapes: str  # smallest and largest input: "1x192x256 4x192x256"
    options: str = ""  # of the builder

    def differences(self, other: object) -> list[str]:
        """Return the fields that ``other`` has otherwise, as "name: theirs -> ours"."""
        own = asdict(self)
        other = other if isinstance(other, Mapping) else {}
        return [
            f"{field.name}: {one_line(other.get(field.name))} -> {own[field.name]}"
            for field in fields(self)
            if other.get(field.name) != own[field.name]
        ]


_unsaved: dict[EngineKey, bytes] = {}
"""Engines that could not be written; minutes of building are not thrown away for that."""


class EngineCache:
    """A folder of built engines: $PROTO_MTL_CACHE, else $XDG_CACHE_HOME/proto_mtl_ros."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of ``key`` lies, or would."""
        digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{key.model}-{key.precision}-{digest[:16]}.engine"

    def find(self, key: EngineKey) -> bytes | None:
        """Return the engine of ``key``, None where there is none that is whole.

        EngineError: it cannot be read, or others can write it or its folder.
        """
        if key in _unsaved:
            return _unsaved[key]
        path = self.path(key)
        sidecar = _read_sidecar(path)
        if sidecar is None or not path.exists() or key.differences(sidecar.get("key")):
            return None
        try:
            for one in (self.folder.resolve(), path.with_suffix(".json"), path):
                check_owner(one)
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size > MAX_ENGINE_BYTES:
                    raise EngineError(f"{path} is no engine, it is too large: delete it")
                content = file.read()
        except OSError as error:
            raise EngineError(
                f"cannot read the engine {path} ({error.strerror}): delete it to build another"
            ) from None
        return content if hashlib.sha256(content).hexdigest() == sidecar.get("sha256") else None

    def why_missing(self, key: EngineKey) -> str:
        """Return one line: what the closest engine differs in."""
        found: list[list[str]] = []
        for path in sorted(self.folder.glob(f"{key.model}-*.engine")):
            if (sidecar := _read_sidecar(path)) is not None:
                found.append(key.differences(sidecar.get("key")))
                if not found[-1]:
                    return f"{path} is damaged"
        if not found:
            return "none was built yet"
        closest = min(found, key=len)
        return "changed since the last one: " + "; ".join(closest)

    def store(self, key: EngineKey, engine: bytes) -> Path:
        """Write ``engine`` and its sidecar; return the engine's path.

        EngineNotSaved: the folder cannot be written; this process finds the engine all the same.
        EngineError: others can write the folder, too.
        """
        path = self.path(key)
        stated = {"key": asdict(key), "sha256": hashlib.sha256(engine).hexdigest()}
        sidecar = (json.dumps(stated, indent=1) + "\n").encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_owner(self.folder.resolve())
            remove_leftovers(self.folder)
            with _locked(self.folder):  # else two could leave one's engine with the other's sidecar
                # between the two the engine does not count: it is not what the sidecar says
                write_bytes(path, engine, mode=0o600)
                write_bytes(path.with_suffix(".json"), sidecar, mode=0o600)
        except OSError as error:
            _unsaved[key] = engine
            raise EngineNotSaved(
                f"cannot write the engine {path} ({error.strerror}): make room, or set {FOLDER} to"
                " a folder that can be written"
            ) from None
        _unsaved.pop(key, None)
        return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, folder, _PATIENCE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def default_folder() -> Path:
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "proto_mtl_ros"


def _read_sidecar(path: Path) -> dict | None:
    try:
        content = read_json(path.with_suffix(".json"), EngineError, _MAX_SIDECAR_BYTES)
    except EngineError:
        return None
    return content if isinstance(content, dict) else None


def check_owner(path: Path) -> None:
    """Raise EngineError for a file or folder that is a link, another user's, or others may write.

    An engine is code that the GPU runs.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        what, do = (
            ("the folder of engines", f"chmod go-w {path}, or set {FOLDER} to a folder of your own")
            if stat.S_ISDIR(status.st_mode)
            else ("the engine", "delete it to build another")
        )
        raise EngineError(f"{what} {path} can be written by others: {do}")
