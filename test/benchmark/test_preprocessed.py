# SPDX-License-Identifier: Apache-2.0
"""The packs that papers share, as numbered arrays, and the label files that belong to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sources

from benchmark.mtpsl_labels import import_mtpsl
from benchmark.preprocessed import BASELINE_FX, main
from proto_mtl_ros.data.cityscapes import disparity_to_depth
from proto_mtl_ros.data.map_file import NormalAxes
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.table import NoSplitError
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import NYU13, TASKS


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preprocessed")
    sources.write_preprocessed(root, "train", 11)
    return sources.write_preprocessed(root, "val", 1)


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


def test_a_split_that_is_not_there_is_told_as_such(preprocessed: Path) -> None:
    with pytest.raises(NoSplitError, match="has no folder test"):
        open_source("preprocessed", preprocessed, "test")


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
    metres = disparity_to_depth(np.array([32257, 0.4922 * 65535, 0, 1]), BASELINE_FX)
    np.testing.assert_allclose(metres, [*[0.209313 * 2262.52 / 126] * 2, 0, 0], rtol=1e-3)


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


def _label_file(path: Path, table: np.ndarray, legacy: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    # the published files are of the format before torch 1.6
    content = {"labels_weights": torch.from_numpy(table.astype(np.float32))}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize("name", ["old.pth", "new.pth", "l.npy", "l.csv"])
def test_mtpsl_rows_belong_to_frames_in_order(tmp_path: Path, name: str) -> None:
    table, path = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]]), tmp_path / name
    if path.suffix == ".pth":
        _label_file(path, table, legacy=name == "old.pth")
    elif path.suffix == ".npy":
        np.save(path, table)
    else:
        path.write_text("1,0,0\n0,1,1\n0,0,1\n")
    manifest = import_mtpsl(path, ["z", "a", "m"], list(TASKS))
    assert list(manifest) == ["z", "a", "m"]
    assert [list(row.values()) for row in manifest.values()] == table.astype(bool).tolist()


def test_mtpsl_refuses_another_number_of_frames_or_tasks(tmp_path: Path) -> None:
    for table, frames, tasks, said in (
        (np.eye(3), "abcd", 3, "3 x 3, but there are 4 frames x 3 tasks"),
        (np.eye(3), "abc", 2, "3 frames x 2 tasks"),
        (np.eye(3), "aab", 3, "a frame stands twice"),
        (np.eye(2) * 2, "ab", 2, "other than 0 and 1"),
    ):
        np.save(tmp_path / "l.npy", table)
        with pytest.raises(DataError, match=said):
            import_mtpsl(tmp_path / "l.npy", list(frames), list(TASKS)[:tasks])


def _table(path: Path, content: object) -> Path:
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", None, "not found; check the path"),
        ("l.csv", "1,0\n0,x\n", "is not a table of numbers"),
        ("l.csv", "1,0\n0\n", "is not a table of numbers"),
        ("l.xlsx", "1,0\n0,1\n", "of an unknown kind; .pth, .npy, .csv and .txt are read"),
        ("l.pth", {"weights": [1.0]}, "has no entry 'labels_weights'"),
        ("l.pth", [1.0, 0.0], "holds no tensor"),
    ],
)
def test_a_file_that_is_no_label_file_is_told(
    tmp_path: Path, name: str, content: object, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        import_mtpsl(_table(tmp_path / name, content), ["a", "b"], ["depth", "normals"])
    assert "\n" not in str(caught.value)


def test_a_pack_becomes_a_folder_with_the_labels_of_a_file(
    preprocessed: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "l.npy", np.resize(np.eye(3), (11, 3)))
    main(preprocessed, tmp_path / "out", tmp_path / "l.npy")
    frames = open_source("folder", tmp_path / "out", "train", manifest=tmp_path / "out/labels.csv")
    assert frames.has("train-0004") == ("depth",) and len(frames) == 11
    assert len(open_source("folder", tmp_path / "out", "val")) == 1
