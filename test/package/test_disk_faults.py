# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or read-only, and two commands at one folder: one clear line, nothing lost.

The disks are small file systems in memory where this user may mount one (root). Elsewhere those
tests are skipped; the limit on the size of a file (`ulimit -f`), which anybody can set, and
/dev/full stand in for a full disk.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from killing import TRAINING, Job, command, files_of, leftovers
from moving_recording import moving
from nyuv2_pack import write_pack
from tiny_bundle import tiny_manifest, write_tiny_bundle

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import BagError, BundleError
from proto_mtl_ros.files import write_json_part
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine_cache import EngineCache, EngineKey, EngineNotSaved
from recordings import START, image_message, write_recording

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("lightning", reason="training needs lightning")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "sensor_msgs/msg/Image"
KEY = EngineKey("tiny", "a" * 64, "tensorrt 10.3.0", "Orin", "8.7", "fp16", "1x96x128")


class SmallDisk:
    """A file system of its own.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        options = f"size={size},mode=0755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True
        )
        if done.returncode:
            pytest.skip("this user may not mount a small file system")

    def fill(self, left: int) -> None:
        """Leave so many bytes."""
        free = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)

    def make_room(self) -> None:
        (self.path / "ballast").unlink()

    def remount(self, how: str) -> None:
        """Make it read-only ("ro") or writable again ("rw")."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Makes a file system of so many bytes."""
    disks: list[SmallDisk] = []

    def make(size: int) -> SmallDisk:
        disks.append(SmallDisk(tmp_path / f"disk{len(disks)}", size))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


