# SPDX-License-Identifier: Apache-2.0
"""Recordings that unpack to gigabytes, never end, or lead elsewhere: refused by one line, without
the memory and the time that they ask for."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from bag_bombs import (
    GIGABYTE,
    PACKERS,
    chunk,
    indexed,
    record,
    ros1_bomb,
    without_index,
    zeros_zstd,
)
from fuzz_targets import CORPUS
from mcap.writer import CompressionType, Writer

from proto_mtl_ros.data.bags import storage as bag_storage
from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.storage import MAX_CHUNK, unpack
from proto_mtl_ros.errors import BagError
from recordings import packed, write_recording

pytestmark = [
    pytest.mark.usefixtures("bounded_effort"),
    pytest.mark.tries(
        "parsers",
        "a recording that unpacks to gigabytes, never ends, or leads elsewhere",
        seen="one line; at most 400 MB of memory and seconds of time are spent",
    ),  # fmt: skip
]


def refusal(path: Path) -> str:
    with pytest.raises(BagError) as refused, Bag(path) as bag:
        for message in bag.messages():
            assert len(message.cdr) <= MAX_CHUNK
    line = str(refused.value)
    assert line and "\n" not in line and len(line) < 1500
    return line


@pytest.mark.parametrize("kind", PACKERS)
def test_no_more_is_unpacked_than_was_said(kind: str) -> None:
    small = PACKERS[kind](2 << 20)
    assert unpack(kind, small, 2 << 20) == bytes(2 << 20)
    assert unpack(kind, small + small, 4 << 20) == bytes(4 << 20)
    for damaged, size in ((small, (2 << 20) - 1), (small[:-1], 2 << 20), (small, MAX_CHUNK + 1)):
        with pytest.raises(ValueError):
            unpack(kind, damaged, size)


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
@pytest.mark.parametrize("stated", [64, 4 * GIGABYTE, 1 << 62])
@pytest.mark.parametrize("write", [without_index, indexed])
def test_a_chunk_that_unpacks_to_gigabytes(
    write: Any, stated: int, kind: str, tmp_path: Path
) -> None:
    data = PACKERS[kind](GIGABYTE)
    assert len(data) < GIGABYTE / 100
    path = tmp_path / "bomb.mcap"
    if write is indexed:
        indexed(path, [(data, stated, kind)])
    else:
        without_index(path, chunk(data, stated, kind))
    refusal(path)


def test_a_cut_recording_of_such_a_chunk(tmp_path: Path) -> None:
    data = zeros_zstd(GIGABYTE)
    path = without_index(tmp_path / "cut.mcap", chunk(data, 64, "zstd"))
    path.write_bytes(path.read_bytes()[:-8])
    assert "before its first whole message" in refusal(path)


def test_many_small_bombs_are_one_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bag_storage, "_FREE", 16 << 20)
    content = record(0x80, bytes((8 << 20) - 9))  # of a kind that is passed over
    data = zstandard.compress(content)
    path = without_index(tmp_path / "many.mcap", *[chunk(data, 8 << 20, "zstd")] * 40)
    assert "far more than recordings do" in refusal(path)
    path.write_bytes(path.read_bytes()[:-8])  # and where it is cut, while it is recovered
    assert "before its first whole message" in refusal(path)


def test_an_index_that_names_one_chunk_many_times(tmp_path: Path) -> None:
    chunks = [(zeros_zstd(8 << 20), 8 << 20, "zstd")] * 1000
    assert "names a place twice" in refusal(indexed(tmp_path / "x.mcap", chunks, same_place=True))


def test_chunks_that_all_have_one_time_do_not_lie_in_memory_together(tmp_path: Path) -> None:
    chunks = [(zeros_zstd(100 << 20), 100 << 20, "zstd")] * 4
    assert "overlap in time" in refusal(indexed(tmp_path / "x.mcap", chunks))


@pytest.mark.parametrize("length", [1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_record_that_states_an_impossible_length(length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    for kind in (3, 4, 5, 6, 8, 12):
        without_index(path, struct.pack("<BQ", kind, length) + bytes(40))
        with suppress(BagError), Bag(path) as bag:  # what is passed over may end the file
            assert not list(bag.messages())
        path.write_bytes(path.read_bytes()[:-8])
        refusal(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "bag", 2)


def test_a_packed_file_that_fills_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_storage, "_FREE", 64 << 20)
    assert "unpacks to far more" in refusal(packed(folder, "file", zeros_zstd(GIGABYTE)))


def test_packed_messages_that_are_bombs(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    path.mkdir()
    with (path / "bag.mcap").open("wb") as out:
        writer = Writer(out, compression=CompressionType.NONE)
        writer.start("ros2")
        schema = writer.register_schema("sensor_msgs/msg/Image", "ros2msg", b"")
        channel = writer.register_channel("/image", "cdr", schema, {})
        writer.add_message(channel, 1, zeros_zstd(GIGABYTE), 1)
        writer.finish()
    original = (CORPUS / "metadata" / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(original.replace("/c/depth", "/image"))
    packed(path, "message")
    assert "come out" in refusal(path)


@pytest.mark.parametrize("size", [100, 1 << 31])
def test_a_ros1_chunk_that_unpacks_to_gigabytes(size: int, tmp_path: Path) -> None:
    line = refusal(ros1_bomb(tmp_path / "bomb.bag", size))
    assert "come out" in line if size == 100 else "too large" in line


def database(path: Path, *statements: str) -> Path:
    shutil.copy(CORPUS / "sqlite" / "tiny.db3", path)
    with closing(sqlite3.connect(path)) as opened:
        for statement in statements:
            opened.execute(statement)
        opened.commit()
    return path


ENDLESS = (
    "CREATE VIEW messages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT x AS id, 1 AS topic_id, x AS timestamp, x'00' AS data FROM n"
)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("ALTER TABLE messages RENAME TO others", ENDLESS), "tables alone"),
        (
            (
                "ALTER TABLE messages RENAME TO others",
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INT, timestamp INT,"
                " data BLOB GENERATED ALWAYS AS (zeroblob(900000000)))",
                "INSERT INTO messages VALUES (1, 1, 1)",
            ),
            "is computed",
        ),
        (("CREATE VIRTUAL TABLE v USING fts5(a)",), "tables alone"),
        (("UPDATE messages SET data = 4000000000",), "not made of bytes"),
        (("UPDATE messages SET data = 'text'",), "not made of bytes"),
        (("UPDATE messages SET timestamp = 'soon'",), ""),
        (("UPDATE topics SET name = x'00'",), ""),
        (
            (
                "ALTER TABLE topics RENAME TO t",
                "CREATE TABLE topics AS SELECT * FROM t UNION ALL SELECT * FROM t",
            ),
            "two of its topics",
        ),
    ],
    ids=["endless view", "computed", "virtual", "number", "text", "time", "name", "topics twice"],
)
def test_a_database_that_is_more_than_tables(
    statements: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    try:
        path = database(tmp_path / "x.db3", *statements)
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot write it: {error}")
    assert said in refusal(path)
    with path.open("r+b") as file:  # cut: it is recovered
        file.truncate(path.stat().st_size - 512)
    with pytest.raises(BagError), Bag(path) as bag:
        list(bag.messages())
        raise BagError("what is whole of it was read")


def test_a_statement_in_a_cut_database_is_never_run(tmp_path: Path) -> None:
    """The text of a table's definition is what its author wants it to be."""
    target = tmp_path / "written by the recording"
    path = database(tmp_path / "x.db3")
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA writable_schema = ON")
        statement = f"VACUUM INTO '{target}'"
        opened.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'metadata'", (statement,))
        opened.commit()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 512)
    with pytest.raises(BagError), Bag(path):
        raise BagError("it could be opened")
    assert not target.exists()


