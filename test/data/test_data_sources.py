# SPDX-License-Identifier: Apache-2.0
"""Every kind of data set gives back what was written; what is wrong is told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import sources
from nyuv2_pack import write_pack

from proto_mtl_ros import plugins
from proto_mtl_ros.data import registry
from proto_mtl_ros.data.joined import Joined
from proto_mtl_ros.data.map_file import NormalAxes, write_image
from proto_mtl_ros.data.preprocessed import disparity_to_depth
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.table import NoSplitError, hold_out
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import NYU13, LabelSet
from recordings import write_recording


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return degrees between unit vectors [..., 3]."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preprocessed")
    sources.write_preprocessed(root, "train", 11)
    return sources.write_preprocessed(root, "val", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sources.write_by_hand(tmp_path / "own")


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


def test_preprocessed_nyuv2(preprocessed: Path) -> None:
    frames = open_source("preprocessed", preprocessed, "train")
    assert frames.tasks == ("segmentation", "depth", "normals")
    assert frames.label_set == NYU13
    # numbers in their order, not 0, 1, 10, 2: label files are keyed by them
    assert frames.frame_ids[9:] == ["train-0009", "train-0010"]
    for index in (0, 2, 10):
        sample, (depth, normals) = frames[index], sources.room(index)
        np.testing.assert_array_equal(sample.rgb, sources.picture(index))
        np.testing.assert_array_equal(sample.labels["segmentation"], sources.mask(index))
        np.testing.assert_allclose(sample.labels["depth"], depth, rtol=1e-6)
        # stored with y up and z backwards, which nobody said
        np.testing.assert_allclose(sample.labels["normals"], normals, atol=1e-6)


def test_preprocessed_camera_and_axes_can_be_given(preprocessed: Path) -> None:
    given = {key: 2 * value for key, value in sources.CAMERA.items()}
    options = {"camera": given, "normal_axes": "x,y,z"}
    sample = open_source("preprocessed", preprocessed, "val", options=options)[0]
    assert sample.camera.fx == pytest.approx(60)
    assert sample.camera.cx == pytest.approx((62 + 0.5) / 2 - 0.5)
    stored = sources.room()[1] * np.array([1, -1, -1])
    np.testing.assert_allclose(sample.labels["normals"], stored, atol=1e-6)


def test_a_split_that_is_not_there_is_told_as_such(preprocessed: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSplitError, match="has no folder test"):
        open_source("preprocessed", preprocessed, "test")
    with pytest.raises(NoSplitError, match="no frame of split 'test'"):
        open_source("nyuv2", write_pack(tmp_path, train=1, val=1), "test")


def test_axes_that_nothing_tells_must_be_given(tmp_path: Path) -> None:
    root = sources.write_preprocessed(tmp_path, "train", 1)
    (root / "train" / "depth" / "0.npy").unlink()
    with pytest.raises(DataError, match="give normal_axes"):
        open_source("preprocessed", root, "train")
    # a single wall tells z, but neither x nor y
    np.save(root / "train" / "depth" / "0.npy", np.full((48, 64, 1), 2.0))
    wall = np.broadcast_to(np.array([0.0, 0, 1]), (48, 64, 3))
    np.save(root / "train" / "normal" / "0.npy", wall)
    with pytest.raises(DataError, match="cannot be told"):
        open_source("preprocessed", root, "train")


@pytest.mark.parametrize(
    ("there", "options", "said"),
    [
        (("image", "depth"), {"layout": "kitti"}, "unknown layout 'kitti'; there are: auto, nyuv2"),
        (("image", "depth"), {}, "say which it is with layout nyuv2 or cityscapes"),
        (("depth",), {"layout": "nyuv2"}, "holds no numbered .npy files"),
        (
            ("image", "label"),
            {"layout": "cityscapes", "label": "label_19"},
            "no class ids 'label_1",
        ),
        (("image", "label"), {"layout": "cityscapes", "label": "ids"}, "label_7, label, label_19"),
        (("image", "depth"), {"layout": "cityscapes", "baseline_fx": 0}, "baseline_fx is 0"),
        (("image", "depth"), {"layout": "nyuv2", "baseline_fx": "far"}, "option .* cannot be used"),
    ],
)
def test_folders_that_are_no_pack_are_told(
    tmp_path: Path, there: tuple[str, ...], options: dict[str, object], said: str
) -> None:
    for name in there:
        (tmp_path / "train" / name).mkdir(parents=True)
        np.save(tmp_path / "train" / name / "0.npy", np.zeros((48, 64, 3)))
    with pytest.raises(DataError, match=said):
        open_source("preprocessed", tmp_path, "train", options=options)


def test_of_a_pack_what_is_there_is_used(tmp_path: Path) -> None:
    root = sources.write_preprocessed(tmp_path, "train", 2)
    for name in ("depth", "normal"):
        (root / "train" / name).rename(root / name)
    (root / "train" / "label").rename(root / "train" / "label_19")
    np.save(root / "train" / "image" / "mean.npy", np.zeros(3))  # no frame: it has no number
    np.save(root / "train" / "image" / "1.npy", sources.picture(5)[:24])
    options = {"label": "label_19"}
    frames = open_source("preprocessed", root, "train", options=options)
    assert frames.tasks == ("segmentation",)
    assert len(frames.label_set.classes) == 19
    assert frames.frame_ids == ["train-0000", "train-0001"]
    np.testing.assert_array_equal(frames[0].labels["segmentation"], sources.mask(0))
    with pytest.raises(DataError, match=r"1.npy is 64x24, the first image 64x48"):
        frames[1]
    with pytest.raises(DataError, match="no frame 'train-0002'"):
        frames.has("train-0002")
    np.save(root / "train" / "image" / "0.npy", sources.picture(5))  # bytes, not 0 to 1
    np.testing.assert_array_equal(frames[0].rgb, sources.picture(5))
    (root / "train" / "label_19").rename(root / "train" / "label")
    frames = open_source("preprocessed", root, "train", options={"layout": "nyuv2"})
    assert frames.label_set == NYU13 and frames.tasks == ("segmentation",)


def test_axes_name_what_they_do() -> None:
    stored = np.array([1.0, 2.0, 3.0])
    assert NormalAxes.parse("z, -x, y").optical(stored).tolist() == [3.0, -1.0, 2.0]
    assert str(NormalAxes.parse("z, -x, +y")) == "z,-x,y"
    for text in ("x,y", "x,y,y", "x,y,--z", "right,down,forward"):
        with pytest.raises(DataError, match="normal_axes"):
            NormalAxes.parse(text)


def test_preprocessed_cityscapes(tmp_path: Path) -> None:
    depth = np.full((128, 256), 20.0)
    depth[:, :10], depth[:, 10:20] = 0, 300
    for name in ("image", "label_7", "depth"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with np.errstate(divide="ignore"):
        # as the data set's own page has it: p = 256 d + 1, d = baseline fx / depth, 0 = invalid
        disparity = np.where(depth > 0, 256 * 0.209313 * 2262.52 / depth + 1, 0)
    image = np.zeros((128, 256, 3))
    label = np.repeat(np.arange(-1, 7), 32)[None].repeat(128, 0).astype(float)
    arrays = {"image": image, "label_7": label, "depth": np.round(disparity)[..., None] / 65535}
    for name, array in arrays.items():
        np.save(tmp_path / "train" / name / "0.npy", array)
    frames = open_source("preprocessed", tmp_path, "train")
    assert frames.tasks == ("segmentation", "depth")
    sample = frames[0]
    assert frames.label_set.classes[6] == "vehicle"
    assert np.unique(sample.labels["segmentation"]).tolist() == [0, 1, 2, 3, 4, 5, 6, 255]
    np.testing.assert_allclose(sample.labels["depth"][:, 20:], 20.0, rtol=2e-4)
    assert not sample.labels["depth"][:, :20].any()  # invalid, and too far to be trusted
    assert sample.camera.fx == pytest.approx(2262.52 / 8)
    assert any("disparity" in note for note in frames.notes)  # type: ignore[attr-defined]
    options = {"baseline_fx": 2 * 0.209313 * 2262.52}
    other = open_source("preprocessed", tmp_path, "train", options=options)[0]
    np.testing.assert_allclose(other.labels["depth"][:, 20:], 40.0, rtol=2e-4)
    # the largest of the 16 bit images, 32257, which the pack shows as 0.4922: 126 pixels
    metres = disparity_to_depth(np.array([32257 / 65535, 0.4922, 0, 1 / 65535]))
    np.testing.assert_allclose(metres, [*[0.209313 * 2262.52 / 126] * 2, 0, 0], rtol=1e-3)


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


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("image", np.full((48, 64, 3), 80.0), "floats from 0 to 1"),
        ("image", np.zeros((48, 64)), r"images are \[H, W, 3\]"),
        ("label", np.full((48, 64), 13.0), "class ids are 0 to 12"),
        ("label", np.full((48, 64), 0.5), "class ids"),
        ("label", np.zeros((24, 32)), "32x24, its image 64x48"),
        ("depth", np.zeros((48, 64, 3)), "one channel"),
        ("normal", np.zeros((48, 64)), r"\[H, W, 3\]"),
    ],
)
def test_spoilt_arrays_are_told(tmp_path: Path, name: str, array: np.ndarray, said: str) -> None:
    root = sources.write_preprocessed(tmp_path, "train", 1)
    np.save(root / "train" / name / "0.npy", array)
    with pytest.raises(DataError, match=said):
        open_source("preprocessed", root, "train", options={"normal_axes": "x,-y,-z"})[0]


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
    with pytest.raises(DataError, match="unknown kind.*bag, joined, nyuv2, preprocessed, folder"):
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


def test_joined_sources(folder: Path, preprocessed: Path, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        f"""
label_set: nyu13
sources:
  - {{name: rooms, kind: preprocessed, root: {preprocessed}}}
  - name: own
    kind: folder
    root: own
    class_map: {{floor: floor, wall: wall}}
"""
    )
    frames = open_source("joined", tmp_path / "all.yaml", "train")
    assert len(frames) == 13
    assert frames.frame_ids[10:] == ["rooms/train-0010", "own/a", "own/b"]
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
    (tmp_path / "pack" / "train" / "image").mkdir(parents=True)
    (tmp_path / "nyu" / "label13").mkdir(parents=True)
    recording = write_recording(tmp_path / "bag", 1)
    found = {"folder": folder, "joined": tmp_path / "joined.yaml", "bag": recording,
             "preprocessed": tmp_path / "pack", "nyuv2": tmp_path / "nyu"}  # fmt: skip
    assert {kind: registry.kind_of(path) for kind, path in found.items()} == {k: k for k in found}
    with pytest.raises(DataError, match="looks like no data set: name its kind"):
        registry.kind_of(tmp_path)
