# SPDX-License-Identifier: Apache-2.0
"""Any source becomes a folder: whole, exact, and continued after a kill. Recordings are sources."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import sources

from proto_mtl_ros.data.folder_writer import write_folder
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError
from recordings import FX, START, picture, write_recording

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


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    return write_recording(tmp_path / "bag", 5)


def test_frames_of_a_recording(recording: Path) -> None:
    frames = open_source("bag", recording, "train")
    assert frames.frame_ids == [str(START + index * 100_000_000) for index in range(5)]
    assert frames.tasks == ("depth", "normals")
    for index in (3, 0):
        sample = frames[index]
        assert sample.camera.fx == FX
        assert np.abs(sample.rgb.astype(int) - picture(index)).mean() < 3  # JPEG
        expected = np.round(picture(index)[..., 2] * (1000 / 25.5)) / 1000
        np.testing.assert_allclose(sample.labels["depth"], expected, atol=1e-6)
        normals = sample.labels["normals"]
        lengths = np.linalg.norm(normals[normals.any(-1)], axis=-1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_every_nth_image_and_the_tolerance(recording: Path) -> None:
    frames = open_source("bag", recording, "train", options={"every": 2})
    assert frames.frame_ids == [str(START + index * 200_000_000) for index in range(3)]
    assert np.abs(frames[1].rgb.astype(int) - picture(2)).mean() < 3
    # depth is 4 ms late
    frames = open_source("bag", recording, "train", options={"tolerance": 0.003})
    assert frames.tasks == ()
    assert not frames[0].labels


def test_masks_named_by_stamp(recording: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "classes.txt").write_text("floor\nwall\n")
    ids = np.zeros((120, 160), np.uint8)
    ids[60:] = 1
    cv2.imwrite(str(masks / f"{START + 100_000_000 + 500}.png"), ids)
    cv2.imwrite(str(masks / "1700000000.300000000.png"), 1 - ids)
    frames = open_source("bag", recording, "train", options={"masks": str(masks)})
    has = [frames.has(frame_id) for frame_id in frames.frame_ids]
    assert ["segmentation" in tasks for tasks in has] == [False, True, False, True, False]
    np.testing.assert_array_equal(frames[1].labels["segmentation"], ids)
    np.testing.assert_array_equal(frames[3].labels["segmentation"], 1 - ids)
    cv2.imwrite(str(masks / f"{START}.png"), ids[::2, ::2])
    frames = open_source("bag", recording, "train", options={"masks": str(masks)})
    with pytest.raises(DataError, match="80x60, its image 160x120"):
        frames[0]


def test_a_recording_becomes_a_folder(recording: Path, tmp_path: Path) -> None:
    frames = open_source("bag", recording, "train", options={"every": 2})
    write_folder(frames, tmp_path / "out")
    read = open_source("folder", tmp_path / "out", "train")
    assert read.frame_ids == frames.frame_ids
    np.testing.assert_array_equal(read[2].rgb, frames[2].rgb)
    np.testing.assert_allclose(read[2].labels["depth"], frames[2].labels["depth"], atol=1e-6)


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
