# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl predict`: what is written is what the model gives, for every kind of source."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import sources
from tiny_bundle import write_tiny_bundle
from typer.testing import CliRunner

import proto_mtl_ros
from proto_mtl_ros.cli.main import load_command
from proto_mtl_ros.data.map_file import read_depth, read_normals, read_segmentation
from proto_mtl_ros.errors import ConfigError, DataError
from recordings import write_recording


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models"))


def predict(*arguments: object) -> str:
    result = CliRunner().invoke(load_command("predict"), list(map(str, arguments)))
    if result.exception:
        raise result.exception
    return result.output


def test_a_folder_of_images(model: Path, tmp_path: Path) -> None:
    root, out = sources.write_by_hand(tmp_path / "own"), tmp_path / "out"
    (root / "images" / "broken.png").write_bytes(b"x")
    said = predict(root, "--out", out, "--model", model)
    assert "3 images, ids, depth, normals, overlay" in said and "1 images are left out" in said
    assert "no metric scale" not in said  # the folder has a camera
    predictor = proto_mtl_ros.load(str(model))
    expected = predictor(sources.picture(1), sources.camera())
    label_set = SimpleNamespace(classes=predictor.bundle.manifest.classes, palette=())
    ids = read_segmentation(out / "ids" / "b.png", label_set)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ids, expected["segmentation"])
    depth = np.nan_to_num(expected["depth"])
    np.testing.assert_allclose(read_depth(next(out.glob("depth/b.*"))), depth, atol=5.1e-4)
    cosine = (read_normals(out / "normals" / "b.png") * expected["normals"]).sum(-1)
    assert cosine[np.abs(expected["normals"]).any(-1)].min() > 0.999
    assert cv2.imread(str(out / "overlay" / "b.jpg")).shape == (48, 64, 3)
    assert cv2.imread(str(out / "contact_sheet.png")) is not None


@pytest.mark.parametrize("kind", ["image", "video", "bag"])
def test_other_sources(kind: str, model: Path, tmp_path: Path) -> None:
    if kind == "bag":
        source, frames = write_recording(tmp_path / "bag", 3), 3
    elif kind == "image":
        source, frames = sources.write_by_hand(tmp_path / "own") / "images" / "a.png", 1
    else:
        source, frames = tmp_path / "v.avi", 2
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for index in range(frames):
            writer.write(sources.picture(index))
        writer.release()
    said = predict(source, "--out", tmp_path / "out", "--model", model, "--save", "depth")
    assert f"{frames} images, depth" in said
    assert ("no metric scale" in said) == (kind != "bag")
    assert len(list((tmp_path / "out" / "depth").iterdir())) == frames
    assert not (tmp_path / "out" / "ids").exists()
    wide = predict(source, "--out", tmp_path / "wide", "--model", model, "--hfov", 90)
    assert "no metric scale" not in wide


def test_what_cannot_be_done_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = sources.write_by_hand(tmp_path / "own")
    for arguments, error, said in (
        ((root, "--save", "ids,colour"), ConfigError, "there are ids, depth, normals, overlay"),
        ((root, "--hfov", 60, "--camera", root / "camera.json"), ConfigError, "exclude each other"),
        ((root / "none",), DataError, "there is nothing at"),
        ((root / "cameras_none",), DataError, "there is nothing at"),
        ((model,), DataError, "holds no images"),
    ):
        with pytest.raises(error, match=said):
            predict(*arguments, "--out", tmp_path / "out", "--model", model)
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(ConfigError, match="needs a display and python3-tk"):
        predict(root, "--out", tmp_path / "out", "--model", model, "--show")


def test_show_hands_every_image_to_the_window(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[bytes] = []
    widget = SimpleNamespace(
        pack=lambda: None, configure=lambda image: None, title=lambda _: None, update=lambda: None
    )
    window = SimpleNamespace(
        Tk=lambda: widget,
        Label=lambda _: widget,
        PhotoImage=lambda data: shown.append(data),
    )
    monkeypatch.setitem(sys.modules, "tkinter", window)
    root = sources.write_by_hand(tmp_path / "own")
    predict(root, "--out", tmp_path / "out", "--model", model, "--show")
    assert [data[:13] for data in shown] == [b"P6 64 48 255 "] * 3
    assert {len(data) for data in shown} == {13 + 64 * 48 * 3}
