# SPDX-License-Identifier: Apache-2.0
"""Every kind of data set gives back what was written; what is wrong is told in one line."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import sources
from nyuv2_pack import write_pack

from proto_mtl_ros import plugins
from proto_mtl_ros.data import registry
from proto_mtl_ros.data.joined import Joined
from proto_mtl_ros.data.map_file import write_image
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import notes_of
from proto_mtl_ros.data.table import NoSplitError, hold_out
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import NYU13, LabelSet
from recordings import write_recording


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return degrees between unit vectors [..., 3]."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sources.write_by_hand(tmp_path / "own")


def test_folder_written_by_hand(folder: Path) -> None:
    frames = open_source("folder", folder, "train")
    assert frames.frame_ids == ["a", "b"]
    assert frames.label_set.classes == sources.CLASSES
    assert [frames.has(f) for f in "ab"] == [("depth",), ("segmentation", "depth", "normals")]
    first, second = frames[0], frames[1]
    depth, normals = sources.room()
    np.testing.assert_array_equal(first.rgb, sources.picture(0))
    assert (first.camera.fx, first.camera.cy) == (60.0, 24.0)
    np.testing.assert_allclose(first.labels["depth"], depth, atol=5.1e-4)
    np.testing.assert_array_equal(second.labels["segmentation"], sources.mask(1))
    np.testing.assert_allclose(second.labels["depth"], np.where(depth > 3.9, 0, depth))
    assert not second.labels["normals"][:5].any()
    assert _angles(second.labels["normals"], normals)[5:].max() < 0.5
    assert open_source("folder", folder, "val").has("c") == ()
    assert not open_source("folder", folder, "val")[0].labels


def test_folder_derives_normals_where_there_are_none(folder: Path) -> None:
    frames = open_source("folder", folder, "train", options={"derive_normals": True})
    assert frames.has("a") == ("depth", "normals")
    derived, normals = frames[0].labels["normals"], sources.room()[1]
    valid = derived.any(-1)
    assert valid.mean() > 0.5
    assert np.median(_angles(derived, normals)[valid]) < 1
    # b has its own, coded in 8 bits
    assert not frames[1].labels["normals"][:5].any()


def exr(depth: np.ndarray, zipped: bool, kind: str) -> bytes:
    """A file of one part with scan lines and the channel Z."""
    lines = 16 if zipped else 1
    channel = b"Z\0" + struct.pack("<iI2i", 1 if kind == "f2" else 2, 0, 1, 1) + b"\0"
    window = struct.pack("<4i", 3, 5, depth.shape[1] + 2, depth.shape[0] + 4)
    fields = {b"channels\0chlist": channel, b"compression\0compression": b"\0\3"[zipped:][:1],
              b"dataWindow\0box2i": window}  # fmt: skip
    head = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    head += b"".join(k + b"\0" + struct.pack("<I", len(v)) + v for k, v in fields.items()) + b"\0"
    blocks, offsets = b"", b""
    starts = range(0, len(depth), lines)
    for start in starts:
        data = depth[start : start + lines].astype("<" + kind).tobytes()
        if zipped:
            mixed = np.frombuffer(data, np.uint8)
            split = np.concatenate([mixed[::2], mixed[1::2]]).astype(np.int64)
            split[1:] = (np.diff(split) + 128) & 255
            data = zlib.compress(split.astype(np.uint8).tobytes())
        offsets += struct.pack("<Q", len(head) + 8 * len(starts) + len(blocks))
        blocks += struct.pack("<iI", 5 + start, len(data)) + data
    return head + offsets + blocks


@pytest.mark.parametrize("form", ["exr", "zipped exr", "half exr", "npz", "tum", "int32"])
def test_depth_as_other_tools_write_it(form: str, folder: Path) -> None:
    depth, options = sources.room()[0], {}
    (folder / "depth" / "a.png").unlink()
    if "exr" in form:
        content = exr(depth, form == "zipped exr", "f2" if form == "half exr" else "f4")
        (folder / "depth" / "a.EXR").write_bytes(content)
    elif form == "npz":
        np.savez_compressed(folder / "depth" / "a.npz", depth=depth)
    elif form == "tum":
        options["depth_scale"] = 5000
        cv2.imwrite(str(folder / "depth" / "a.png"), np.round(depth * 5000).astype(np.uint16))
    else:
        np.save(folder / "depth" / "a.npy", np.round(depth * 1000).astype(np.int32))
    frames = open_source("folder", folder, "train", options=options)
    np.testing.assert_allclose(frames[0].labels["depth"], depth, atol=2e-3)


@pytest.mark.parametrize("mode", ["bits", "palette", "colours"])
def test_masks_of_bits_indices_and_colours(mode: str, folder: Path) -> None:
    ids = sources.mask(1) % 2
    picture = PIL.Image.fromarray(ids.astype(bool) if mode == "bits" else ids)
    if mode != "bits":
        picture = PIL.Image.fromarray(ids, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0])
    if mode == "colours":
        (folder / "classes.txt").unlink()
        content = {"classes": ["floor", "wall"], "palette": [[0, 0, 0], [128, 0, 0]]}
        (folder / "classes.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
        picture = picture.convert("RGB")
    picture.save(folder / "segmentation" / "b.png")
    mask = open_source("folder", folder, "train")[1].labels["segmentation"]
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize(("orientation", "turns"), [(6, 1), (3, 2), (8, 3)])
@pytest.mark.parametrize("upright", [False, True])
def test_exif_turns_pixels_labels_and_camera_alike(
    orientation: int, turns: int, upright: bool, tmp_path: Path
) -> None:
    """A room is stored on its side, and its labels and camera with it, or already upright."""
    if upright and turns == 2:
        pytest.skip("its size does not tell")
    plain, root = sources.write_by_hand(tmp_path / "plain"), sources.write_by_hand(tmp_path / "own")
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    for name in ("a", "b", "c"):
        stored = np.rot90(cv2.imread(str(plain / "images" / f"{name}.png"))[..., ::-1], turns)
        (root / "images" / f"{name}.png").unlink()
        PIL.Image.fromarray(stored).save(root / "images" / f"{name}.png", exif=exif)
    camera = dict(sources.CAMERA)
    if not upright:
        frames = open_source("folder", plain, "train")
        depth, normals = (frames[1].labels[task] for task in ("depth", "normals"))
        ids = frames[1].labels["segmentation"]
        for _ in range(turns):  # what was seen at (x, y) is stored a quarter to the left
            normals = np.stack([normals[..., 1], -normals[..., 0], normals[..., 2]], -1)
            width, cx = camera["width"], camera["cx"]
            camera |= {"fx": camera["fy"], "fy": camera["fx"], "cx": camera["cy"]}
            camera |= {"cy": width - 1 - cx, "width": camera["height"], "height": width}
        (root / "normals" / "b.png").unlink()
        (root / "depth" / "a.png").unlink()
        np.save(root / "depth" / "b.npy", np.rot90(depth, turns))
        np.save(root / "normals" / "b.npy", np.rot90(normals, turns))
        cv2.imwrite(str(root / "segmentation" / "b.png"), np.rot90(ids, turns))
        (root / "camera.json").write_text(json.dumps(camera))
    before, after = (
        open_source("folder", plain, "train")[1],
        open_source("folder", root, "train")[1],
    )
    np.testing.assert_array_equal(after.rgb, before.rgb)
    np.testing.assert_allclose(after.camera.K, before.camera.K)
    for task, label in before.labels.items():
        np.testing.assert_allclose(after.labels[task], label, atol=1e-6)


def test_what_a_folder_says_of_itself(folder: Path) -> None:
    np.save(folder / "depth" / "b.npy", sources.room()[0] * 1000)
    for path in (folder / "normals").iterdir():
        path.rename(path.with_suffix(".bmp"))
    notes = " ".join(notes_of(open_source("folder", folder, "train")))
    assert "None of the 1 files of normals/ is used (first: b.bmp)" in notes
    assert "Depth cannot be right: the median of b.npy is" in notes
    shutil.rmtree(folder / "depth")
    (folder / "camera.json").unlink()
    frames = open_source("folder", folder, "train")
    assert "No camera is known" in " ".join(notes_of(frames))
    assert frames[1].labels.keys() == {"segmentation"}
    assert frames[1].camera.fx == pytest.approx(32 / np.tan(np.radians(30)))


def test_folder_obeys_a_manifest(folder: Path) -> None:
    (folder / "manifest.csv").write_text("frame_id,segmentation,depth,normals\na,1,0,1\nb,0,1,0\n")
    frames = open_source("folder", folder, "train")
    assert [frames.has(f) for f in "ab"] == [(), ("depth",)]
    assert list(frames[1].labels) == ["depth"]
    # normals that come from depth are there for who may use normals, or depth
    frames = open_source("folder", folder, "train", options={"derive_normals": True})
    assert frames.has("a") == ("normals",)
    assert list(frames[0].labels) == ["normals"]
    (folder / "m.csv").write_text("frame_id,depth\na,1\n")
    with pytest.raises(DataError, match="no row for frame b"):
        open_source("folder", folder, "train", manifest=folder / "m.csv")


def _json(name: str, content: object) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(json.dumps(content)) and None


def _png(name: str, pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda root: cv2.imwrite(str(root / name), pixels) and None


def _npy(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(root / name, array)


def _moved(name: str, to: str) -> Callable[[Path], None]:
    return lambda root: (root / name).rename(root / to) and None


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_png("normals/b.png", np.zeros((48, 64, 3), np.uint16)), "must be an 8 bit RGB image"),
        (_npy("normals/a.npy", np.zeros((48, 64))), r"normals are \[H, W, 3\]"),
        (_npy("depth/b.npy", np.ones((48, 64, 2), np.float32)), r"depth is one channel \[H, W\]"),
        (_moved("images", "rgb"), "with the subfolder images"),
        (_json("classes.json", {"classes": []}), "must list the names of the classes"),
        (_json("classes.json", ["floor", "wall", "floor"]), "names a class twice"),
        (_json("classes.json", [f"c{i}" for i in range(256)]), "names 256 classes, at most 255"),
        (
            _json("classes.json", {"classes": ["floor"], "palette": [[1, 2]]}),
            r"a list of \[r, g, b\]",
        ),
        (
            _json("classes.json", {"classes": ["floor"], "palette": [[0, 0, 256]]}),
            "of 0 to 255 for every",
        ),
        (
            _json("classes.json", {"classes": ["floor", "wall"], "palette": [[0, 0, 0]]}),
            "for every class",
        ),
        (_png("segmentation/b.png", sources.mask(1)[::2, ::2]), "32x24, its image 64x48"),
        (
            _png("segmentation/b.png", np.full((48, 64), 3, np.uint8)),
            "has the id 3, but there are 3 classes",
        ),
        (_png("segmentation/b.png", sources.picture(0)), "one channel"),
        (_png("depth/a.png", np.zeros((48, 64), np.uint8)), "uint16 millimetres"),
        (_bytes("depth/b.npy", b"\x93NUMPY"), "not a readable array"),
        (_moved("depth/b.npy", "depth/b.npz"), "not a readable array"),
        (_moved("depth/b.npy", "depth/b.exr"), "not a readable EXR"),
        (_bytes("segmentation/b.png", b"\x89PNG\r\n\x1a\n" + bytes(9)), "not a readable image"),
        (_bytes("images/a.png", b""), "not a readable image"),
        (_json("camera.json", {**sources.CAMERA, "width": 100}), "another aspect ratio"),
        (_json("camera.json", {**sources.CAMERA, "fx": 0}), "no camera"),
        (_moved("camera.json", "camera.txt"), "camera.json not found"),
        (_moved("classes.txt", "classes.csv"), "neither classes.txt nor classes.json"),
        (_moved("segmentation/b.png", "segmentation/b_mask.png"), "named as an image"),
        (_bytes("images/a.jpg", b""), "are one frame"),
        (_bytes("splits.csv", b"frame_id,split\nz,train\n"), "no such image"),
    ],
)
def test_a_spoilt_folder_is_told(folder: Path, spoil, said: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=said) as caught:
        frames = open_source("folder", folder, "train")
        for index in range(len(frames)):
            frames[index]
    assert "\n" not in str(caught.value)


def test_what_a_folder_lacks_is_not_needed(folder: Path) -> None:
    """Neither a list of splits, nor a camera of all frames, nor an image of every label."""
    (folder / "splits.csv").unlink()
    (folder / "camera.json").unlink()
    (folder / "cameras").mkdir()
    for number, name in enumerate("abc"):
        own = {**sources.CAMERA, "fx": 60.0 + number}
        (folder / "cameras" / f"{name}.json").write_text(json.dumps(own))
    np.save(folder / "depth" / "late.npy", np.ones((48, 64, 1), np.float32))
    frames = open_source("folder", folder, "whatever")
    assert frames.frame_ids == ["a", "b", "c"]
    assert [frames[i].camera.fx for i in range(3)] == [60, 61, 62]
    assert frames.notes == ("1 files of depth/ belong to no image (first: late).",)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="no frame 'late'"):
        frames.has("late")
    (folder / "depth" / "late.npy").rename(folder / "depth" / "c.npy")  # [H, W, 1] is depth, too
    assert (open_source("folder", folder, "whatever")[2].labels["depth"] == 1).all()


def test_more_frames_than_there_are_cannot_be_held_out() -> None:
    ids = [str(number) for number in range(12)]
    assert hold_out(ids, 2, 2)[1] == ["2", "3", "8", "9"]
    with pytest.raises(DataError, match="cannot hold 12 of 12 frames out: give more frames"):
        hold_out(ids, 3, 4)


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="OpenCV cannot write such an image"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_wrong_kinds_and_options_are_told(folder: Path) -> None:
    with pytest.raises(DataError, match="unknown kind.*bag, joined, nyuv2, nyuv2_mat, cityscapes"):
        open_source("coco", folder, "train")
    with pytest.raises(DataError, match="no option 'axes'; it has: derive_normals, normal_axes"):
        open_source("folder", folder, "train", options={"axes": 1})
    with pytest.raises(DataError, match="no data set at"):
        open_source("folder", folder / "none", "train")
    with pytest.raises(NoSplitError, match="no split 'test'; there are: train, val"):
        open_source("folder", folder, "test")
    with pytest.raises(DataError, match="no frame 'zz'"):
        open_source("folder", folder, "train", frame_ids=["a", "zz"])
    with pytest.raises(DataError, match="is wanted twice"):
        open_source("folder", folder, "train", frame_ids=["a", "a"])
    with pytest.raises(DataError, match="class_map needs the label set"):
        open_source("folder", folder, "train", class_map={"floor": "ground"})


def test_classes_are_mapped_by_name(folder: Path) -> None:
    wanted = LabelSet("two", ("crate", "ground"), ((0, 0, 0), (1, 1, 1)))
    frames = open_source(
        "folder", folder, "train", class_map={"floor": "ground", "box": "crate"}, label_set=wanted
    )
    before, after = sources.mask(1), frames[1].labels["segmentation"]
    assert frames.label_set == wanted
    for old, new in ((0, 1), (1, 255), (2, 0), (255, 255)):
        assert (after[before == old] == new).all()
    with pytest.raises(DataError, match="'lava', but two has no such class; crate, ground"):
        open_source("folder", folder, "train", class_map={"floor": "lava"}, label_set=wanted)
    with pytest.raises(DataError, match="no class 'sky'; floor, wall, box"):
        open_source("folder", folder, "train", class_map={"sky": "crate"}, label_set=wanted)
    with pytest.raises(DataError, match="give a class_map"):
        open_source("folder", folder, "train", label_set=wanted)


def test_joined_sources(folder: Path, tmp_path: Path) -> None:
    pack = write_pack(tmp_path, train=11, val=1)
    (tmp_path / "all.yaml").write_text(
        f"""
