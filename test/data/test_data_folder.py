# SPDX-License-Identifier: Apache-2.0
"""Any source becomes a folder: whole, exact, and continued after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sources

from proto_mtl_ros.data.folder_writer import write_folder
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
LABELS = {
    "room/0": ("segmentation", "depth", "normals"),
    "room/1": ("depth",),
    "hall/0": (),
    "hall/1.5": ("segmentation", "normals"),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    frames = sources.Frames(LABELS)
    assert write_folder(frames, tmp_path / "out") == 4
    read = open_source("folder", tmp_path / "out", "train")
    assert read.frame_ids == list(LABELS)
    assert read.label_set.palette == sources.PALETTE
    for index, (frame_id, tasks) in enumerate(LABELS.items()):
        assert read.has(frame_id) == tasks
        before, after = frames[index], read[index]
        np.testing.assert_array_equal(after.rgb, before.rgb)
        np.testing.assert_array_equal(after.camera.K, before.camera.K)
        if "segmentation" in tasks:
            np.testing.assert_array_equal(
                after.labels["segmentation"], before.labels["segmentation"]
            )
        if "depth" in tasks:
            np.testing.assert_allclose(after.labels["depth"], before.labels["depth"], atol=5.1e-4)
        if "normals" in tasks:
            cosine = (after.labels["normals"] * before.labels["normals"]).sum(-1)
            assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.5


class _Far(sources.Frames):
    """Depth beyond what 16 bits of millimetres hold, with holes; another camera every time."""

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        depth = sample.labels["depth"] * 100
        depth[0, :4] = 0, np.nan, np.inf, -1
        camera = sample.camera.resized(64 + index, 48).resized(64, 48)
        camera = sample.camera if index == 0 else camera.cropped(0, 0, 64, 48).flipped()
        return type(sample)(sample.frame_id, sample.rgb, camera, {"depth": depth})


def test_far_depth_and_other_cameras(tmp_path: Path) -> None:
    frames = _Far({"a": ("depth",), "b": ("depth",)})
    write_folder(frames, tmp_path)
    read = open_source("folder", tmp_path, "train")
    np.testing.assert_array_equal(read[1].labels["depth"][1:], frames[1].labels["depth"][1:])
    assert read[1].labels["depth"][0, :4].tolist() == [0, 0, 0, 0]
    assert read[0].camera.cx == frames[0].camera.cx != frames[1].camera.cx == read[1].camera.cx


def test_jpeg_images_and_a_second_split(tmp_path: Path) -> None:
    write_folder(sources.Frames({"a": ("depth",)}), tmp_path, "train", "jpg")
    write_folder(sources.Frames({"b": ("depth",)}), tmp_path, "val", "jpg")
    assert (tmp_path / "images" / "b.jpg").is_file()
    assert open_source("folder", tmp_path, "train").frame_ids == ["a"]
    assert open_source("folder", tmp_path, "val").frame_ids == ["b"]
    with pytest.raises(DataError, match=r"frames of test in (train|val) already"):
        write_folder(sources.Frames({"a": ("depth",)}), tmp_path, "test", "jpg")


def _content(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


KILLED = """
import os, signal, sys
sys.path[:0] = [{repository!r}, {support!r}]
import proto_mtl_ros.data.folder_writer as writer
import sources
from pathlib import Path

write, calls = writer.write_image, []

def write_then_die(path, rgb):
    calls.append(path)
    if len(calls) == 2:  # the labels of the second frame are there, its image is half there
        path.with_name("." + path.name + ".half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, rgb)

writer.write_image = write_then_die
writer.write_folder(sources.Frames({labels!r}), Path(sys.argv[1]))
"""


def test_a_killed_conversion_goes_on_and_is_whole(tmp_path: Path) -> None:
    program = KILLED.format(
        repository=str(REPOSITORY), support=str(REPOSITORY / "test" / "support"), labels=LABELS
    )
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, "-c", program, str(out)], env={**os.environ}, timeout=100
    )
    assert killed.returncode == -signal.SIGKILL
    half = _content(out)
    assert "images/room/0.png" in half and "images/room/1.png" not in half
    first = (out / "images" / "room" / "0.png").stat().st_mtime_ns
    assert write_folder(sources.Frames(LABELS), out) == 3
    assert (out / "images" / "room" / "0.png").stat().st_mtime_ns == first
    write_folder(sources.Frames(LABELS), tmp_path / "at_once")
    assert _content(out) == _content(tmp_path / "at_once")
    assert write_folder(sources.Frames(LABELS), out) == 0


def test_another_conversion_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    write_folder(sources.Frames(LABELS), tmp_path / "out")
    fewer = {**LABELS, "room/0": ("depth",)}
    with pytest.raises(DataError, match="other frames or labels; choose another --out"):
        write_folder(sources.Frames(fewer), tmp_path / "out")
    with pytest.raises(DataError, match="other classes"):
        other = sources.Frames({"x": ("segmentation",)}, classes=("a", "b"))
        write_folder(other, tmp_path / "out", "val")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="is not empty"):
        write_folder(sources.Frames(LABELS), tmp_path / "mine")
    for name in ("../a", "/a", "a//b", ".a", ""):
        with pytest.raises(DataError, match="cannot be a file name"):
            write_folder(sources.Frames({name: ()}), tmp_path / "new")


def test_a_map_that_a_folder_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Edges(sources.Frames):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.frame_id, sample.rgb, sample.camera, {"edges": sources.mask(0)})

    with pytest.raises(DataError, match="a folder holds .*, not 'edges'"):
        write_folder(Edges({"a": ()}), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("a.*"))


def test_distortion_is_kept(tmp_path: Path) -> None:
    lens = replace(
        sources.camera(), D=np.array([0.1, -0.2, 0, 0, 0.0]), distortion_model="plumb_bob"
    )

    class Lens(sources.Frames):
        def __getitem__(self, index: int) -> Sample:
            return Sample("a", sources.picture(0), lens, {})

    write_folder(Lens({"a": ()}), tmp_path / "out")
    read = open_source("folder", tmp_path / "out", "train")[0].camera
    assert read.distorted and read.distortion_model == "plumb_bob"
    assert read.D is not None and read.D.tolist() == [0.1, -0.2, 0, 0, 0]
