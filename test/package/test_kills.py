# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed (SIGKILL) at any moment: the next start ends as if nothing had happened.

Nothing half written is ever taken for whole, and nothing is left behind. A few kills by default;
PROTO_MTL_CAMPAIGN=1 kills 50 times at random moments, and before 69 file operations besides.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import killing
import pytest
import yaml
from evaluations import without_times
from killing import TRAINING, Job, command, files_of, leftovers
from moving_recording import moving
from nyuv2_pack import write_pack
from tiny_bundle import tiny_manifest, write_tiny_bundle

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.errors import BundleError
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import available_backends
from proto_mtl_ros.runtime.engine_cache import EngineCache
from proto_mtl_ros.runtime.engine_plan import EnginePlan
from recordings import packed, write_recording

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("lightning", reason="training needs lightning")

CAMPAIGN = bool(os.environ.get("PROTO_MTL_CAMPAIGN"))
MODELS = Path(__file__).resolve().parents[2] / "models"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if CAMPAIGN else 600)]


def kills(default: int, campaign: int) -> int:
    return campaign if CAMPAIGN else default


@dataclass
class Killed:
    """A job that is killed again and again until the kills are used up, and then left alone.

    Attributes:
        folder: of everything.
        work, arguments: of the job; arguments may name ``out``.
        result: what a finished job leaves in ``out``, to be compared.
        whole: called after every kill; fails when something half can be taken for whole.
        seed: of the moments.
        over_a_bundle: at first there is an older bundle in ``out``.
        tried: kills so far.
        folders: that were used so far.
    """

    folder: Path
    work: Callable[..., None]
    arguments: Callable[[Path], tuple[object, ...]]
    result: Callable[[Path], Any]
    whole: Callable[[Path], None] = lambda out: None
    seed: int = 0
    over_a_bundle: bool = False
    tried: int = 0
    folders: int = 0

    def run(self, at_moments: int, at_operations: int) -> None:
        """Kill so often; every time, in the end, the result is that of an undisturbed run."""
        choose = random.Random(self.seed)
        first = self._fresh()
        job = self._start(first)
        assert job.wait() and job.status == 0, job.said
        seconds, operations = time.monotonic() - job.start, job.operations
        expected = self.result(first)
        moments = [seconds * (n + choose.random()) / at_moments for n in range(at_moments)]
        fatal = sorted(choose.sample(range(1, operations + 1), min(at_operations, operations)))
        plan: list[tuple[float, int | None]] = [(moment, None) for moment in moments]
        plan += [(300.0, number) for number in fatal]
        choose.shuffle(plan)
        out = self._fresh()
        for moment, operation in plan:
            while True:  # until it is killed: what was killed before may leave less to do
                job = self._start(out, operation)
                if not job.wait(max(0.0, moment - (time.monotonic() - job.start))):
                    job.kill()
                if job.killed:
                    break
                assert job.status == 0, job.said
                assert self.result(out) == expected
                out = self._fresh()
                moment *= 0.9  # a machine that is quicker now
            self.tried += 1
            self.whole(out)
            if choose.random() < 0.5:  # the next start is killed as well, or goes on to the end
                self._finish(out, expected)
                out = self._fresh()
        self._finish(out, expected)
        assert self.tried == len(plan)

    def _finish(self, out: Path, expected: Any) -> None:
        job = self._start(out)
        assert job.wait() and job.status == 0, job.said
        assert self.result(out) == expected
        assert not leftovers(self.folder), leftovers(self.folder)

    def _fresh(self) -> Path:
        self.folders += 1
        out = self.folder / f"{self.folders}" / "out"
        out.parent.mkdir(parents=True)
        if self.over_a_bundle:
            write_tiny_bundle(out.parent, out.name)
        return out

    def _start(self, out: Path, fatal: int | None = None) -> Job:
        return Job(self.folder / "job", self.work, *self.arguments(out), fatal=fatal)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A $TMPDIR of the test's own: what a killed process leaves there is seen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_a_training_goes_on_at_its_last_epoch(tmp_path: Path, record_fault: Callable) -> None:
    pack = write_pack(tmp_path / "pack", train=8)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TRAINING))

    def weights(out: Path) -> dict[str, list[float]]:
        state = torch.load(out / "last.ckpt", weights_only=True)
        assert state["epoch"] == 3
        return {name: value.flatten().tolist() for name, value in state["state_dict"].items()}

    def whole(out: Path) -> None:
        if (out / "last.ckpt").exists():
            state = torch.load(out / "last.ckpt", weights_only=True)["state_dict"]
            assert all(bool(torch.isfinite(value.float()).all()) for value in state.values())

    killed = Killed(
        tmp_path / "runs",
        command,
        lambda out: ("train", "--config", config, "--data", pack, "--out", out),
        weights,
        whole,
        seed=1,
    )
    killed.run(kills(1, 13), kills(1, 15))
    record_fault(
        "kill -9", "trainer", tried=killed.tried,
        seen="the same command goes on at the last whole epoch; weights equal those of an"
        " undisturbed run, bit by bit",
    )  # fmt: skip