def one_line(job: Job, *parts: object, status: int = 3) -> str:
    """Assert that a command ended with this status and one line that has these parts; return it."""
    assert job.wait() and job.status == status, (job.status, job.said)
    lines = [line for line in job.said.splitlines() if line.strip()]
    assert len(lines) == 1 and "Traceback" not in job.said, job.said
    for part in parts:
        assert str(part) in lines[0], lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The words of a short training, without --out."""
    folder = tmp_path_factory.mktemp("training")
    pack = write_pack(folder / "pack", train=8)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(TRAINING))
    return ("train", "--config", config, "--data", pack)


def without(disk: SmallDisk, line: str) -> str:
    """Return a line as it is anywhere."""
    return line.replace(str(disk.path), "DISK")


def refused_until_there_is_room(
    disk: SmallDisk, job: Path, words: tuple[object, ...], lefts: tuple[int, ...]
) -> list[str]:
    """Run a command whose disk is full and read-only, then again; return what it said before.

    Args:
        words: of the command; it ends with --out DISK/out.
        lefts: bytes that the disk has left, one run each.
    """
    out, seen = disk.path / "out", []
    kept = {p: p.read_bytes() for p in out.glob("last.ckpt")}
    for left in lefts:
        disk.fill(left)
        seen.append(one_line(Job(job, command, *words), out, "make room"))
        assert all(path.read_bytes() == content for path, content in kept.items())
        assert not leftovers(disk.path)
        disk.make_room()
    disk.remount("ro")
    seen.append(one_line(Job(job, command, *words), out, "make it writable"))
    disk.remount("rw")
    last = Job(job, command, *words)
    assert last.wait() and last.status == 0, last.said
    return seen


def test_a_training_whose_disk_fills_goes_on_where_it_was(
    training: tuple[object, ...],
    small_disk: Callable[[int], SmallDisk],
    tmp_path: Path,
    record_fault: Callable,
) -> None:
    """Checkpoints and TensorBoard alike."""
    disk = small_disk(256 << 20)
    words = (*training, "--out", disk.path / "out")
    first = Job(tmp_path / "job", command, *words, "--max-epochs", 1)
    assert first.wait() and first.status == 0, first.said
    assert (disk.path / "out" / "last.ckpt").is_file()
    # not even room for TensorBoard; room for that, and not for a checkpoint
    seen = refused_until_there_is_room(disk, tmp_path / "job", words, (0, 300_000))
    assert torch.load(disk.path / "out" / "last.ckpt", weights_only=True)["epoch"] == 3
    record_fault(
        "disk", "full or read-only under checkpoints and TensorBoard", tried=len(seen),
        seen=f"status 3, \"{without(disk, seen[1])}\"; the last"
        " checkpoint stays, and the same command goes on when there is room",
    )  # fmt: skip


def test_a_data_set_whose_disk_fills_is_finished_when_there_is_room(
    small_disk: Callable[[int], SmallDisk], tmp_path: Path, record_fault: Callable
) -> None:
    bag = moving(tmp_path / "bag")
    words = ("dataset", "convert", bag, "--blocks", "train 0.6, test 0.4", "--motion", 0.05)
    whole = Job(tmp_path / "job", command, *words, "--out", tmp_path / "whole")
    assert whole.wait() and whole.status == 0, whole.said
    expected = files_of(tmp_path / "whole")
    size = sum(map(len, expected.values()))
    disk = small_disk(4 * size + (1 << 20))
    words = (*words, "--out", disk.path / "out")
    lefts = (0, size // 4, size // 2)
    seen = refused_until_there_is_room(disk, tmp_path / "job", words, lefts)
    assert files_of(disk.path / "out") == expected
    record_fault(
        "disk", "full or read-only under a data set", tried=len(seen),
        seen=f"status 3, \"{without(disk, seen[1])}\"; the same command finishes it, equal in"
        " every byte",
    )  # fmt: skip


def test_a_pass_whose_disk_fills_goes_on_when_there_is_room(
    small_disk: Callable[[int], SmallDisk], tmp_path: Path, record_fault: Callable
) -> None:
    """Records, results and the report."""
    bag = write_recording(tmp_path / "bag", frames=12)
    model = write_tiny_bundle(tmp_path / "models")
    disk = small_disk(4 << 20)
    out = disk.path / "out"
    words = ("bag", "evaluate", bag, "--model", model, "--out", out, "--backend", "onnxruntime")
    seen = refused_until_there_is_room(disk, tmp_path / "job", words, (0, 8192, 45_000))
    assert json.loads((out / "results.json").read_text())["frames"] == 12
    record_fault(
        "disk", "full or read-only under reports", tried=len(seen),
        seen=f"status 3, \"{without(disk, seen[0])}\"; the same command goes on",
    )  # fmt: skip


def test_an_older_bundle_stays_when_the_disk_is_full(
    small_disk: Callable[[int], SmallDisk], tmp_path: Path, record_fault: Callable
) -> None:
    disk = small_disk(2 << 20)
    folder = write_tiny_bundle(disk.path, "tiny")
    disk.fill(200_000)
    with pytest.raises(BundleError, match="make room") as full:
        Bundle.write(folder, tiny_manifest("new"), {"model.onnx": bytes(500_000)})
    assert Bundle.load(folder).name == "tiny" and not leftovers(disk.path)
    disk.make_room()
    disk.remount("ro")
    with pytest.raises(BundleError, match="make it writable"):
        Bundle.write(folder, tiny_manifest("new"), {"model.onnx": bytes(500_000)})
    disk.remount("rw")
    assert Bundle.load(folder).name == "tiny"
    assert Bundle.write(folder, tiny_manifest("new"), {"model.onnx": b"1"}).name == "new"
    record_fault(
        "disk", "full or read-only under an export", tried=2,
        seen=f"\"{without(disk, str(full.value))}\"; the older bundle stays",
    )  # fmt: skip


def _record(writer: BagWriter, messages: int) -> None:
    writer.add_topic("/image", IMAGE)
    import numpy as np

    rng = np.random.default_rng(0)
    for index in range(messages):
        pixels = rng.integers(0, 256, (200, 300, 3), np.uint8)  # nothing to compress
        stamp = START + index * 1_000_000
        writer.write("/image", stamp, image_message(pixels, "rgb8", stamp))


def test_of_a_recording_whose_disk_fills_what_was_written_is_kept(
    small_disk: Callable[[int], SmallDisk], record_fault: Callable
) -> None:
    disk = small_disk(6 << 20)
    with (
        pytest.raises(BagError, match="make room") as full,
        BagWriter(disk.path / "drive", keep_cut=True) as writer,
    ):
        _record(writer, 60)
    assert writer.kept == [disk.path / "drive-cut-1"] and not (disk.path / "drive").exists()
    assert not leftovers(disk.path)
    with Bag(writer.kept[0]) as bag:
        assert len(list(bag.messages(["/image"]))) > 15
    # one that can be made again, such as a replay's, frees the disk
    with pytest.raises(BagError, match="make room"), BagWriter(disk.path / "results") as writer:
        _record(writer, 60)
    assert [path.name for path in disk.path.iterdir()] == ["drive-cut-1"]
    disk.remount("ro")
    with pytest.raises(BagError, match="make it writable"):
        BagWriter(disk.path / "results")
    record_fault(
        "disk", "full or read-only under a recording", tried=3,
        seen=f"\"{without(disk, str(full.value))}\"; what a robot has recorded before is kept as"
        " NAME-cut-1",
    )  # fmt: skip


def test_an_engine_that_cannot_be_kept_is_used_and_the_older_one_stays(
    small_disk: Callable[[int], SmallDisk], record_fault: Callable
) -> None:
    disk = small_disk(1 << 20)
    cache = EngineCache(disk.path / "cache")
    other = EngineKey(**{**vars(KEY), "gpu": "Xavier"})
    path = cache.store(KEY, b"older")
    disk.fill(100_000)
    for key in (KEY, other):
        with pytest.raises(EngineNotSaved, match="set PROTO_MTL_CACHE") as full:
            cache.store(key, bytes(300_000))
        assert cache.find(key) == bytes(300_000)
    assert path.read_bytes() == b"older" and not leftovers(disk.path)
    script = (
        "import json, sys; from proto_mtl_ros.runtime.engine_cache import *;"
        "key = EngineKey(**json.loads(sys.argv[2]));"
        "sys.stdout.buffer.write(EngineCache(Path(sys.argv[1])).find(key))"
    )
    words = [sys.executable, "-c", script, str(cache.folder), json.dumps(vars(KEY))]
    again = subprocess.run(words, capture_output=True)  # in another process
    assert again.stdout == b"older", again.stderr
    disk.make_room()
    disk.remount("ro")
    with pytest.raises(EngineNotSaved, match="Read-only file system.*set PROTO_MTL_CACHE"):
        cache.store(other, b"engine")
    disk.remount("rw")
    cache.store(KEY, b"newer")
    assert path.read_bytes() == b"newer" and cache.find(KEY) == b"newer"
    record_fault(
        "disk", "full or read-only under the engine cache", tried=3,
        seen=f"the engine runs all the same; \"{without(disk, str(full.value))}\"",
    )  # fmt: skip


def _limited(size: int, work: str, *arguments: object) -> None:
    """Set `ulimit -f` and run a command."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    command(work, *arguments)


