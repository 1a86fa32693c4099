# SPDX-License-Identifier: Apache-2.0
"""A model bundle: a folder with ``model.json``, ``model.onnx`` and ``weights.safetensors``.

``model.json`` is validated before any other file is opened, and every file must have the sha256
that it states. Nothing in a bundle is ever unpickled, and no graph leads to another file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from proto_mtl_ros.errors import BundleError, file_trouble, one_line
from proto_mtl_ros.files import NewFolder, named, open_regular, read_bytes
from proto_mtl_ros.files.installation import shared_file, shared_roots
from proto_mtl_ros.runtime.manifest import FILE_NAME, ModelManifest
from proto_mtl_ros.runtime.onnx_check import check_graph

MANIFEST = "model.json"
ONNX = "model.onnx"
INT8_ONNX = "model.int8.onnx"
INT8_TENSORRT_ONNX = "model.int8-tensorrt.onnx"
INT8_GRAPHS = {"cpu": INT8_ONNX, "tensorrt": INT8_TENSORRT_ONNX}
"""What a quantised graph shall run on -> its file."""

WEIGHTS = "weights.safetensors"
CARD = "README.md"
INPUT = "image"
"""Name of the graphs' only input, uint8 [B, H, W, 3]."""

MAX_MANIFEST_BYTES = 1_000_000
MAX_FILE_BYTES = 1_000_000_000
"""Of each other file."""

_REPLACED_AT_MOST = 3
"""Times that a bundle may be replaced while it is read."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    path: Path  # of the folder, absolute, symbolic links resolved
    manifest: ModelManifest
    # of model.json, to see whether the bundle was replaced
    identity: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def load(cls, path_or_name: str | os.PathLike[str]) -> Bundle:
        """Find, validate and verify a bundle.

        It is named by the folder, its ``model.json``, or the name of a model that is installed with
        the package or lies in ``models`` of its source tree. BundleError: there is none, or it is
        not exactly what its ``model.json`` says.
        """
        folder = find_bundle(path_or_name)
        for _ in range(_REPLACED_AT_MOST):
            before = _identity(folder)
            try:
                return cls._load(folder)
            except BundleError:
                # an export may just have put a new bundle in the place of the one half read
                if _identity(folder) == before:
                    raise
        return cls._load(folder)

    @classmethod
    def _load(cls, folder: Path) -> Bundle:
        # With `colcon build --symlink-install` every installed file is a link into the source
        # tree, so the folder that counts is the one in which the real model.json lies.
        manifest_path = (folder / MANIFEST).resolve()
        root = manifest_path.parent
        identity = _identity(root)
        manifest = ModelManifest.from_json(
            read_bytes(manifest_path, MAX_MANIFEST_BYTES, BundleError), str(folder / MANIFEST)
        )
        bundle = cls(root, manifest, identity)
        for name, digest in manifest.files.items():
            bundle._verify(name, digest)
        return bundle

    @classmethod
    def write(
        cls,
        directory: str | os.PathLike[str],
        manifest: ModelManifest,
        files: Mapping[str, Path | bytes],
    ) -> Bundle:
        """Write a bundle as a whole or not at all, and return it as loaded from disk.

        Args:
            directory: of the bundle. A bundle that is there is replaced; another kind of folder
                that is not empty is refused with a BundleError.
            manifest: its ``files`` are ignored and computed here.
            files: name in the bundle -> a file to copy or the content itself.
        """
        target = Path(os.path.realpath(Path(directory).expanduser()))
        is_bundle = not target.exists() or (target / MANIFEST).is_file()
        if not is_bundle and (not target.is_dir() or any(target.iterdir())):
            raise BundleError(f"{target} is not a model bundle: choose another folder")
        for name in files:
            if name == MANIFEST or not re.fullmatch(FILE_NAME, name):
                raise BundleError(f"{name!r} cannot be a file of a bundle: give a plain file name")
        try:
            with named(target), NewFolder(target) as new:
                new.path.mkdir(mode=0o755)
                digests = {name: _store(new.path / name, files[name]) for name in sorted(files)}
                text = manifest.model_copy(update={"files": digests}).to_json()
                ModelManifest.from_json(text, f"the new {MANIFEST}")
                _store(new.path / MANIFEST, text.encode())
        except OSError as error:
            raise BundleError(f"cannot write the bundle {file_trouble(error)}") from None
        except ValueError as error:
            raise BundleError(
                f"the metrics, training or architecture of {target.name} are no JSON"
                f" ({one_line(error)}): give plain numbers and text"
            ) from None
        return cls.load(target)

    def is_current(self) -> bool:
        """Return whether the folder still holds this bundle, and not one that has replaced it."""
        return _identity(self.path) == self.identity

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the segmentation ids 0..C-1."""
        return self.manifest.classes

    @property
    def palette(self) -> np.ndarray:
        """Colours of the classes, uint8[C, 3] RGB."""
        return np.array(self.manifest.palette, np.uint8).reshape(-1, 3)

    @property
    def onnx_path(self) -> Path:
        """The deployed graph; BundleError where the bundle has none."""
        return self._file(ONNX)

    def graph_path(self, precision: str, target: str = "cpu") -> Path:
        """Return the graph of a precision; all but int8 start from the fp32 one.

        The quantised graphs of the targets "cpu" and "tensorrt" differ. BundleError: there is none.
        """
        if precision != "int8":
            return self._file(ONNX)
        name = INT8_GRAPHS[target]
        if name not in self.manifest.files:
            raise BundleError(
                f"model {self.name} has no int8 graph for {target}: make one with `proto-mtl export"
                f" --model {self.name} --precision int8 --target {target} --calibrate <data>`"
            )
        return self._file(name)

    @property
    def has_int8(self) -> bool:
        """Whether there is a quantised graph for the CPU."""
        return INT8_ONNX in self.manifest.files

    @property
    def weights_path(self) -> Path:
        """The weights for torch; BundleError where the bundle has none."""
        return self._file(WEIGHTS)

    def _file(self, name: str) -> Path:
        if name not in self.manifest.files:
            raise BundleError(f"model {self.name} has no {name}: export it again")
        if name.endswith(".onnx"):
            check_graph(self.path / name)
        return self.path / name

    def _verify(self, name: str, digest: str) -> None:
        path = self.path / name
        if not path.exists():
            raise BundleError(f"{path} is missing: fetch or export the model again")
        if path.resolve().parent != self.path or not path.resolve().is_file():
            raise BundleError(
                f"{path} is not a file inside the bundle: replace it by the file itself"
            )
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise BundleError(f"{path} has more than {MAX_FILE_BYTES / 1e9:g} GB: make it less")
            found = _sha256(path)
        except OSError as error:
            raise BundleError(
                f"cannot read {path} ({error.strerror}): check its permissions"
            ) from None
        if found != digest:
            raise BundleError(
                f"{path} is damaged or was changed (sha256 {found[:12]}..., {MANIFEST} says"
                f" {digest[:12]}...): fetch or export the model again"
            )


