# SPDX-License-Identifier: Apache-2.0
"""Data sets as their owners publish them, tiny."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import sources

from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import notes_of
from proto_mtl_ros.data.table import NoSplitError
from proto_mtl_ros.errors import DataError

h5py = pytest.importorskip("h5py")


def write_mat(path: Path, names: tuple[str, ...] = ("desk", "cup", "floor mat")) -> Path:
    """As MATLAB writes HDF5: every array transposed, texts as references to characters."""
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    labels = np.repeat(np.arange(4, dtype=np.uint16), 160)[None].repeat(480, 0)
    depth = np.linspace(1, 3, 640, dtype=np.float32)[None].repeat(480, 0)
    with h5py.File(path, "w") as file:
        for name, one in {"images": picture, "labels": labels, "depths": depth}.items():
            file[name] = np.stack([np.transpose(one), np.transpose(one)])
        if names:
            cells = file.create_dataset("names", (1, len(names)), h5py.ref_dtype)
            for index, text in enumerate(names):
                file[f"#refs#/{index}"] = np.array([[ord(c)] for c in text], np.uint16)
                cells[0, index] = file[f"#refs#/{index}"].ref
    return path


def test_nyuv2_as_it_is_published(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "nyu_depth_v2_labeled.mat")
    frames = open_source("auto", path, "train")
    assert frames.frame_ids == ["0001", "0002"] and "All 2 frames" in notes_of(frames)[0]
    sample, classes = frames[0], frames.label_set.classes
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(sample.rgb, picture)
    row = sample.labels["segmentation"][240, [80, 240, 400, 560, 5]].tolist()
    assert row == [255, classes.index("table"), 255, classes.index("floor"), 255]
    assert sample.labels["depth"][240, 320] == pytest.approx(2, abs=0.01)
    assert sample.labels["normals"][240, 320] @ [0, 0, 1] < -0.5
    (tmp_path / "splits.csv").write_text("frame_id,split\n0002,val\n")
    assert open_source("auto", path, "val").frame_ids == ["0002"]
    with pytest.raises(NoSplitError, match="has no split 'train': val"):
        open_source("auto", path, "train")
    assert open_source("auto", write_mat(path, ()), "val").tasks == ("depth", "normals")
    with h5py.File(path, "a") as file:
        del file["depths"]
        file["depths"] = h5py.ExternalLink("/etc/passwd", "depths")
    with pytest.raises(DataError, match="has no depths of"):
        open_source("auto", path, "val")
    path.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match="is not HDF5"):
        open_source("auto", path, "val")


def test_cityscapes_as_it_is_published(tmp_path: Path) -> None:
    ids = np.full((48, 64), 7, np.uint8)
    ids[:, 32:], ids[:, :8] = 26, 3  # road, car; what is not trained with
    disparity = np.full((48, 64), round(256 * 0.2 * 2000 / 20) + 1, np.uint16)
    disparity[:4] = 0
    maps = {
        "leftImg8bit": sources.picture(0)[..., ::-1],
        "gtFine_labelIds": ids,
        "gtFine_color": np.zeros((48, 64, 3), np.uint8),
        "disparity": disparity,
    }
    for split, city in (("train", "aachen"), ("val", "ulm")):
        for name, pixels in maps.items():
            folder = tmp_path / name.partition("_")[0] / split / city
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{city}_000000_000019_{name}.png"), pixels)
    folder = tmp_path / "camera" / "train" / "aachen"
    folder.mkdir(parents=True)
    camera = {"extrinsic": {"baseline": 0.2},
              "intrinsic": {"fx": 2000, "fy": 2000, "u0": 1000, "v0": 500}}  # fmt: skip
    path = folder / "aachen_000000_000019_camera.json"
    path.write_text(json.dumps(camera))
    with pytest.raises(DataError, match="another aspect ratio"):
        _ = open_source("auto", tmp_path, "train")[0]
    for name in ("train/aachen/aachen", "val/ulm/ulm"):
        for kind in maps:
            file = tmp_path / kind.partition("_")[0] / f"{name}_000000_000019_{kind}.png"
            cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:32])
    frames = open_source("auto", tmp_path, "train")
    assert frames.frame_ids == ["aachen/aachen_000000_000019"] and not notes_of(frames)
    sample = frames[0]
    np.testing.assert_array_equal(sample.rgb, sources.picture(0)[:32])
    assert sample.labels["segmentation"][9, [4, 20, 40]].tolist() == [255, 0, 13]
    np.testing.assert_allclose(sample.labels["depth"][4:], 20, rtol=1e-3)
    assert not sample.labels["depth"][:4].any() and sample.camera.fx == pytest.approx(2000 / 32)
    val = open_source("auto", tmp_path, "val")
    assert notes_of(val) == ("no camera/val: the nominal camera and baseline",)
    assert val[0].camera.fx == pytest.approx(2262.52 / 32)
    path.write_text("{}")
    with pytest.raises(DataError, match="is no camera of Cityscapes"):
        _ = frames[0]
    with pytest.raises(NoSplitError, match="holds no"):
        open_source("auto", tmp_path, "demo")
