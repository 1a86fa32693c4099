# SPDX-License-Identifier: Apache-2.0
"""What the storages of recordings have in common, and the limits of what a few bytes may become.

A file may say that it unpacks to terabytes, or that its index names a place a million times. Every
one of these has a bound, which is checked before the work is done.
"""

from __future__ import annotations

import bz2
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import lz4.frame
import yaml

from proto_mtl_ros.errors import BagError, ProtoMtlError, one_line
from proto_mtl_ros.files import check_inside, open_regular, read_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK = 128 << 20
"""Bytes of a message, or of messages that are packed together; a cloud of a 4K image fits."""

MAX_OPEN = 256 << 20
"""Bytes of all chunks whose times overlap: they are in memory together."""

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "bz2": bz2.BZ2Decompressor,
}
_POINTER = b"version https://git-lfs"
_FREE, _FACTOR = 4 << 30, 200
_DEEPEST = 32


@dataclass
class Channel:
    """A topic of one type in a storage: how its messages are serialised ("cdr", "ros1", or what is
    not read here), its type's definition in the language of ``.msg`` files, and its number of
    messages.
    """

    topic: str
    type: str
    encoding: str = "cdr"
    definition: str = ""
    count: int = 0


class Stored(NamedTuple):
    """A message as it is stored; ``time`` of recording in nanoseconds."""

    channel: Channel
    time: int
    data: Any


class Storage(ABC):
    """A file of a recording: ``span`` is when the first message was recorded and 1 ns after the
    last, (0, 0) without any; ``notes`` say what is missing of it, one line each. ValueError,
    OSError or what its reader raises where it is damaged, or asks for more than recordings do.
    """

    channels: list[Channel]
    span: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    _opened: Any

    @abstractmethod
    def messages(
        self, topics: Collection[str] | None, start: int | None, stop: int | None
    ) -> Iterator[Stored]:
        """Yield the messages of some topics, None for all, by time, from start to before stop."""

    def close(self) -> None:
        self._opened.close()


def cut_note(path: Path, channels: Iterable[Channel], span: tuple[int, int]) -> str:
    """Say what is read of a file that was cut off; raises BagError where that is nothing."""
    count = sum(channel.count for channel in channels)
    if not count:
        raise BagError(f"{path} is cut off before its first whole message: copy it again")
    return (
        f"{path.name} is cut off: {count} messages of its first {(span[1] - span[0]) / 1e9:.1f} s"
        " are whole and are used"
    )


def refuse_pointer(path: Path, error: type[ProtoMtlError] = BagError) -> None:
    """Raise the error where Git LFS has left the name of a file in place of its content."""
    with open_regular(path) as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise error(f"{path} is a pointer of Git LFS: run `git lfs pull` where it was cloned")


def most_unpacked(size: int) -> float:
    """Return how many bytes a recording of ``size`` bytes may be in all, unpacked."""
    return _FREE + _FACTOR * size


def unpack(kind: str, data: bytes, size: int) -> bytes:
    """Return unpacked bytes, all frames one behind the other, of ``zstd``, ``lz4``, ``bz2``, or as
    they are for an empty kind; ValueError for more than ``size`` bytes or ``MAX_CHUNK``, or damage.
    """
    if size > MAX_CHUNK:
        raise ValueError(f"{size} bytes in one piece are more than {MAX_CHUNK}")
    if not kind:
        return data
    if kind not in _DECOMPRESSORS:
        raise ValueError(f"it is packed as {kind}, which is not read")
    parts, left = [], size
    while data:
        decompressor = _DECOMPRESSORS[kind]()
        # one byte more than there may be tells that there are more
        try:
            part = decompressor.decompress(data, max_length=left + 1)
        except (OSError, RuntimeError, EOFError, zstd.ZstdError) as error:
            raise ValueError(f"packed data is damaged: {error}") from None
        left -= len(part)
        if left < 0:
            raise ValueError(f"more than the {size} bytes come out that it may be")
        if not decompressor.eof:
            raise ValueError("packed data is cut off")
        parts.append(part)
        data = decompressor.unused_data
    return b"".join(parts)


def unpack_file(source: Path, target: Path) -> None:
    """Write what a zstd file unpacks to; raises ValueError for far more than recordings do."""
    left = most_unpacked(source.stat().st_size)
    with open_regular(source) as packed, zstd.open(packed, "rb") as file, target.open("wb") as out:
        while content := file.read(1 << 20):
            left -= len(content)
            if left < 0:
                raise ValueError("it is a file that unpacks to far more than recordings do")
            out.write(content)


@dataclass(frozen=True)
class Metadata:
    """What a metadata.yaml says: files in their order; ``file`` or ``message`` where these are
    packed as zstd, else empty; and the distribution of ROS, empty where it is not said.
    """

    files: tuple[Path, ...]
    packed: str
    distribution: str


def read_metadata(folder: Path) -> Metadata:
    """Return what the metadata.yaml of a rosbag2 folder says; BagError where it leads out of the
    folder, is a bomb, or lacks something.
    """
    path = folder / "metadata.yaml"
    refuse_pointer(path)
    text = read_text(path, 4_000_000, BagError)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise BagError(f"{path} has references (*name): recorders write none")
            opens = isinstance(event, yaml.CollectionStartEvent)
            depth += opens - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise BagError(f"{path} is nested deeper than {_DEEPEST} levels")
        content = yaml.load(text, loader)["rosbag2_bagfile_information"]
        files = tuple(folder / PurePath(str(name)).name for name in content["relative_file_paths"])
        packed = str(content.get("compression_mode") or "").lower()
        kind = str(content.get("compression_format") or "zstd")
        distribution = str(content.get("ros_distro") or "")
    except BagError:
        raise
    except Exception as error:  # YAML and what it holds may be anything
        why = f"{path} is damaged, it does not describe a recording ({one_line(error)})"
        raise BagError(
            f"{why}: copy it again, or make it anew with `ros2 bag reindex {folder}`"
        ) from None
    if packed not in ("", "none") and kind != "zstd":
        raise BagError(f"{path}: the recording is packed as {kind}, which is not read")
    if missing := ", ".join(file.name for file in files if not file.exists()):
        why = f"{folder} is incomplete: {missing} is missing"
        raise BagError(f"{why}: copy the whole folder again")
    return Metadata(files, packed if packed != "none" else "", distribution)


def check_folder(folder: Path, files: Iterable[Path]) -> None:
    """Refuse files that a link or their kind leads elsewhere; raises BagError."""
    for path in files:
        # whatever else lies in the folder is not read
        if path.name != "metadata.yaml" and not {".mcap", ".db3"} & set(path.suffixes):
            continue
        check_inside(path, folder, BagError)
        if path.exists() and not path.is_file():
            raise BagError(f"{path} is no regular file: copy the recording again")