def _write_bundle(out: str, graph: str) -> None:
    Bundle.write(out, tiny_manifest("new"), {"model.onnx": Path(graph), "README.md": b"new"})


def test_a_bundle_that_is_replaced_is_the_old_or_the_new_one_at_any_moment(
    tmp_path: Path, record_fault: Callable
) -> None:
    tiny = write_tiny_bundle(tmp_path)
    names: set[str] = set()

    def whole(out: Path) -> None:
        names.add(Bundle.load(out).name)

    killed = Killed(
        tmp_path / "models",
        _write_bundle,
        lambda out: (out, tiny / "model.onnx"),
        files_of,
        whole,
        seed=2,
        over_a_bundle=True,
    )
    killed.run(0, kills(5, 40))
    assert names <= {"out", "new"} and "out" in names
    record_fault(
        "kill -9", "writing a bundle over an older one", tried=killed.tried,
        seen="the older bundle or the new one loads, whole; the next one clears up",
    )  # fmt: skip


@pytest.mark.skipif(not CAMPAIGN, reason="an export takes a minute: PROTO_MTL_CAMPAIGN=1")
def test_an_export_is_done_again(tmp_path: Path, scratch: Path, record_fault: Callable) -> None:
    pack = write_pack(tmp_path / "pack", train=8)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TRAINING))
    job = Job(
        tmp_path / "job", command, "train", "--config", config, "--data", pack,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert job.wait() and job.status == 0, job.said

    def without_paths(out: Path) -> dict[str, Any]:
        own = str(out).encode()
        files: dict[str, Any] = {k: v.replace(own, b"OUT") for k, v in files_of(out).items()}
        manifest = json.loads(files["model.json"])
        del manifest["files"]["README.md"]  # in which the path of the bundle stands
        return files | {"model.json": manifest}

    killed = Killed(
        tmp_path / "models",
        command,
        lambda out: (
            "export", "--config", config, "--checkpoint", tmp_path / "run" / "last.ckpt",
            "--data", pack, "--out", out,
        ),
        without_paths,
        lambda out: Bundle.load(out) and None,
        seed=3,
        over_a_bundle=True,
    )  # fmt: skip
    killed.run(5, 2)
    assert not leftovers(scratch)
    record_fault(
        "kill -9", "exporter", tried=killed.tried,
        seen="the older bundle stays; the same command writes the new one, equal in every byte",
    )  # fmt: skip


def test_a_recording_becomes_the_same_data_set(tmp_path: Path, record_fault: Callable) -> None:
    bag = moving(tmp_path / "bag")
    killed = Killed(
        tmp_path / "data",
        command,
        lambda out: (
            "dataset", "convert", bag, "--out", out, "--blocks", "train 0.6, test 0.4",
            "--motion", 0.05,
        ),
        files_of, seed=4,
    )  # fmt: skip
    killed.run(kills(2, 11), kills(4, 25))
    record_fault(
        "kill -9", "dataset convert", tried=killed.tried,
        seen="the same command goes on where it was; the data set is equal in every byte",
    )  # fmt: skip


def test_a_pass_over_a_recording_ends_with_the_same_figures(
    tmp_path: Path, record_fault: Callable
) -> None:
    bag = write_recording(tmp_path / "bag", frames=40)
    model = write_tiny_bundle(tmp_path / "models")

    def figures(out: Path) -> Any:
        assert (out / "report.html").stat().st_size > 10_000
        return without_times(json.loads((out / "results.json").read_text()))

    def whole(out: Path) -> None:
        if (out / "results.json").exists():
            figures = json.loads((out / "results.json").read_text())
            assert figures["frames"] == 40

    killed = Killed(
        tmp_path / "passes",
        command,
        lambda out: (
            "bag", "evaluate", bag, "--model", model, "--out", out,
            "--backend", "onnxruntime", "--device", "cpu",
        ),
        figures, whole, seed=5,
    )  # fmt: skip
    killed.run(kills(1, 9), kills(1, 9))
    record_fault(
        "kill -9", "bag evaluate", tried=killed.tried,
        seen="the same command goes on at the frame it was at; the figures are equal",
    )  # fmt: skip


def _build_engine(cache: str) -> None:
    _plan(Path(cache)).build(lambda share, what: None)


def _plan(cache: Path) -> EnginePlan:
    return EnginePlan.of(
        Bundle.load(MODELS / "nyu13-lite0"), "a GPU", "8.6", "fp32",
        build_for="8.6", cache=EngineCache(cache),
    )  # fmt: skip


def _builders(folder: Path) -> list[str]:
    """Return the command lines of builders that work in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.skipif("tensorrt" not in available_backends(), reason="TensorRT is not installed")
def test_an_engine_is_built_again_and_the_builder_does_not_stay(
    tmp_path: Path, scratch: Path, record_fault: Callable
) -> None:
    weights = (MODELS / "nyu13-lite0" / "model.onnx").stat().st_size  # fp16

    def engine(out: Path) -> list[str]:
        assert len(_plan(out).find()) > 0.9 * weights
        return sorted(path.suffix for path in out.iterdir())

    def whole(out: Path) -> None:
        cache = _plan(out)
        found = cache.cache.find(cache.key)
        assert found is None or len(found) > 0.9 * weights
        end = time.monotonic() + 20
        while _builders(scratch):
            assert time.monotonic() < end, _builders(scratch)
            time.sleep(0.05)

    killed = Killed(tmp_path / "caches", _build_engine, lambda out: (out,), engine, whole, seed=6)
    killed.run(kills(1, 6), kills(0, 8))
    assert not leftovers(scratch)
    record_fault(
        "kill -9", "engine build", tried=killed.tried,
        seen="no engine counts as built; its builder ends with it; the next start builds it",
    )  # fmt: skip


def _record(out: str) -> None:
    from proto_mtl_ros.ros.replay import recorder

    raise SystemExit(recorder.main([out, "/camera/image=sensor_msgs/msg/Image"]))


def _written(storage: Path) -> bool:
    try:
        return storage.stat().st_size > 1_000_000
    except FileNotFoundError:
        return False


@pytest.fixture
def camera() -> Iterator[None]:
    """Publishes noise on /camera/image, 2 MB a second."""
    pytest.importorskip("rclpy", reason="the recorder needs ROS 2")
    from ros_harness import plain_node
    from sensor_msgs.msg import Image

    message = Image(height=100, width=200, step=200, encoding="mono8")
    noise, done = random.Random(0), threading.Event()
    with plain_node("noise") as node:
        publisher = node.create_publisher(Image, "/camera/image", 10)

        def publish() -> None:
            while not done.wait(0.01):
                message.data = array("B", noise.randbytes(100 * 200))  # nothing to compress
                publisher.publish(message)

        thread = threading.Thread(target=publish)
        thread.start()
        yield
        done.set()
        thread.join()


def test_what_a_killed_recorder_has_seen_is_kept(
    tmp_path: Path, camera: None, record_fault: Callable
) -> None:
    """A robot's own recording cannot be made again."""
    choose, out = random.Random(7), tmp_path / "out"
    count, cut = kills(1, 6), 0
    for number in range(count + 1):
        job = Job(tmp_path / "job", _record, out)
        part = tmp_path / ".out.part" / "out" / "out.mcap"
        end = time.monotonic() + 60
        while len(kept := sorted(tmp_path.glob("out-cut-*"))) < cut or not _written(part):
            assert time.monotonic() < end and not job.wait(0.01), job.said
        assert len(kept) == cut
        assert not cut or "a recording that was cut off is now" in job.said
        for path in kept:
            with Bag(path) as bag:
                assert bag.notes and "are whole and are used" in bag.notes[0]
                messages = list(bag.messages(["/camera/image"]))
                assert len(messages) > 20 and all(len(m.decode().data) == 20_000 for m in messages)
        if number < count:
            time.sleep(choose.random())
            assert job.kill()
            assert not out.exists()
            cut += 1
    job.end()
    assert job.wait() and job.status == 0, job.said
    with Bag(out) as bag:
        assert not bag.notes and sum(topic.count for topic in bag.topics) > 20
    assert not leftovers(tmp_path)
    record_fault(
        "kill -9", "bag record", tried=count,
        seen="what was written before, all but the last megabyte, is kept as NAME-cut-1, which the"
        " next start says; it is read like any recording",
    )  # fmt: skip


def test_a_bundle_that_was_never_whole_is_not_there(tmp_path: Path) -> None:
    """Killed before the end of the first export, nothing has the bundle's name."""
    tiny = write_tiny_bundle(tmp_path)
    job = Job(tmp_path / "job", _write_bundle, tmp_path / "new", tiny / "model.onnx", fatal=3)
    assert job.wait() and job.killed
    with pytest.raises(BundleError, match="there is no folder"):
        Bundle.load(tmp_path / "new")
    assert leftovers(tmp_path)
    _write_bundle(str(tmp_path / "new"), str(tiny / "model.onnx"))
    assert Bundle.load(tmp_path / "new").name == "new"
    assert not leftovers(tmp_path)


def test_scratch_folders_of_killed_processes_go_and_those_of_live_ones_stay(
    tmp_path: Path, scratch: Path
) -> None:
    bag = packed(write_recording(tmp_path / "bag", frames=80), "file")
    dead = Job(tmp_path / "dead", killing.hold_open, bag)
    live = Job(tmp_path / "live", killing.hold_open, bag)
    try:
        end = time.monotonic() + 60
        while len(leftovers(scratch)) < 2:
            assert time.monotonic() < end, dead.said + live.said
            time.sleep(0.02)
        dead.kill()
        third = Job(tmp_path / "third", command, "bag", "info", bag)
        assert third.wait() and third.status == 0, third.said
        assert len(leftovers(scratch)) == 1
    finally:
        dead.kill()
        live.kill()
    fourth = Job(tmp_path / "fourth", command, "bag", "info", bag)
    assert fourth.wait() and fourth.status == 0, fourth.said
    assert not leftovers(scratch)