label_set: nyu13
sources:
  - {{name: rooms, kind: nyuv2, root: {pack}}}
  - name: own
    kind: folder
    root: own
    class_map: {{floor: floor, wall: wall}}
"""
    )
    frames = open_source("joined", tmp_path / "all.yaml", "train")
    assert len(frames) == 13
    assert frames.frame_ids[10:] == ["rooms/0011", "own/a", "own/b"]
    assert frames.has("own/a") == ("depth",)
    sample = frames[12]
    assert sample.frame_id == "own/b"
    np.testing.assert_array_equal(sample.rgb, sources.picture(1))
    before, after = sources.mask(1), sample.labels["segmentation"]
    assert (after[before == 0] == NYU13.classes.index("floor")).all()
    assert (after[before == 2] == 255).all()
    some = open_source("joined", tmp_path / "all.yaml", "train", frame_ids=["own/b", "own/a"])
    assert [some[i].frame_id for i in range(2)] == ["own/b", "own/a"]
    np.testing.assert_array_equal(some[1].rgb, sources.picture(0))
    with pytest.raises(DataError, match="no frame 'own/b'"):
        open_source("joined", tmp_path / "all.yaml", "val").has("own/b")


def test_joined_sources_may_list_their_classes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        "label_set: [ground, crate]\n"
        "sources: [{name: own, kind: folder, root: own, class_map: {floor: ground, box: crate}}]\n"
    )
    frames = open_source("joined", tmp_path / "all.yaml", "train")
    assert frames.label_set.classes == ("ground", "crate")
    assert set(np.unique(frames[1].labels["segmentation"])) == {0, 1, 255}
    (tmp_path / "all.yaml").write_text("sources: [{name: own, kind: folder, root: own}]\n")
    # without a list, the classes are those of the first that has some
    assert (
        open_source("joined", tmp_path / "all.yaml", "train").label_set.classes == sources.CLASSES
    )
    with pytest.raises(DataError, match="give at least one source"):
        Joined({})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sources: []", "sources"),
        ("sources: [{name: a, kind: folder}]", "sources.0.root: Field required"),
        ("sources: [{name: a/b, kind: folder, root: own}]", "sources.0.name"),
        (
            "sources: [{name: a, kind: folder, root: own}, {name: a, kind: folder, root: own}]",
            "two sources have one name",
        ),
        ("label_set: rooms\nsources: [{name: a, kind: folder, root: own}]", "unknown label set"),
        ("sources: [{name: a, kind: joined, root: all.yaml}]", "joins what is joined"),
        ("sources: [", "not valid YAML"),
    ],
)
def test_a_wrong_list_of_sources_is_told(folder: Path, content: str, said: str) -> None:
    path = folder.parent / "all.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        open_source("joined", path, "train")


TOY = """
import numpy as np
from proto_mtl_ros.data.registry import data_set
from proto_mtl_ros.data.sample import DataSet, Sample
from proto_mtl_ros.geometry import Camera

