# SPDX-License-Identifier: Apache-2.0
"""Files and folders appear whole: over links laid in the way, without locks, without exchange."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proto_mtl_ros.errors import file_trouble
from proto_mtl_ros.files import (
    NewFolder,
    ScratchFolder,
    folders,
    remove_leftovers,
    replace_folder,
    write_bytes,
    write_json_part,
    write_text,
    writing,
)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, as another process does that is writing it."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def folder_of(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "a").write_text(content)
    return path


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.fixture(params=["an old libc", "a file system that cannot"])
def without_exchange(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    class Old:
        pass

    class Unable:
        @staticmethod
        def renameat2(*_: object) -> int:
            folders.ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(folders, "_LIBC", Old() if request.param == "an old libc" else Unable())


@pytest.mark.parametrize("lay", [Path.symlink_to, Path.hardlink_to])
def test_what_lies_in_the_place_of_the_hidden_file_is_not_written_through(
    tmp_path: Path, lay: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "victim").write_text("untouched")
    lay(tmp_path / ".report.part", tmp_path / "victim")
    write_text(tmp_path / "report", "new")
    assert (tmp_path / "report").read_text() == "new"
    assert (tmp_path / "victim").read_text() == "untouched"
    assert names(tmp_path) == ["report", "victim"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("half", ["before", "target"])
def test_a_hidden_folder_of_another_user_is_refused(tmp_path: Path, half: str) -> None:
    part = tmp_path / ".target.part"
    folder_of(part / half, "a stranger's")
    os.chown(part, 65534, 65534)
    with pytest.raises(OSError, match="belongs to another user") as refused:
        NewFolder(tmp_path / "target")
    assert "give another place" in file_trouble(refused.value)
    assert names(tmp_path) == [".target.part"] and names(part) == [half]


def test_a_folder_that_was_exchanged_while_it_was_written_is_not_committed(tmp_path: Path) -> None:
    new = NewFolder(tmp_path / "target")
    folder_of(new.path, "mine")
    (tmp_path / ".target.part").rename(tmp_path / "away")
    for name in ("target", "before"):
        folder_of(tmp_path / ".target.part" / name, "a stranger's")
    with pytest.raises(OSError, match="exchanged"):
        new.commit()
    assert not (tmp_path / "target").exists()


def test_a_device_is_written_into_and_never_replaced(tmp_path: Path) -> None:
    full = Path("/dev/full")
    before = os.stat(full)
    with pytest.raises(OSError) as error:
        write_bytes(full, b"content")
    assert "make room" in file_trouble(error.value) and "/dev/full" in file_trouble(error.value)
    assert os.path.samestat(os.stat(full), before)
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    thread.start()
    write_bytes(tmp_path / "pipe", b"content")
    thread.join(10)
    assert read == [b"content"] and (tmp_path / "pipe").is_fifo()


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "old")
    write_text(tmp_path / "text", "new")
    write_json_part(tmp_path / "figures.json", "depth", 1)
    write_json_part(tmp_path / "figures.json", "normals", 2)
    for content in ("old", "new"):
        with NewFolder(tmp_path / "folder") as new:
            folder_of(new.path, content)
    assert (tmp_path / "text").read_text() == "new"
    assert json.loads((tmp_path / "figures.json").read_text()) == {"depth": 1, "normals": 2}
    assert (tmp_path / "folder" / "a").read_text() == "new"
    assert [name for name in names(tmp_path) if name[0] != "."] == [
        "figures.json",
        "folder",
        "text",
    ]


def test_what_another_process_is_writing_is_refused_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.05)
    (tmp_path / ".report.part").write_text("half")
    with held(tmp_path / ".report.part"), pytest.raises(OSError) as refused:
        write_text(tmp_path / "report", "new")
    assert (refused.value.errno, refused.value.filename) == (errno.EBUSY, str(tmp_path / "report"))
    (tmp_path / ".data.part").mkdir()
    with held(tmp_path / ".data.part"), pytest.raises(OSError) as refused:
        NewFolder(tmp_path / "data")
    assert (refused.value.errno, refused.value.filename) == (errno.EBUSY, str(tmp_path / "data"))
    # what was half is nobody's now
    write_text(tmp_path / "report", "new")
    with NewFolder(tmp_path / "data") as new:
        folder_of(new.path, "whole")
    assert names(tmp_path) == ["data", "report"]


@pytest.mark.usefixtures("without_exchange")
def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path) -> None:
    target = folder_of(tmp_path / "target", "old")
    with NewFolder(target) as new:
        folder_of(new.path, "new")
    assert (target / "a").read_text() == "new"
    assert names(tmp_path) == ["target"]
    with pytest.raises(OSError):
        replace_folder(tmp_path / "missing", target)
    assert (target / "a").read_text() == "new"
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("next_one", ["write", "clear"])
def test_a_folder_that_had_stepped_aside_comes_back(tmp_path: Path, next_one: str) -> None:
    """Where names cannot be exchanged, a process may be killed between two renames."""
    folder_of(tmp_path / ".target.part" / "before", "old")
    folder_of(tmp_path / ".target.part" / "target", "half")
    if next_one == "clear":
        remove_leftovers(tmp_path)
    else:
        NewFolder(tmp_path / "target").discard()
    assert (tmp_path / "target" / "a").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_a_failing_rescue_leaves_what_there_is(tmp_path: Path) -> None:
    folder_of(tmp_path / ".target.part" / "target", "recorded before")

    def rescue(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as refused:
        NewFolder(tmp_path / "target", rescue)
    assert refused.value.filename == str(tmp_path / "target")
    kept = tmp_path / ".target.part" / "target" / "a"
    assert kept.read_text() == "recorded before"
    NewFolder(tmp_path / "target").discard()  # its lock was given back
    assert names(tmp_path) == []


def test_leftovers_in_use_stay_and_others_go(tmp_path: Path) -> None:
    for name in (".a.part", ".b.part", ".c.part"):
        folder_of(tmp_path / name / "x", "half")
    (tmp_path / ".d.part").write_text("half")
    (tmp_path / "e.part").write_text("mine")
    (tmp_path / ".f.part").symlink_to(tmp_path / "e.part")
    with held(tmp_path / ".b.part"):
        remove_leftovers(tmp_path)
    assert names(tmp_path) == [".b.part", ".f.part", "e.part"]
    assert (tmp_path / ".b.part" / "x" / "a").read_text() == "half"


def test_a_scratch_folder_goes_with_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
    folder_of(tmp_path / "proto_mtl_old_x.part" / "y", "of a killed process")
    with ScratchFolder("demo") as mine:
        assert names(tmp_path) == [mine.name]
        folder_of(mine / "z", "scratch")
    assert names(tmp_path) == []