def available_models() -> list[str]:
    """Return the names that ``Bundle.load`` finds, sorted."""
    found = (path for root in shared_roots() for path in root.glob(f"models/*/{MANIFEST}"))
    # A hidden folder is a bundle that is being written.
    return sorted({path.parent.name for path in found if not path.parent.name.startswith(".")})


def find_bundle(path_or_name: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle, not verified; BundleError where there is none."""
    text = os.fspath(path_or_name).strip()
    if not text or "\0" in text:
        raise BundleError(f"no model is named: give a folder or one of {_known()}")
    path = Path(text).expanduser()
    # a bare name is an installed model, whatever lies in the current folder
    bare = os.sep not in text and text not in (".", "..", "~")
    try:
        if bare and (shipped := shared_file(f"models/{text}/{MANIFEST}")) is not None:
            return shipped.parent
        if bare:
            here = f"./{text} for the folder here, " if path.exists() else ""
            raise BundleError(f"there is no model {text}: give {here}a folder or one of {_known()}")
        if path.name == MANIFEST and path.is_file():
            return path.parent
        if (path / MANIFEST).is_file():
            return path
        if path.is_dir():
            raise BundleError(f"{path} has no {MANIFEST}: give the folder of a model bundle")
    except OSError as error:
        raise BundleError(f"cannot read {path} ({error.strerror}): check the path") from None
    raise BundleError(f"there is no folder {text}: give a folder or one of {_known()}")


def _identity(folder: Path) -> tuple[int, ...] | None:
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns  # a number of a file may be used again


def _known() -> str:
    return ", ".join(available_models()) or "the installed models (none found)"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _store(path: Path, content: Path | bytes) -> str:
    """Write ``content`` to a new file, flushed to the disk, and return its sha256."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return _sha256(path)
