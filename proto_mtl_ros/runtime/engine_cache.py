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
"""Bytes of a built engine."""

_MAX_SIDECAR_BYTES = 1 << 16
_PATIENCE_SECONDS = 10.0


class EngineNotSaved(EngineError):
    """An engine was built and cannot be kept on disk."""


@dataclass(frozen=True)
class EngineKey:
    """All that a built engine depends on.

    Attributes:
        model: name of the bundle; for people.
        onnx: sha256 of the graph that was built.
        library: name and version of the builder, such as "tensorrt 10.3.0".
        gpu: name of the GPU.
        capability: its compute capability, such as "8.7".
        precision: of the arithmetic.
        shapes: smallest and largest input, such as "1x192x256 4x192x256".
        options: of the builder, as text.
    """

    model: str
    onnx: str
    library: str
    gpu: str
    capability: str
    precision: str
    shapes: str
    options: str = ""

    @property
    def digest(self) -> str:
        """Return a short name for the key."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

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
    """A folder of built engines.

    Args:
        folder: by default $PROTO_MTL_CACHE, else $XDG_CACHE_HOME/proto_mtl_ros.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of ``key`` lies, or would."""
        return self.folder / f"{key.model}-{key.precision}-{key.digest}.engine"

    def find(self, key: EngineKey) -> bytes | None:
        """Return the engine of ``key``, None where there is none that is whole.

        Raises:
            EngineError: a file is there and cannot be read, or others can write it or its folder.
        """
        if key in _unsaved:
            return _unsaved[key]
        path = self.path(key)
        sidecar = _read_sidecar(path)
        if sidecar is None or not path.exists():
            return None
        if key.differences(sidecar.get("key")):
            return None
        try:
            check_owner(self.folder.resolve())
            check_owner(_sidecar_path(path))
            check_owner(path)
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size > MAX_ENGINE_BYTES:
                    raise EngineError(f"{path} is no engine, it is too large: delete it")
                content = file.read()
        except OSError as error:
            raise EngineError(
                f"cannot read the engine {path} ({error.strerror}): delete it to build another"
            ) from None
        if hashlib.sha256(content).hexdigest() != sidecar.get("sha256"):
            return None
        return content

    def why_missing(self, key: EngineKey) -> str:
        """Return one line: what an engine that could have served differs in."""
        closest: list[str] | None = None
        for path in sorted(self.folder.glob(f"{key.model}-*.engine")):
            sidecar = _read_sidecar(path)
            if sidecar is None:
                continue
            differs = key.differences(sidecar.get("key"))
            if not differs:
                return f"{path} is damaged"
            if closest is None or len(differs) < len(closest):
                closest = differs
        if closest is None:
            return "none was built yet"
        return "changed since the last one: " + "; ".join(closest)

    def store(self, key: EngineKey, engine: bytes) -> Path:
        """Write ``engine`` and its sidecar; return the engine's path.

        Raises:
            EngineNotSaved: the folder cannot be written. This process finds the engine all the
                same, the next one has to build it again.
            EngineError: others can write the folder, too.
        """
        path = self.path(key)
        sidecar = {"key": asdict(key), "sha256": hashlib.sha256(engine).hexdigest()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_owner(self.folder.resolve())
            remove_leftovers(self.folder)
            with _locked(self.folder):  # else two could leave one's engine with the other's sidecar
                # between the two the engine does not count: it is not what the sidecar says
                write_bytes(path, engine, mode=0o600)
                write_bytes(
                    _sidecar_path(path), (json.dumps(sidecar, indent=1) + "\n").encode(), mode=0o600
                )
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
    """Return the folder of the cache."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "proto_mtl_ros"


def _sidecar_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_sidecar(path: Path) -> dict | None:
    try:
        content = read_json(_sidecar_path(path), EngineError, _MAX_SIDECAR_BYTES)
    except EngineError:
        return None
    return content if isinstance(content, dict) else None


def check_owner(path: Path) -> None:
    """Refuse what somebody else could have written: an engine is code that the GPU runs.

    Raises:
        EngineError: the file or folder is a link, another user's, or others may write it.
        OSError: it is not there.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        what, do = (
            ("the folder of engines", f"chmod go-w {path}, or set {FOLDER} to a folder of your own")
            if stat.S_ISDIR(status.st_mode)
            else ("the engine", "delete it to build another")
        )
        raise EngineError(f"{what} {path} can be written by others: {do}")