@data_set("ramps", looks_like=lambda root: root.suffix == ".ramps")
class Ramps(DataSet):
    tasks = ("depth",)

    def __init__(self, root, split, manifest=None, frame_ids=None, *, steepness=1.0):
        self.steepness = float(steepness)
        self.choose(["a", "b"], frame_ids, manifest, root)

    def labelled(self, frame_id, may):
        return may

    def __getitem__(self, index):
        depth = 1 + self.steepness * np.arange(12, dtype=np.float32).reshape(3, 4)
        labels = {"depth": depth} if "depth" in self.has(self.frame_ids[index]) else {}
        rgb = np.full((3, 4, 3), index, np.uint8)
        return Sample(self.frame_ids[index], rgb, Camera(np.eye(3), 4, 3), labels)
"""


def test_a_kind_from_outside_the_package_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ramps_of_mine.py").write_text(TOY)
    info = tmp_path / "ramps-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ramps\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[proto_mtl_ros.plugins]\nramps = ramps_of_mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "load", plugins.load.__wrapped__)  # as in a new process
    monkeypatch.setitem(registry._KINDS, "ramps", None)  # taken out again
    (tmp_path / "x.ramps").touch()
    (tmp_path / "m.csv").write_text("\ufeffframe_id,depth\na,1\nb,0\n", encoding="utf-8")
    assert registry.kind_of(tmp_path / "x.ramps") == "ramps"
    frames = open_source(
        "ramps", tmp_path / "x.ramps", "train",
        manifest=tmp_path / "m.csv", options={"steepness": 2},
    )  # fmt: skip
    assert [frames.has(frame_id) for frame_id in frames.frame_ids] == [("depth",), ()]
    assert frames[0].labels["depth"].max() == 23 and not frames[1].labels
    with pytest.raises(DataError, match="kind ramps has no option 'slope'; it has: steepness"):
        open_source("ramps", tmp_path, "train", options={"slope": 1})


def test_a_kind_is_told_by_its_place(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "joined.yaml").touch()
    (tmp_path / "nyu" / "label13").mkdir(parents=True)
    recording = write_recording(tmp_path / "bag", 1)
    found = {"folder": folder, "joined": tmp_path / "joined.yaml", "bag": recording,
             "nyuv2": tmp_path / "nyu"}  # fmt: skip
    assert {kind: registry.kind_of(path) for kind, path in found.items()} == {k: k for k in found}
    with pytest.raises(DataError, match="looks like no data set: name its kind"):
        registry.kind_of(tmp_path)


def test_nyuv2_says_what_a_frame_may_use(tmp_path: Path) -> None:
    root = write_pack(tmp_path, train=6, val=1)
    frames = open_source("nyuv2", root, "train", manifest=root / "manifests" / "one_label.csv")
    assert [frames.has(f) for f in frames.frame_ids[:3]] == [
        ("segmentation",),
        ("depth",),
        ("normals",),
    ]
    assert all(tuple(frames[i].labels) == frames.has(f) for i, f in enumerate(frames.frame_ids))
    with pytest.raises(DataError, match="no frame"):
        frames.has("0007")
    with pytest.raises(NoSplitError, match="no frame of split 'test'"):
        open_source("nyuv2", root, "test")


@pytest.mark.parametrize(
    ("kind", "picture", "said"),
    [
        ("depth", np.zeros((480, 640, 3), np.uint8), "has other pixels than the data set"),
        ("depth", np.zeros((480, 640), np.uint16), "has other pixels than the data set"),
        ("label13", np.zeros((240, 320), np.uint8), "segmentation of frame 0001 .* is not 640x480"),
    ],
)
def test_a_spoilt_nyuv2_pack_is_told(
    tmp_path: Path, kind: str, picture: np.ndarray, said: str
) -> None:
    root = write_pack(tmp_path, train=1, val=1)
    cv2.imwrite(str(root / kind / "0001.png"), picture)
    with pytest.raises(DataError, match=said):
        open_source("nyuv2", root, "train")[0]
