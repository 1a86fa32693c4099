# SPDX-License-Identifier: Apache-2.0
"""Writing rosbag2 recordings (mcap, zstd) without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)  # fmt: skip
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from proto_mtl_ros.data.bags.message_types import typestore
from proto_mtl_ros.errors import BagError, file_trouble
from proto_mtl_ros.files import NewFolder

_EMPTY_BYTES = 1024
"""A file smaller than this has its header alone: messages are written a megabyte at a time."""


class BagWriter:
    """Writes a recording ``<name>/<name>.mcap`` under a temporary name and gives it its own once it
    is whole.

    Leaving the context by an exception removes what was written; an older recording of the same
    name stays until the new one is whole. With ``keep_cut``, for what cannot be recorded again, the
    whole messages of a recording that was cut off by a kill or a full disk are ``kept`` in
    ``<name>-cut-1`` and so on. BagError where the folder cannot be written, or is something else
    than a recording.
    """

    def __init__(self, path: str | Path, keep_cut: bool = False) -> None:
        self.path = Path(path)
        self.kept: list[Path] = []
        self._keep_cut = keep_cut
        self._connections: dict[str, Connection] = {}
        try:
            if self.path.exists() and not (self.path / "metadata.yaml").exists():
                raise BagError(f"{self.path} exists and is not a recording: choose another name")
            self._new = NewFolder(self.path, self._keep if keep_cut else None)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            # The storage file is named after its folder, which has its name from the start.
            # Version 9 spells QoS in a way that ROS 2 Humble and Iron do not know.
            self._writer = Writer(self._new.path, version=8, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except OSError as error:
            self._new.discard()
            raise _unwritable(self.path, error) from None

    def add_topic(self, name: str, message_type: str, latched: bool = False) -> None:
        """Announce a topic, so that it is in the recording even without a message."""
        if name in self._connections:
            return
        store = typestore()
        if message_type not in store.types:
            raise BagError(f"messages of type {message_type} cannot be recorded: unknown type")
        self._connections[name] = self._writer.add_connection(
            name, message_type, typestore=store, offered_qos_profiles=_qos(latched)
        )

    def write(self, name: str, time: int, message: Any) -> None:
        """Write a message, serialised or of ``bag.typestore``, received at ``time`` (ns)."""
        connection = self._connections[name]
        if not isinstance(message, bytes):
            message = bytes(typestore().serialize_cdr(message, connection.msgtype))
        try:
            self._writer.write(connection, time, message)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def close(self) -> None:
        """Finish the recording and give it its name; BagError where the disk refuses."""
        try:
            self._writer.close()
            self._new.commit()
        except OSError as error:
            self.abort()
            raise _unwritable(self.path, error) from None

    def abort(self) -> None:
        with suppress(OSError):  # a full disk refuses what is still to be written
            self._writer.abort()
        if self._keep_cut and self._new.path.exists():
            self._keep(self._new.path)
        self._new.discard()

    def _keep(self, cut: Path) -> None:
        """Give a recording without an end a name of its own, if a message can be in it."""
        if all(file.stat().st_size < _EMPTY_BYTES for file in cut.glob("*.mcap")):
            return
        number = 1
        while (place := self.path.with_name(f"{self.path.name}-cut-{number}")).exists():
            number += 1
        cut.rename(place)
        self.kept.append(place)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.close()
        else:
            self.abort()


def _unwritable(path: Path, error: OSError) -> BagError:
    return BagError(f"cannot write {file_trouble(error, path, 'give another folder')}")


def _qos(latched: bool) -> Sequence[Qos]:
    """Return the profile that players of the recording shall offer: reliable, latched or not."""
    forever = QosTime(9223372036, 854775807)
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    kept = QosHistory.KEEP_LAST, 1 if latched else 10, QosReliability.RELIABLE, durability
    return [Qos(*kept, forever, forever, QosLiveliness.AUTOMATIC, forever, False)]