def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk(
    training: tuple[object, ...], tmp_path: Path, record_fault: Callable
) -> None:
    """For users who may not mount anything."""
    out = tmp_path / "run"
    job = Job(tmp_path / "job", _limited, 100_000, *training, "--out", out)
    line = one_line(job, out, "File too large", "ulimit")
    assert not (out / "last.ckpt").exists() and not leftovers(out)
    record_fault(
        "disk", "a checkpoint beyond `ulimit -f`", tried=1,
        seen="status 3, \"" + line.replace(str(tmp_path), "DISK") + "\"",
    )  # fmt: skip


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    """By its permissions."""
    (tmp_path / "out").mkdir(mode=0o555)
    bag = write_recording(tmp_path / "bag", frames=3)
    model = write_tiny_bundle(tmp_path / "models")
    words = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "evaluate", str(bag)]
    words += ["--model", str(model), "--backend", "onnxruntime", "--out", str(tmp_path / "out")]
    if os.geteuid() == 0:  # whom permissions do not stop, unless he gives that up
        without_override = "--bounding-set=-dac_override,-dac_read_search"
        words = ["setpriv", without_override, *words]
        if subprocess.run([*words[:2], "true"], capture_output=True).returncode:
            pytest.skip("setpriv cannot take root's override of permissions away")
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(tmp_path / "out") in done.stderr and "permissions" in done.stderr