@pytest.mark.parametrize("name", ["bag.mcap", "metadata.yaml"])
def test_a_link_out_of_a_recording(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "is outside of" in refusal(folder)
    (folder / "metadata.yaml").unlink()  # as a recorder leaves it that was killed
    if name == "bag.mcap":
        assert "is outside of" in refusal(folder)


def test_metadata_that_names_a_file_elsewhere(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "bag.mcap", tmp_path / "other.mcap")
    text = (folder / "metadata.yaml").read_text()
    (folder / "metadata.yaml").write_text(text.replace("- bag.mcap", "- ../other.mcap"))
    refusal(folder)


@pytest.mark.parametrize("name", ["bag.mcap", "metadata.yaml", "more.db3"])
def test_a_pipe_in_a_recording_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "no regular file" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x]\nb: [" + "*a, " * 9 + "]\n", "references"),
        ("[" * 100_000, "nested deeper"),
        ("#" * 5_000_000, "more than 4 MB"),
        ("!!python/object/apply:os.system ['true']\n", "damaged"),
        ("a: b: c\n", "damaged"),
    ],
    ids=["references", "deep", "huge", "objects", "no yaml"],
)
def test_metadata_that_is_a_bomb(text: str, said: str, folder: Path) -> None:
    (folder / "metadata.yaml").write_text(text)
    assert said in refusal(folder)


@pytest.mark.control
def test_the_shipped_recording_is_read(room_recording: Path) -> None:
    with Bag(room_recording) as bag:
        assert sum(1 for _ in bag.messages()) == sum(topic.count for topic in bag.topics)