def test_two_commands_at_one_folder_do_not_mix(
    training: tuple[object, ...], tmp_path: Path, record_fault: Callable
) -> None:
    bag = moving(tmp_path / "bag")
    data = ("dataset", "convert", bag, "--blocks", "train 0.6, test 0.4", "--motion", 0.05)
    model = write_tiny_bundle(tmp_path / "models", delay_loops=30)
    passes = ("bag", "evaluate", bag, "--model", model, "--backend", "onnxruntime")
    cases: tuple[tuple[str, tuple[object, ...], str], ...] = (
        ("train", training, "last.ckpt"),
        ("data", data, "splits.csv"),
        ("pass", passes, "results.json"),
    )
    for name, words, last in cases:
        out = tmp_path / name
        first = Job(tmp_path / f"{name}1", command, *words, "--out", out)
        while not out.exists():
            assert not first.wait(0.001), first.said
        second = Job(tmp_path / f"{name}2", command, *words, "--out", out)
        one_line(
            second, out, "being written by another process", "wait until it has ended", status=2
        )
        assert first.wait() and first.status == 0, first.said
        assert (out / last).is_file() and not leftovers(out)
        third = Job(tmp_path / f"{name}3", command, *words, "--out", out)
        assert third.wait() and third.status == 0, third.said
    record_fault(
        "two at once", "two trainings, data sets or passes in one folder", tried=3,
        seen="the second ends with status 2: \"OUT is being written by another process:"
        " wait until it has ended, or give another folder\"",
    )  # fmt: skip


def _write_bundles(out: str, name: str, count: str) -> None:
    for _ in range(int(count)):
        content = name.encode() * 300_000
        Bundle.write(out, tiny_manifest(name), {"model.onnx": content, "README.md": content})


def _add_members(path: str, name: str, count: str) -> None:
    for index in range(int(count)):
        write_json_part(Path(path), f"{name}{index}", index)


def test_two_exports_to_one_folder_give_the_one_or_the_other(
    tmp_path: Path, record_fault: Callable
) -> None:
    out, page = tmp_path / "model", tmp_path / "figures.json"
    jobs = [Job(tmp_path / n, _write_bundles, out, n, 20) for n in ("a", "b")]
    jobs += [Job(tmp_path / f"m{n}", _add_members, page, n, 50) for n in ("a", "b")]
    seen: set[str] = set()
    loaded = 0
    while not all(job.wait(0.001) for job in jobs):
        if out.exists():
            try:
                seen.add(Bundle.load(out).name)
                loaded += 1
            except BundleError:  # replaced between model.json and a file
                pass
    for job in jobs:
        assert job.status == 0, job.said
    bundle = Bundle.load(out)
    letters = {(bundle.path / name).read_bytes()[:1] for name in bundle.manifest.files}
    assert letters == {bundle.name.encode()} and loaded
    members: dict[str, Any] = json.loads(page.read_text())
    assert len(members) == 100
    assert not leftovers(tmp_path)
    record_fault(
        "two at once", "two exports into one folder, 20 times over", tried=40,
        seen="the bundle is the one's or the other's, whole",
    )  # fmt: skip
